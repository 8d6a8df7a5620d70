"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from slamfeat.errors import SlamfeatError


def run_and_show(run: Callable[[argparse.Namespace], None], given: argparse.Namespace) -> None:
    """Run a benchmark that writes `given.out` with the suffix .md, and print that; our errors end the program."""
    try:
        run(given)
    except SlamfeatError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(given.out.with_suffix(".md").read_text())
