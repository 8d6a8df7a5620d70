"""What the runs of `slamfeat train` said of held-out pairs, as tables to commit beside the weights.

    python -m benchmarks.training_curves runs/train/cpu_full --name heads-light --commit fb4da9a

Writes OUT/NAME.json and OUT/NAME.md from the run's own logs; nothing is computed anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slamfeat.errors import InputError
from slamfeat.eval.report import markdown_grid
from slamfeat.files import write_text

OUT = Path(__file__).parent / "results" / "training"
_STAGES = ("joint", "matcher", "refiner")


def stage_curve(folder: Path) -> dict[str, Any]:
    """Held-out figures by step, and the hours that the steps took, of one stage's folder.

    Raises:
        InputError: no log of a training.
    """
    log = folder / "log.jsonl"
    if not log.is_file():
        raise InputError(f"{log}: no such file; give a folder of slamfeat train, with stages that were trained")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    evaluated = [{"step": row["step"], **row["evaluation"]} for row in rows if "evaluation" in row]
    seconds = max((row["elapsed_s"] for row in rows if "elapsed_s" in row), default=0.0)
    return {"hours": seconds / 3600, "steps": evaluated}


def run_curves(run: Path) -> dict[str, dict[str, Any]]:
    """`stage_curve` of every stage that a run has.

    Raises:
        InputError: it has none.
    """
    stages = {stage: stage_curve(run / stage) for stage in _STAGES if (run / stage).is_dir()}
    if not stages:
        raise InputError(f"{run}: none of {', '.join(_STAGES)} in it; give a folder of slamfeat train")
    return stages


def as_markdown(title: str, facts: dict[str, str], stages: dict[str, dict[str, Any]]) -> str:
    """A table a stage."""
    lines = [f"# {title}", "", ", ".join(f"{key} {value}" for key, value in facts.items())]
    for stage, curve in stages.items():
        keys = list(curve["steps"][0]) if curve["steps"] else ["step"]
        cells = [[_cell(row[key]) for key in keys] for row in curve["steps"]]
        lines += ["", f"## {stage}: {curve['hours']:.2f} hours of steps", ""]
        lines += [markdown_grid(keys, cells, right=[True] * len(keys)).rstrip()]
    return "\n".join(lines) + "\n"


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def main(words: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--commit", required=True, help="of the code that trained")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args(words)
    command = (given.run / "recipe.yaml").read_text().splitlines()[0].removeprefix("# ")
    facts, stages = {"commit": given.commit, "command": f"`{command}`"}, run_curves(given.run)
    write_text(given.out / f"{given.name}.json", json.dumps({**facts, "stages": stages}, indent=1) + "\n")
    write_text(given.out / f"{given.name}.md", as_markdown(given.name, facts, stages))


if __name__ == "__main__":
    main()
