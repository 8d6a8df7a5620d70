"""Where and when numbers were made: the header of every result."""

from __future__ import annotations

import datetime
import os
import subprocess
from pathlib import Path

import cv2
import torch

from slamfeat.cli.doctor import cpu_model

REPO = Path(__file__).parent.parent


def header(command: str) -> dict[str, str | int]:
    """Date, CPU, threads, torch build, commit (with + when the tree differs from it) and the command."""
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    changed = "+" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "cpu": cpu_model(),
        "threads": f"{torch.get_num_threads()} (torch) {cv2.getNumThreads()} (OpenCV) of {os.cpu_count()} cores",
        "torch": torch.__version__,
        "commit": commit + changed,
        "command": command,
    }


def header_line(facts: dict[str, str | int]) -> str:
    """The same as a line of markdown."""
    return ", ".join(f"{key} {value}" for key, value in facts.items() if key != "command") + f"; `{facts['command']}`"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=REPO, capture_output=True, text=True, check=False)
    return done.stdout.strip()
