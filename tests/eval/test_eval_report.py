"""Tables."""

from __future__ import annotations

import io
import math

from eval_paths import disturbed, walk
from rich.console import Console

from slamfeat.eval import evaluate, markdown_table, metrics_table

ROWS = [
    {"sequence": "a|b", "ate_rmse_m": 0.123456, "tracked_percent": 97.5, "frames": 60, "note": ""},
    {"sequence": "c", "ate_rmse_m": math.nan, "tracked_percent": 1.0, "frames": 6, "fps": 12.34},
]


def test_markdown() -> None:
    assert markdown_table(ROWS) == (
        "| sequence | ATE [m] | tracked [%] | frames | FPS |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| a\\|b | 0.1235 | 97.50 | 60 | - |\n"
        "| c | - | 1.00 | 6 | 12.3 |\n"
    )
    assert markdown_table(ROWS, columns=["frames"]).splitlines()[2] == "| 60 |"


def test_rich_table() -> None:
    reference = walk(0)
    rows = [{"sequence": "walk", **evaluate(disturbed(reference), reference).as_dict()}]
    out = io.StringIO()
    Console(file=out, width=300).print(metrics_table(rows, title="results"))
    for text in ("results", "walk", "ATE [m]", "tracked [%]", "100.00"):
        assert text in out.getvalue()
    assert "t_rel" not in out.getvalue()  # no row has it
