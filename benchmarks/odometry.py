"""Odometry of slamfeat and of OpenCV's ORB and SIFT on the same frames, through the same code.

    python -m benchmarks.odometry ../shared/data/kitti/00_first200:mono ... --out benchmarks/results/odometry

Writes OUT.json and OUT.md. Each DATA is a path, a colon, and a mode. Done combinations are kept in OUT.json and
skipped when the command is run again at the same commit with the same settings, so an interrupted sweep goes on where
it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.peers.opencv import OpenCVFrontend
from benchmarks.provenance import header, header_line
from slamfeat.config import load_config, to_dict
from slamfeat.data import open_sequence
from slamfeat.eval import markdown_table
from slamfeat.files import write_text
from slamfeat.frontend import FeatureFrontend
from slamfeat.vo.pipeline import PipelineConfig, build_frontend
from slamfeat.vo.run import run_odometry, summary
from slamfeat.vo.setup import build_odometry, choose_mode

COLUMNS = (
    "sequence", "mode", "scale", "frontend", "tracked_percent", "align", "ate_rmse_m", "rpe_trans_m", "rpe_rot_deg",
    "kitti_trans_percent", "keyframes", "fps",
)  # fmt: skip


def build(name: str, config: PipelineConfig) -> FeatureFrontend:
    """A frontend by its name in tables."""
    if name in ("orb", "sift"):
        return OpenCVFrontend(name, config.frontend.num_keypoints)
    return build_frontend(config)


def measure(name: str, data: str, scale: str, config: PipelineConfig) -> dict[str, Any]:
    """One row: a frontend on a sequence."""
    path, _, mode = data.rpartition(":")
    sequence = open_sequence(path)
    chosen = choose_mode(mode, sequence)
    view = sequence.for_mode(chosen)
    odometry = build_odometry(build(name, config), view, chosen, scale, config.vo)
    return summary(run_odometry(view, odometry), sequence.name, odometry, None)


def _same(row: dict[str, Any] | None, facts: dict[str, Any], config: PipelineConfig) -> bool:
    """Whether a stored row was made by this commit with these settings; anything else is measured again."""
    return row is not None and row["made"]["commit"] == facts["commit"] and row["config"] == to_dict(config)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="PATH:MODE, mode one of mono, rgbd")
    parser.add_argument("--frontend", nargs="+", default=["slamfeat", "sift", "orb"])
    parser.add_argument("--scale", nargs="+", default=["groundtruth", "propagated"], help="for mono")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", nargs="*", default=[], help="settings such as frontend.num_keypoints=512")
    given = parser.parse_args()
    config = load_config(PipelineConfig, None, given.set)
    facts = header("python -m benchmarks.odometry " + " ".join(sys.argv[1:]))
    store = given.out.with_suffix(".json")
    done: dict[str, Any] = json.loads(store.read_text())["rows"] if store.exists() else {}
    for data in given.data:
        for scale in given.scale if data.endswith(":mono") else ["auto"]:
            for name in given.frontend:
                key = " ".join([data, scale, name, *given.set])
                if not _same(done.get(key), facts, config):
                    row = measure(name, data, scale, config)
                    done[key] = {**row, "config": to_dict(config), "made": facts}
                    write_text(store, json.dumps({"header": facts, "rows": done}, indent=1) + "\n")
                Console(stderr=True).print(key, done[key]["ate_rmse_m"], done[key]["tracked_percent"])
    table = markdown_table(list(done.values()), columns=COLUMNS)
    write_text(given.out.with_suffix(".md"), f"{header_line(facts)}\n\n{table}\n")


if __name__ == "__main__":
    main()
