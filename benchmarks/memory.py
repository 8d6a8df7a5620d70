"""Resident memory of a long odometry run: how much above Python with torch, and whether it grows.

    python -m benchmarks.memory ../shared/data/kitti/01_first51 --out benchmarks/results/memory

A KITTI sequence is driven to and fro until there are enough frames (links in a temporary folder, times 0.1 s apart),
and tracked by a process of its own, as `slamfeat run` does it, run folder and all. Its resident memory is read every
25 frames, its peak from the kernel. Loading the frontend has a peak of its own, "preparing", which is high the first
time an engine is exported and quantised; the peak is of what comes after. The slope is a straight line through the
readings from frame 200 on, when caches and allocator have filled. Only memory is measured here, and nothing is chosen
by it, so that any split will do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from slamfeat.bench.provenance import header, header_line
from slamfeat.errors import InputError
from slamfeat.eval import markdown_table
from slamfeat.files import write_text
from slamfeat.viz.figure import BLUE, saved_figure

EVERY = 25
SETTLED = 200
MOST_MB = 1000.0
"""What a run may take above Python with torch."""
MOST_SLOPE = 20.0
"""MB a thousand frames that count as flat: the allocator's noise over the run, fitted by a line."""


def to_and_fro(source: Path, target: Path, frames: int) -> None:
    """A KITTI sequence of `frames` links to the images of another: first to last, back to the first, and so on.

    Raises:
        InputError: `source` has no calib.txt, or a camera (image_0, image_1 ...) has no two images.
    """
    cameras = {folder.name: sorted(folder.glob("*.png")) for folder in sorted(source.glob("image_?"))}
    if not cameras or min(map(len, cameras.values())) < 2 or not (source / "calib.txt").is_file():
        raise InputError(f"{source}: not a KITTI sequence; give a folder with calib.txt and image_0 or image_2")
    target.mkdir(parents=True)
    shutil.copy(source / "calib.txt", target)
    for name, images in cameras.items():
        order = [*images, *images[-2:0:-1]]
        (target / name).mkdir()
        for number in range(frames):
            (target / name / f"{number:06}.png").symlink_to(order[number % len(order)].resolve())
    write_text(target / "times.txt", "".join(f"{0.1 * number:.6f}\n" for number in range(frames)))


def run(source: Path, frames: int, mode: str, settings: list[str]) -> dict[str, Any]:
    """What the worker found; see `benchmarks.memory_worker`."""
    with tempfile.TemporaryDirectory() as temporary:
        sequence, out = Path(temporary) / source.name, Path(temporary) / "run"
        to_and_fro(source, sequence, frames)
        words = [sys.executable, "-m", "benchmarks.memory_worker", sequence, mode, EVERY, out, *settings]
        environment = {"GOMP_SPINCOUNT": "10000", **os.environ}  # as the command line sets it
        done = subprocess.run(
            [str(word) for word in words], stdout=subprocess.PIPE, text=True, env=environment, check=False
        )
    if done.returncode:
        raise SystemExit(f"the run ended with exit code {done.returncode}; its message stands above")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """The row of the table; the slope is None with less than four readings after `SETTLED`."""
    late = np.array([sample for sample in found["samples"] if sample[0] >= SETTLED])
    slope = 1000 * float(np.polyfit(late[:, 0], late[:, 1], 1)[0]) if len(late) >= 4 else None
    above = found["peak_mb"] - found["baseline_mb"]
    return {
        "frontend": found["frontend"], "mode": found["mode"], "frames": found["frames"], "tracked": found["tracked"],
        "keyframes": found["keyframes"], "fps": found["fps"], "baseline_mb": found["baseline_mb"],
        "preparing_above_mb": found["preparing_mb"] - found["baseline_mb"],
        "tracking_above_mb": found["tracking_peak_mb"] - found["baseline_mb"], "peak_above_mb": above,
        "slope_mb_per_1000_frames": slope, "within_limit": above <= MOST_MB,
        "flat": None if slope is None else slope <= MOST_SLOPE,
    }  # fmt: skip


def draw(found: dict[str, Any], path: Path) -> None:
    """Resident memory above the baseline over the frames."""
    frames, resident = np.array(found["samples"]).T
    with saved_figure(path, (6, 3)) as figure:
        axes = figure.subplots()
        axes.plot(frames, resident - found["baseline_mb"], color=BLUE, lw=2)
        axes.set(xlabel="frame", ylabel="MB above Python with torch", ylim=(0, None))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a KITTI sequence")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as of slamfeat run")
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--mode", default="mono")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_intermixed_args()
    found = run(given.data, given.frames, given.mode, given.settings)
    row = figures(found)
    facts = header("python -m benchmarks.memory " + " ".join(sys.argv[1:]))
    facts["data"], facts["engine"] = f"{given.data.name} to and fro", found["engine"]
    write_text(given.out.with_suffix(".json"), json.dumps({"header": facts, "row": row, "run": found}, indent=1) + "\n")
    draw(found, given.out.with_suffix(".png"))
    shown = {key: f"{value:.1f}" if isinstance(value, float) else value for key, value in row.items()}
    table = markdown_table([{"what": key, "value": value} for key, value in shown.items()], columns=["what", "value"])
    write_text(
        given.out.with_suffix(".md"), f"{header_line(facts)}\n\n{table}\n![memory over frames]({given.out.name}.png)\n"
    )
    Console().print(table, soft_wrap=True)
    if not row["within_limit"] or row["flat"] is False:
        raise SystemExit(f"more than {MOST_MB:.0f} MB, or growing by more than {MOST_SLOPE:.0f} MB a thousand frames")


if __name__ == "__main__":
    main()
