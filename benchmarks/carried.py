"""The backbone on every frame against the backbone on keyframes only, in one run.

    python -m benchmarks.carried ../shared/data/tum/rgbd_dataset_freiburg1_rpy_first60 --out benchmarks/results/carried

Rows are sequences in every mode they have data for (or the modes after a colon: PATH:rgbd,mono). Settings take turns
round by round, so that the machine's noise hits all alike; FPS is the median over the rounds, reading included.
"backbone frames" counts the extractions from left images. Monocular steps have their length from ground truth,
a pair at a time, where there is some.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line sets it; torch reads it when it is imported

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.bench.data import SequenceWord, parse_sequence
from slamfeat.bench.provenance import header, header_line
from slamfeat.bench.vo import setups_of
from slamfeat.config import load_config
from slamfeat.data import Sequence
from slamfeat.errors import InputError
from slamfeat.eval import markdown_table
from slamfeat.files import write_text
from slamfeat.frontend import FeatureFrontend, Frontend
from slamfeat.vo import OdometryConfig
from slamfeat.vo.run import run_odometry, summary
from slamfeat.vo.setup import build_odometry, choose_mode

SETTINGS: dict[str, list[str]] = {
    "extract": [],
    "track": ["between_keyframes=track"],
    "track, keyframes after 48 px": ["between_keyframes=track", "keyframe_px=48"],
}
COLUMNS = (
    "sequence", "mode", "between_keyframes", "ate_rmse_m", "rpe_trans_m", "rpe_rot_deg", "tracked_percent", "frames",
    "keyframes", "backbone_percent", "fps", "note",
)  # fmt: skip


def measure(frontend: FeatureFrontend, sequence: Sequence, mode: str, overrides: list[str]) -> dict[str, Any]:
    """One run over a sequence."""
    view = sequence.for_mode(mode)
    config = load_config(OdometryConfig, None, overrides)
    odometry = build_odometry(frontend, view, choose_mode(mode, view), "auto", config)
    try:
        return summary(run_odometry(view, odometry), view.name, odometry, None)
    except InputError as error:
        return {"sequence": view.name, "mode": mode, "note": str(error)}


def rows_of(frontend: FeatureFrontend, word: SequenceWord, rounds: int) -> list[dict[str, Any]]:
    """A row for each mode and setting."""
    sequence, rows = word.open(), []
    for mode in dict.fromkeys(setup.mode for setup in setups_of(word, sequence)):
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in SETTINGS}
        for _ in range(rounds):
            for name, overrides in SETTINGS.items():
                runs[name].append(measure(frontend, sequence, mode, overrides))
        for name, done in runs.items():
            rates = [run["fps"] for run in done if "fps" in run]
            rows.append({**done[0], "between_keyframes": name, "fps": float(np.median(rates)) if rates else None})
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", nargs="+", metavar="PATH[:MODES]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    facts = header("python -m benchmarks.carried " + " ".join(sys.argv[1:]))
    frontend, rows = Frontend.from_pretrained(given.weights), []
    facts["engine"] = f"{frontend.engine.name} {frontend.engine.precision}"
    for word in given.sequences:
        rows += rows_of(frontend, parse_sequence(word), given.rounds)
        write_text(given.out.with_suffix(".json"), json.dumps({"header": facts, "rows": rows}, indent=1) + "\n")
        table = markdown_table(rows, columns=COLUMNS)
        write_text(given.out.with_suffix(".md"), f"{header_line(facts)}\n\n{table}")


if __name__ == "__main__":
    main()
