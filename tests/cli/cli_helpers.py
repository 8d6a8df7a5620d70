"""What the tests of the command line share: a small copy of the sample, and a check of one-line errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from typer.testing import CliRunner, Result

from slamfeat.cli.main import app

SCRIPT = Path(sys.executable).with_name("slamfeat")


def cli(*arguments: object) -> Result:
    """The command line in this process, with its standard output and error apart."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def cli_json(*arguments: object) -> dict[str, Any]:
    """The one JSON object that a verb prints."""
    result = cli(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_constant=refuse_constant)  # type: ignore[no-any-return]


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def script(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The installed console script, as its own process."""
    words = [str(SCRIPT), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def assert_one_line(result: Result, *parts: str) -> None:
    """Exit code 1 and exactly one line on standard error that holds all of `parts`."""
    assert result.exit_code == 1, (result.exit_code, result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr, (part, result.stderr)


def copy_sample(sample: Path, target: Path, frames: int, depth: bool = True) -> Path:
    """The first frames of the sample as a sequence of their own; written anew where tests change it."""
    target.mkdir(parents=True)
    lists = ("rgb.txt", "depth.txt") if depth else ("rgb.txt",)
    for name in lists:
        rows = [line.split() for line in (sample / name).read_text().splitlines() if not line.startswith("#")]
        for _, file in rows[:frames]:
            (target / file).parent.mkdir(exist_ok=True)
            shutil.copy(sample / file, target / file)
        (target / name).write_text("".join(f"{time} {file}\n" for time, file in rows[:frames]))
    for name in ("groundtruth.txt", "calibration.json"):
        shutil.copy(sample / name, target / name)
    return target


def truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def write_picture(path: Path, side: int = 10, value: int | None = None) -> Path:
    """A random picture of side x side, or one of a single value."""
    shape = (side, side, 3)
    noise = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), noise if value is None else np.full(shape, value, np.uint8))
    return path
