"""The page of a run: figures, pictures, settings and the frames that were lost, in one self-contained HTML file."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

from slamfeat.vo.report import FrameReport

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#111827;background:#fff}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p.about{color:#6b7280;margin:.2rem 0 1rem}
.tiles{display:flex;flex-wrap:wrap;gap:.8rem;margin:1rem 0}.tile{border:1px solid #e5e7eb;border-radius:.5rem;
padding:.5rem 1rem}.tile b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}.tile span{color:#6b7280}
.note{background:#fef3c7;border-radius:.5rem;padding:.5rem 1rem}img,svg{max-width:100%;height:auto}
table{border-collapse:collapse}td,th{border-bottom:1px solid #e5e7eb;padding:.2rem 1.2rem .2rem 0;text-align:left;
font-variant-numeric:tabular-nums}pre{background:#f3f4f6;border-radius:.5rem;padding:1rem;overflow-x:auto}
"""
_TILES = {
    "ate_rmse_m": "ATE [m]", "rpe_trans_m": "RPE [m]", "rpe_rot_deg": "RPE [deg]", "tracked_percent": "tracked [%]",
    "fps": "frames a second",
}  # fmt: skip
_CHART = (960, 140)


def run_report(row: dict[str, Any], reports: list[FrameReport], picture: Path, config: str = "") -> str:
    """HTML text of a run's report.

    Args:
        row: the closing table.
        reports: of all frames.
        picture: the trajectory, embedded.
        config: the settings, shown as they are.
    """
    data = base64.b64encode(picture.read_bytes()).decode()
    name = html.escape(str(row["sequence"]))
    about = html.escape(f"{row['frontend']} · {row['mode']} · scale: {row['scale']}")
    note = f"<p class=note>{html.escape(row['note'])}</p>" if row["note"] else ""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{name}</title><style>{_STYLE}</style><h1>{name}</h1><p class=about>{about}</p>"
        f"<div class=tiles>{_tiles(row)}</div>{note}"
        f"<img alt='trajectory from above and over time' src='data:image/png;base64,{data}'>"
        f"<h2>Matches that agree on the motion, frame by frame</h2>{_chart(reports)}"
        f"<h2>Lost frames</h2>{_losses(reports)}<h2>All figures</h2><table>{_table(row)}</table>"
        f"<h2>Settings</h2><details><summary>config.yaml</summary><pre>{html.escape(config)}</pre></details></html>\n"
    )


def _tiles(row: dict[str, Any]) -> str:
    known = {heading: row[key] for key, heading in _TILES.items() if row[key] is not None}
    return "".join(f"<div class=tile><b>{_text(v)}</b><span>{heading}</span></div>" for heading, v in known.items())


def _table(row: dict[str, Any]) -> str:
    return "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(_text(v))}</td></tr>" for k, v in row.items())


def _losses(reports: list[FrameReport]) -> str:
    lost = [report for report in reports if not report.tracked]
    if not lost:
        return "<p>None.</p>"
    lines = "".join(
        f"<tr><td>{r.index}</td><td>{r.timestamp:.6f}</td><td>{html.escape(r.reason)}</td></tr>" for r in lost
    )
    return f"<table><tr><th>frame</th><th>time [s]</th><th>why</th></tr>{lines}</table>"


def _chart(reports: list[FrameReport]) -> str:
    """Inliers a frame as a line, keyframes as ticks, lost frames as red bars."""
    width, height = _CHART
    most = max((report.inliers for report in reports), default=0) or 1
    step = width / max(reports[-1].index if reports else 1, 1)
    line = " ".join(f"{r.index * step:.1f},{height - 20 - (height - 30) * r.inliers / most:.1f}" for r in reports)
    ticks = "".join(f"M{r.index * step:.1f} {height - 16}v8" for r in reports if r.keyframe)
    bars = "".join(f"M{r.index * step:.1f} 0v{height - 20}" for r in reports if not r.tracked)
    return (
        f"<svg viewBox='-4 0 {width + 8} {height}' width={width} role=img aria-label='inliers a frame'>"
        f"<path d='M0 {height - 20}h{width}' stroke='#9ca3af'/><path d='{bars}' stroke='#dc2626' stroke-opacity='.5'/>"
        f"<polyline points='{line}' fill=none stroke='#2563eb' stroke-width='1.5'/>"
        f"<path d='{ticks}' stroke='#ea580c' stroke-width=2 /></svg>"
        f"<p class=about>blue: inliers, at most {most}; orange: keyframes; red: lost</p>"
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
