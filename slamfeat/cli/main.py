"""`slamfeat VERB`: exit 0 when done, 1 with one line for a mistake in the input, 2 for a mistake in the call, 130 when
interrupted."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from slamfeat.cli import (
    bench,
    curate,
    demo,
    distill,
    doctor,
    eval,
    export,
    extract,
    match,
    pretrain,
    run,
    train,
    weights,
)
from slamfeat.cli.common import Verb, Verbs, messages, say
from slamfeat.errors import SlamfeatError

# What the machine refuses is not a bug of ours; any other OSError is, and keeps its traceback.
_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}


class _Root(Verbs):
    """Turns the errors that users may meet into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen verb."""
        try:
            with _warnings_in_one_line():
                return super().invoke(ctx)
        except SlamfeatError as error:
            _fail(str(error))
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            _fail(f"{error.filename or 'writing'}: {error.strerror}; free space, or choose another place")
        except KeyboardInterrupt:
            messages.print("interrupted")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Root,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Features, matches and visual odometry on a frozen vision foundation model.",
    epilog="Start with: [bold]slamfeat demo[/bold]",
)
app.command("demo", cls=Verb, epilog=demo.EXAMPLES)(demo.demo_command)
app.command("run", cls=Verb, epilog=run.EXAMPLES)(run.run_command)
app.command("match", cls=Verb, epilog=match.EXAMPLES)(match.match_command)
app.command("extract", cls=Verb, epilog=extract.EXAMPLES)(extract.extract_command)
app.command("eval", cls=Verb, epilog=eval.EXAMPLES)(eval.eval_command)
app.command("train", cls=Verb, epilog=train.EXAMPLES)(train.train_command)
app.command("pretrain", cls=Verb, epilog=pretrain.EXAMPLES)(pretrain.pretrain_command)
app.command("distill", cls=Verb, epilog=distill.EXAMPLES)(distill.distill_command)
app.command("curate", cls=Verb, epilog=curate.EXAMPLES)(curate.curate_command)
app.add_typer(bench.app, name="bench", epilog=bench.EXAMPLES)
app.add_typer(export.app, name="export", epilog=export.EXAMPLES)
app.add_typer(weights.app, name="weights", epilog=weights.EXAMPLES)
app.command("doctor", cls=Verb, epilog=doctor.EXAMPLES)(doctor.doctor_command)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        from slamfeat import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the console script."""
    # torch's threads wait for their next work by turning in a loop, on cores that OpenVINO and OpenCV have work for.
    # Read when torch is imported, so it is set here and not in the package.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app()
    except BrokenPipeError:
        # `slamfeat weights list | head -1`: the reader has left, and wants no complaint about it.
        sys.stderr.close()
        sys.exit(0)


def _fail(message: str) -> None:
    # One line whatever a library put into its message: scripts and people read the last line.
    say(f"error: {' '.join(message.split())}", "red")
    raise typer.Exit(1) from None


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    handler, remarks = _OneLine(logging.WARNING), logging.getLogger("slamfeat.engines")
    logging.getLogger().addHandler(handler)
    if messages.is_terminal:  # building an engine takes a while, and a person wonders
        handler.setLevel(logging.INFO)
        remarks.setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        remarks.setLevel(logging.NOTSET)


class _OneLine(logging.Handler):
    """Warnings as one line on standard error, beside a running progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; of what is not a warning only slamfeat's own."""
        line = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING:
            say(f"{record.levelname.lower()}: {line}", "yellow")
        elif record.name.startswith("slamfeat."):
            say(line)


if __name__ == "__main__":
    main()
