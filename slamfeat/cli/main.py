"""`slamfeat VERB`: exit 0 when done, 1 with one line for a mistake in the input, 2 for a mistake in the call."""

from __future__ import annotations

import logging
import sys

import typer

from slamfeat.cli import demo, doctor, eval, extract, match, run, weights
from slamfeat.cli.common import messages
from slamfeat.errors import SlamfeatError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Features, matches and visual odometry on a frozen vision foundation model.",
    epilog="Start with: slamfeat demo",
)
app.command("demo", epilog=demo.EXAMPLES)(demo.demo_command)
app.command("run", epilog=run.EXAMPLES)(run.run_command)
app.command("match", epilog=match.EXAMPLES)(match.match_command)
app.command("extract", epilog=extract.EXAMPLES)(extract.extract_command)
app.command("eval", epilog=eval.EXAMPLES)(eval.eval_command)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor_command)
app.add_typer(weights.app, name="weights")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        from slamfeat import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the console script."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", handlers=[_OneLine()])
    try:
        app()
    except SlamfeatError as error:
        messages.print(f"error: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        messages.print("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


class _OneLine(logging.Handler):
    """Warnings as one line on standard error, beside a running progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        line = f"{record.levelname.lower()}: {record.getMessage()}"
        messages.print(line, style="yellow", highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
