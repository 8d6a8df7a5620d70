"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence

from slamfeat.errors import SlamfeatError


def run_and_show(run: Callable[[argparse.Namespace], None], given: argparse.Namespace) -> None:
    """Run a benchmark that writes `given.out` with the suffix .md, and print that; our errors end the program."""
    try:
        run(given)
    except SlamfeatError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(given.out.with_suffix(".md").read_text())


def parse_noting(parser: argparse.ArgumentParser, name: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, and as `command` what repeats it.

    Args:
        parser: of the options.
        name: of the benchmark's module.
        arguments: None: the program's.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = f"python -m benchmarks.{name} {shlex.join(words)}"
    return parser.parse_intermixed_args(words, argparse.Namespace(command=command))
