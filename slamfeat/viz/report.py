"""The page of a run: table, picture and the frames that were lost, in one self-contained HTML file."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

from slamfeat.vo.odometry import FrameReport

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111827}
table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid #e5e7eb;padding:.25rem .8rem;text-align:left}
td:last-child{font-variant-numeric:tabular-nums}img{max-width:100%}
"""


def run_report(row: dict[str, Any], reports: list[FrameReport], picture: Path) -> str:
    """HTML text of a run's report; `picture` is embedded."""
    data = base64.b64encode(picture.read_bytes()).decode()
    lost = [report for report in reports if not report.tracked]
    lines = "".join(
        f"<tr><td>{r.index}</td><td>{r.timestamp:.6f}</td><td>{html.escape(r.reason)}</td></tr>" for r in lost
    )
    losses = f"<table><tr><th>frame</th><th>time [s]</th><th>why</th></tr>{lines}</table>" if lost else "<p>None.</p>"
    table = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(_text(v))}</td></tr>" for k, v in row.items())
    return (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(str(row['sequence']))}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(str(row['sequence']))}</h1><img alt='trajectory' src='data:image/png;base64,{data}'>"
        f"<h2>Result</h2><table>{table}</table><h2>Lost frames</h2>{losses}\n"
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
