"""What a long command says while it runs: its log in a file, and times as people write them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slamfeat.errors import OutputError


@contextmanager
def logging_to(path: Path, *, append: bool = False) -> Iterator[None]:
    """Write what slamfeat logs to `path` as well, while the block runs.

    Args:
        path: the log.
        append: go on behind what is there, as a run that resumes does.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        handler = _Log(path, mode="a" if append else "w", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another --out") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("slamfeat")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


class _Log(logging.FileHandler):
    """A full disk shows when the results are written; the log need not print a traceback for every line before."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Lose the line."""

    def close(self) -> None:
        """Close, whether or not the last lines could be written."""
        try:
            super().close()
        except OSError:
            self.stream = None


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
