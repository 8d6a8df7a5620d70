"""`slamfeat train` as a user runs it, and as a power cut ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from slamfeat.frontend.heads.bundle import Heads


def command(out: Path, *words: str, recipe: str = "cpu_tiny") -> list[str]:
    return [sys.executable, "-m", "slamfeat.cli.main", "train", recipe, *words, "--out", str(out)]


def run(out: Path, *words: str, recipe: str = "cpu_tiny") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(out, *words, recipe=recipe), capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}  # bit for bit is promised for as many threads


def same(first: Heads, second: Heads) -> bool:
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def kill_once_there(place: Path, words: list[str]) -> None:
    """Run a command and kill it within half a second after a file holds something, or a folder a file.

    A file of zeros holds nothing, as that of a cache without rows.
    """
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.DEVNULL)
    while process.poll() is None and not _holds_something(place):
        time.sleep(0.01)
    time.sleep(np.random.default_rng(os.getpid()).random() * 0.5)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"it ended before it was killed at {place}"


def _holds_something(place: Path) -> bool:
    return any(place.iterdir()) if place.is_dir() else place.is_file() and any(place.read_bytes())
