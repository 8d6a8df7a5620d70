"""A benchmark's results on one HTML page that needs nothing else: tables, charts, trajectories, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slamfeat.bench.markup import SCRIPT, STYLE, details, escape, image, table_html
from slamfeat.bench.reading import TASKS, TITLES, Result, distinct, rows_of
from slamfeat.bench.reading_help import HOW_TO_READ
from slamfeat.bench.standing import ahead, behind, tracked_rule
from slamfeat.bench.summaries import summary
from slamfeat.bench.tables import full_tables

_CHART_TITLES = {
    "overview": "Accuracy for time", "matching_pose": "AUC@5° against the gap between the images",
    "matching_homography": "Mean matching accuracy against the threshold", "vo_ate": "Absolute trajectory error",
    "robustness_area": "Area under the scores",
}  # fmt: skip


def page(results: Mapping[str, Result], charts: Mapping[str, Path], folder: Path) -> str:
    """HTML text of the page.

    Args:
        results: by task; any may be missing.
        charts: what `write_charts` returned.
        folder: that the results' pictures are relative to.
    """
    tasks = [task for task in TASKS if results.get(task)]
    links = "".join(f"<li><a href='#{task}'>{TITLES[task]}</a></li>" for task in tasks)
    sections = "".join(_section(task, results[task], charts, folder) for task in tasks)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>slamfeat: benchmark</title><style>{STYLE}</style><h1>slamfeat: benchmark</h1>"
        f"<nav aria-label=contents><ul><li><a href='#standing'>Where slamfeat stands</a></li>{links}</ul></nav>"
        f"<h2 id=standing>Where slamfeat stands</h2>{_standing(results, charts)}{sections}"
        f"<script>{SCRIPT}</script></html>\n"
    )


def _standing(results: Mapping[str, Result], charts: Mapping[str, Path]) -> str:
    worse, better = behind(results), ahead(results)
    overview = _figure("overview", charts["overview"]) if "overview" in charts else ""
    return (
        f"{overview}<p class=about>Each headline figure against the best peer; what prints the same is in neither list."
        f" {tracked_rule()}</p>{_sentences('Behind a peer', worse)}{_sentences('Ahead of every peer', better)}"
    )


def _sentences(title: str, sentences: Sequence[str]) -> str:
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<details open><summary>{title}: {len(sentences)}</summary><ul>{lines}</ul></details>"


def _section(task: str, result: Result, charts: Mapping[str, Path], folder: Path) -> str:
    compact, tables = summary(result), full_tables(result)
    # Speed's compact table has all rows already.
    rest = tables[1:] if task == "speed" else tables
    drawn = "".join(_figure(key, path) for key, path in charts.items() if key.startswith(f"{task}_"))
    return (
        f"<section><h2 id={task}>{TITLES[task]}</h2>{_facts(result)}<p>{escape(HOW_TO_READ[task])}</p>"
        f"{table_html(compact)}{drawn}{_pictures(result, folder)}"
        f"{''.join(details(table.title, table_html(table)) for table in rest)}"
        f"{_settings(result)}{_problems(result)}</section>"
    )


def _facts(result: Result) -> str:
    """Where and when, with which command, on which data."""
    header = dict(result.get("header") or {})
    command = str(header.pop("command", "") or "")
    where = ", ".join(f"{key} {value}" for key, value in header.items())
    data = [str(name) for (name,) in distinct(rows_of(result), "data") if name not in (None, "all")]
    data += [str(name) for (name,) in distinct(rows_of(result), "sequence") if name not in (None, "all")]
    data += [str(name) for (name,) in distinct(rows_of(result), "size") if name is not None]
    lines = {
        "": where,
        "data": ", ".join(data),
        "estimator": result.get("estimator"),
        "keypoints": result.get("num_keypoints"),
    }
    text = "<br>".join(escape(f"{key}: {value}" if key else str(value)) for key, value in lines.items() if value)
    return f"<p class=about>{text}" + (f"<br><code>{escape(command)}</code></p>" if command else "</p>")


def _figure(key: str, path: Path) -> str:
    title = _CHART_TITLES.get(key, key.replace("_", " "))
    return f"<figure>{image(path, title)}</figure>"


def _pictures(result: Result, folder: Path) -> str:
    pictures = dict(result.get("pictures") or {})
    shown = [
        f"<figure>{image(folder / name, f'trajectories, {title}')}<figcaption>{escape(title)}</figcaption></figure>"
        for title, name in pictures.items()
    ]
    return f"<h3>Trajectories</h3><div class=pictures>{''.join(shown)}</div>" if shown else ""


def _settings(result: Result) -> str:
    frontends: dict[str, Any] = result.get("frontends") or {}
    blocks = []
    for name, about in frontends.items():
        settings = (about or {}).get("settings") or {}
        lines = "\n".join(f"{key}: {value}" for key, value in settings.items()) or "none"
        blocks.append(details(f"settings of {name}", f"<pre>{escape(lines)}</pre>"))
    return f"<h3>Settings</h3>{''.join(blocks)}" if blocks else ""


def _problems(result: Result) -> str:
    problems = dict(result.get("problems") or {})
    lines = "".join(f"<li>{escape(f'{label}: {text}')}</li>" for label, text in problems.items())
    return f"<h3>What went wrong</h3><ul class=note>{lines}</ul>" if lines else ""
