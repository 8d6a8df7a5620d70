"""The table of backbones, by the figures that they have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slamfeat.bench.provenance import header_line
from slamfeat.eval.report import markdown_grid
from slamfeat.files import write_text

COLUMNS = {
    "backbone": "backbone", "images_per_s": "images/s", "parameters_m": "parameters [M]", "ms": "ms",
    "correspondence": "same place [%]", "knn": "k-NN [%]", "knn_all": "k-NN among all [%]", "linear": "linear [%]",
    "rank": "rank", "cosine": "cosine", "entropy": "entropy", "auc_5": "AUC@5", "auc_20": "AUC@20",
}  # fmt: skip
NOTES = (
    "Same place: patches found again in a warped and relit image to within a cell. k-NN, linear: held-out images whose "
    "class their 20 nearest neighbours among the others say, and a linear layer that learnt on the others. k-NN among "
    "all: every image with a class, asked of all others, whether or not a backbone learnt from it (no class was told). "
    "Rank: directions that class tokens use; cosine: mean between different images; entropy: of class tokens, by the "
    "distances of nearest ones, up to a constant."
)
NOTES_ON_POSES = (
    " AUC: of relative poses, by tokens alone, of the block that frontends look at: half-way, or the last one of a "
    "backbone that imitates another."
)


def write_table(out: Path, facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """OUT.json and OUT.md."""
    write_text(out.with_suffix(".json"), json.dumps({"header": facts, "rows": rows}, indent=1) + "\n")
    write_text(out.with_suffix(".md"), markdown(facts, rows, title))


def markdown(facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """The table."""
    used = [key for key in COLUMNS if any(row.get(key) is not None for row in rows)]
    cells = [[_cell(key, row.get(key)) for key in used] for row in rows]
    right = [key != "backbone" for key in used]
    table = markdown_grid([COLUMNS[key] for key in used], cells, right=right)
    notes = NOTES + (NOTES_ON_POSES if "auc_20" in used else "")
    return f"# {title}\n\n{header_line(dict(facts))}\n\n{table}\n{notes}{uncertainty(rows)}\n"


def uncertainty(rows: Sequence[Mapping[str, Any]]) -> str:
    """How far chance moves a share of the images that are asked for their class."""
    asked, among_all = (max((row.get(key, 0) for row in rows), default=0) for key in ("asked", "asked_all"))
    if not asked:
        return ""
    error, other = (100 * (0.16 / max(count, 1)) ** 0.5 for count in (asked, among_all))
    besides = f" (among all: {among_all}, {other:.1f})" if among_all else ""
    return f" {asked} images are asked for their class: of 20 % one standard error is {error:.1f}{besides}."


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.3f}" if key in ("cosine", "entropy") else f"{value:.1f}"
