"""Frames a second of the odometry, one stage after the other and with reading, extraction and estimation overlapping.

    python -m benchmarks.pipelined ../shared/data/kitti/01_first51 --out benchmarks/results/pipelined

Both ways in turn in one process on the same frames, in alternating order, after one run that is not counted; the
medians over the rounds, and the median of the rounds' ratios. The poses of all runs must be equal, bit by bit. Whole
frames: reading included. Only speed is measured here, and nothing is chosen by it, so that any split will do.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line sets it; torch reads it when it is imported

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from slamfeat.bench.provenance import header, header_line
from slamfeat.data import Sequence, open_sequence
from slamfeat.eval import markdown_table
from slamfeat.files import write_text
from slamfeat.frontend import Frontend
from slamfeat.vo.config import OdometryConfig
from slamfeat.vo.pipeline import build_frontend, load_pipeline
from slamfeat.vo.run import RunResult, run_odometry
from slamfeat.vo.setup import build_odometry, choose_mode

WAYS = {"serial": False, "pipelined": True}


def run_once(frontend: Frontend, config: OdometryConfig, sequence: Sequence, mode: str, pipelined: bool) -> RunResult:
    """One run over all frames with a fresh odometry."""
    chosen = choose_mode(mode, sequence)
    view = sequence.for_mode(chosen)
    odometry = build_odometry(frontend, view, chosen, "auto", replace(config, pipelined=pipelined))
    return run_odometry(view, odometry, "none")


def measure(
    frontend: Frontend, config: OdometryConfig, sequence: Sequence, mode: str, rounds: int
) -> list[dict[str, Any]]:
    """A row a way: FPS, milliseconds a frame and a stage, speed against serial."""
    console = Console(stderr=True)
    run_once(frontend, config, sequence[:10], mode, pipelined=False)
    poses: list[NDArray[np.float64]] = []
    fps: dict[str, list[float]] = {way: [] for way in WAYS}
    stages: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in list(WAYS) if number % 2 == 0 else list(WAYS)[::-1]:
            result = run_once(frontend, config, sequence, mode, WAYS[way])
            fps[way].append(result.fps)
            stages[way].append(result.ms)
            poses.append(result.trajectory.poses)
            console.print(f"round {number + 1} of {rounds}, {way}: {result.fps:.2f} FPS")
        if not all(np.array_equal(found, poses[0]) for found in poses):
            raise SystemExit("two runs gave different poses: this is a bug, where the ways differ in vo/pipelined.py")
    ratios = np.array(fps["pipelined"]) / np.array(fps["serial"])
    return [
        {
            "way": way, "fps": float(np.median(fps[way])), "fps_low": min(fps[way]), "fps_high": max(fps[way]),
            "ms": 1e3 / float(np.median(fps[way])),
            **{f"ms_{name}": float(np.median([row[name] for row in stages[way]])) for name in stages[way][0]},
            "ratio": float(np.median(ratios)) if WAYS[way] else 1.0,
        }
        for way in WAYS
    ]  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a sequence")
    parser.add_argument("--mode", default="mono", help="mono, rgbd or stereo")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as of slamfeat run")
    parser.add_argument("--stop", type=int, help="frames to use")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of torch; left out, torch's own choice")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_intermixed_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    sequence = open_sequence(given.data)[: given.stop]
    config = load_pipeline(None, given.settings)
    frontend = build_frontend(config)
    rows = measure(frontend, config.vo, sequence, given.mode, given.rounds)
    facts = header("python -m benchmarks.pipelined " + " ".join(sys.argv[1:]))
    facts["data"] = f"{sequence.name}, {len(sequence)} frames, {given.mode}, {given.rounds} rounds"
    facts["engine"] = f"{frontend.engine.name} {frontend.engine.precision}"
    shown = [{key: f"{value:.2f}" if isinstance(value, float) else value for key, value in row.items()} for row in rows]
    write_text(given.out.with_suffix(".json"), json.dumps({"header": facts, "rows": rows}, indent=1) + "\n")
    table = markdown_table(shown, columns=list(shown[0]))
    write_text(given.out.with_suffix(".md"), f"{header_line(facts)}\n\n{table}")
    Console().print(table, soft_wrap=True)


if __name__ == "__main__":
    main()
