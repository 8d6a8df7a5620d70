"""What the runs of `slamfeat train`, `pretrain` and `distill` said of held-out data, to commit beside the weights.

    python -m benchmarks.training_curves runs/train/cpu_full --name heads-light --commit fb4da9a

Writes OUT/NAME.json, OUT/NAME.md and OUT/NAME.png from the run's own logs; nothing is computed anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from slamfeat.errors import InputError, SlamfeatError
from slamfeat.eval.report import markdown_grid
from slamfeat.files import write_text
from slamfeat.viz.figure import BLUE, saved_figure

OUT = Path(__file__).parent / "results" / "training"
_STAGES = ("joint", "matcher", "refiner", "run")
"""Folders of a run's stages; backbones have one, "run"."""
_PANELS = 5  # side by side
_WIDEST = 20
"""Figures that a table has side by side; more are one below the other."""
_LEAST = 3
"""Points that make a curve."""


def stage_curve(folder: Path) -> dict[str, Any]:
    """Held-out figures by step, and the hours that the steps and checkpoints took, of one stage's folder.

    These hours have in them whatever else the machine did meanwhile; `hours_by_median`, all steps by a step's median,
    do not.

    Raises:
        InputError: no log of a training.
    """
    log = folder / "log.jsonl"
    if not log.is_file():
        raise InputError(f"{log}: no such file; give the --out of slamfeat train, pretrain or distill")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    evaluated = [{"step": row["step"], **row["evaluation"]} for row in rows if "evaluation" in row]
    last = max((row["step"] for row in rows if "elapsed_s" in row), default=0)
    return {
        "hours": step_seconds(rows) / 3600, "hours_by_median": last * seconds_a_step(rows) / 3600, "steps": evaluated
    }  # fmt: skip


def step_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """How long the steps in a log.jsonl took, and their checkpoints; without the evaluations."""
    last = max((row for row in rows if "elapsed_s" in row), key=lambda row: row["elapsed_s"], default=None)
    if last is None:
        return 0.0
    # The last step is logged before it is judged.
    judged = (row["seconds"] for row in rows if "evaluation" in row and row["step"] < last["step"])
    return float(last["elapsed_s"] - sum(judged))


def seconds_a_step(rows: Sequence[Mapping[str, Any]], after: int = 0) -> float:
    """The median of a log.jsonl's lines, so that what else the machine did for a while does not count; 0 without any.

    Args:
        rows: the log's.
        after: lines up to this step do not count.
    """
    timed = [row for row in rows if "elapsed_s" in row]
    took = []
    for before, line in pairwise([{"step": 0, "elapsed_s": 0.0}, *timed]):
        if before["step"] >= after and line["step"] > before["step"]:
            between = [row for row in rows if "evaluation" in row and before["step"] <= row["step"] < line["step"]]
            spent = line["elapsed_s"] - before["elapsed_s"] - sum(row["seconds"] for row in between)
            took.append(spent / (line["step"] - before["step"]))
    return median(took) if took else 0.0


def run_curves(run: Path) -> dict[str, dict[str, Any]]:
    """`stage_curve` of every stage that a run has.

    Raises:
        InputError: it has none.
    """
    stages = {stage: stage_curve(run / stage) for stage in _STAGES if (run / stage).is_dir()}
    if not stages:
        raise InputError(
            f"{run}: none of {', '.join(_STAGES)} in it; give the --out of slamfeat train, pretrain or distill"
        )
    return stages


def as_markdown(title: str, facts: dict[str, str], stages: dict[str, dict[str, Any]]) -> str:
    """A table a stage."""
    lines = [f"# {title}", "", ", ".join(f"{key} {value}" for key, value in facts.items())]
    for stage, curve in stages.items():
        keys = list(curve["steps"][0]) if curve["steps"] else ["step"]
        cells = [[_cell(row[key]) for key in keys] for row in curve["steps"]]
        hours, by_median = curve["hours"], curve["hours_by_median"]
        lines += ["", f"## {stage}: {hours:.2f} hours without evaluations, {by_median:.2f} by the median step", ""]
        turned = len(keys) > _WIDEST  # of several students
        if turned:
            keys, *cells = ([key, *values] for key, *values in zip(keys, *cells, strict=True))
        lines += [markdown_grid(keys, cells, right=[not turned] + [True] * (len(keys) - 1)).rstrip()]
    return "\n".join(lines) + "\n"


def draw(stages: dict[str, dict[str, Any]], path: Path) -> None:
    """A panel a figure of every stage, over the steps; nothing of stages that were judged less than `_LEAST` times."""
    lines = [
        (f"{stage}: {key}", [(row["step"], float("nan") if row[key] is None else row[key]) for row in curve["steps"]])
        for stage, curve in stages.items()
        for key in (curve["steps"][0] if len(curve["steps"]) >= _LEAST else {})
        if key != "step"
    ]
    if not lines:
        path.unlink(missing_ok=True)  # an earlier picture, that the figures beside it no longer are of
        return
    columns = min(len(lines), _PANELS)
    rows = -(-len(lines) // columns)
    with saved_figure(path, (2.6 * columns, 2.3 * rows)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (title, points) in zip(panels[: len(lines)], lines, strict=True):
            axes.plot(*zip(*points, strict=True), color=BLUE)
            axes.set_title(title, fontsize=9)
            axes.tick_params(labelsize=8)
            axes.grid(alpha=0.3)
        for axes in panels[len(lines) :]:
            axes.set_visible(False)


def _cell(value: float | None) -> str:
    if value is None:  # not a number, in the log
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def run(given: argparse.Namespace) -> None:
    """Read and write.

    Raises:
        InputError: no run of ours.
    """
    stages = run_curves(given.run)
    command = (given.run / "recipe.yaml").read_text().splitlines()[0].removeprefix("# ")
    facts = {"commit": given.commit, "command": f"`{command}`"}
    out = given.out / given.name
    write_text(out.with_suffix(".json"), json.dumps({**facts, "stages": stages}, indent=1) + "\n")
    write_text(out.with_suffix(".md"), as_markdown(given.name, facts, stages))
    draw(stages, out.with_suffix(".png"))


def main(words: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--commit", required=True, help="of the code that trained")
    parser.add_argument("--out", type=Path, default=OUT)
    try:
        run(parser.parse_args(words))
    except SlamfeatError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
