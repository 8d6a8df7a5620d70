"""Matplotlib figures without a screen, saved atomically."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slamfeat.errors import OutputError
from slamfeat.files import atomic_path

BLUE, ORANGE, GREEN, GREY = "#2563eb", "#ea580c", "#16a34a", "#6b7280"
_MOST_INCHES = (13.0, 9.0)


def fit_inches(width: float, height: float) -> tuple[float, float]:
    """Size in inches for pictures of `width` x `height` pixels in all: as large as a screen shows whole."""
    scale = min(_MOST_INCHES[0] / width, _MOST_INCHES[1] / height)
    return scale * width, scale * height + 0.6


@contextmanager
def saved_figure(path: str | Path, size: tuple[float, float], dpi: int = 120) -> Iterator[Any]:
    """A matplotlib Figure of `size` inches that is written to `path` when the block ends without an error.

    Empty margins are cut off, and titles never are.

    Raises:
        OutputError: the picture cannot be written, or its format is unknown.
    """
    from matplotlib.figure import Figure

    check_picture(path)
    figure = Figure(figsize=size, layout="constrained")
    yield figure
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, bbox_inches="tight", pad_inches=0.1)


def check_picture(path: str | Path) -> None:
    """Raise OutputError when the name of a picture does not end in a format that can be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    suffix = Path(path).suffix.lstrip(".").lower()
    if suffix not in FigureCanvasAgg.get_supported_filetypes():
        raise OutputError(f"cannot write {path}: a picture's name must end in .png, .jpg, .pdf or .svg")
