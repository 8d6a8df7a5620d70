"""Where and when numbers were made: the header of every result."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

from slamfeat.commit import commit


def header(command: str, threads: str | None = None) -> dict[str, Any]:
    """Date, CPU, threads, torch build, commit (with + when the tree differs from it) and the command.

    Args:
        command: what repeats the result.
        threads: how many were used, in words; None: what torch and OpenCV have in this process.
    """
    import torch

    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "cpu": cpu_model(),
        "threads": threads or _threads_here(),
        "torch": torch.__version__,
        "commit": commit(),
        "command": command,
    }


def header_line(facts: dict[str, Any]) -> str:
    """The same as a line of markdown."""
    return ", ".join(f"{key} {value}" for key, value in facts.items() if key != "command") + f"; `{facts['command']}`"


def cpu_model() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _threads_here() -> str:
    import cv2
    import torch

    return f"{torch.get_num_threads()} (torch) {cv2.getNumThreads()} (OpenCV) of {os.cpu_count()} cores"
