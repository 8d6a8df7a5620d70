"""What a curation did, on one HTML page that needs nothing else: figures, duplicates and clusters with pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.curate.listing import NameReader
from slamfeat.curate.manifest import Outcome
from slamfeat.curate.rows import Ints
from slamfeat.errors import ImageError
from slamfeat.files import write_text
from slamfeat.image import read_image

_GROUPS, _CLUSTERS, _PICTURES = 12, 12, 8
_SIDE = 112  # of a picture, in pixels
_STYLE = """
:root{color-scheme:light dark;--soft:#6b7280;--line:#9ca3af55}
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.25rem;margin:2.5rem 0 .5rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.2rem 0 .3rem;font-weight:600}.about,figcaption{color:var(--soft)}
.row{display:flex;flex-wrap:wrap;gap:.6rem}figure{margin:0;width:112px}figcaption{font-size:.75rem;overflow-wrap:anywhere}
img{border-radius:.3rem;display:block}.kept img{outline:3px solid #2563eb}
td,th{border-bottom:1px solid var(--line);padding:.2rem .8rem .2rem 0;text-align:right}
td:first-child,th:first-child{text-align:left}table{border-collapse:collapse}
"""


def write_page(path: Path, outcome: Outcome, summary: Mapping[str, Any], images: Path | None) -> None:
    """Write the page.

    Args:
        path: of the page; outcome: of all stages; summary: figures.
        images: folder of the pool's images; None for a page without pictures.

    Raises:
        OutputError: the disk is full.
    """
    album = _Album(outcome.store.names(), images)
    sections = [_figures(summary), _evenness(summary), _duplicates(outcome, album), _clusters(outcome, album)]
    write_text(
        path,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>slamfeat: curation</title><style>{_STYLE}</style>"
        f"<h1>slamfeat: curation</h1>{''.join(sections)}</html>\n",
    )


class _Album:
    """Pictures of the pool by row, with captions."""

    def __init__(self, names: NameReader, images: Path | None) -> None:
        self._names, self._images = names, images

    def figure(self, row: int, caption: str, kept: bool) -> str:
        """One picture; only its caption where it cannot be read any more."""
        name = self._names[row]
        shown = name.encode(errors="backslashreplace").decode()  # names need not be UTF-8
        text = html.escape(f"{shown}; {caption}" if caption else shown)
        return f"<figure{' class=kept' if kept else ''}>{self._picture(name)}<figcaption>{text}</figcaption></figure>"

    def _picture(self, name: str) -> str:
        import cv2

        if self._images is None:
            return ""
        try:
            image = read_image(self._images / name)
        except ImageError:
            return ""
        scale = _SIDE / max(image.shape[:2])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
        return f"<img loading=lazy alt='' src='data:image/jpeg;base64,{base64.b64encode(data).decode()}'>"


def _figures(summary: Mapping[str, Any]) -> str:
    words = {
        "images": "images listed", "unreadable": "could not be read", "dropped_by_dedup": "dropped as duplicates",
        "dropped_for_evaluation": "dropped because evaluation sets hold them",
        "dropped_by_sampling": "left out by sampling or retrieval", "retrieved": "kept for their likeness to queries",
        "kept": "kept in all",
    }  # fmt: skip
    rows = "".join(f"<tr><td>{words[key]}<td>{summary[key]}" for key in words)
    found = summary.get("neighbours_found")
    note = "" if found is None else f"<p class=about>Near neighbours that the cells found: {100 * found:.2f} %.</p>"
    return f"<table>{rows}</table>{note}"


def _evenness(summary: Mapping[str, Any]) -> str:
    if not summary["evenness"]:
        return ""
    head = "<tr><th>clusters<th>Gini before<th>Gini after<th>largest tenth holds<th>after"
    rows = "".join(
        f"<tr><td>{level['clusters']}<td>{level['gini_before']:.3f}<td>{level['gini_after']:.3f}"
        f"<td>{100 * level['largest_tenth_before']:.1f} %<td>{100 * level['largest_tenth_after']:.1f} %"
        for level in summary["evenness"]
    )
    return (
        f"<h2>Evenness</h2><table>{head}{rows}</table><p class=about>Sizes of the clusters of each level, finest first,"
        " before and after sampling. A Gini of 0 means equal sizes. Sampling goes from the top down, so that the"
        " coarsest level becomes even; finer clusters of a branch that is rich in images give fewer each.</p>"
    )


def _duplicates(outcome: Outcome, album: _Album) -> str:
    keeper, cosine = np.array(outcome.dedup.keeper), outcome.dedup.cosine
    dropped = np.flatnonzero(keeper != np.arange(len(keeper)))
    if not len(dropped):
        return "<h2>Duplicates</h2><p>None.</p>"
    leads, counts = np.unique(keeper[dropped], return_counts=True)
    groups = []
    for place in _spread_over(np.argsort(-counts, kind="stable"), _GROUPS):
        lead = int(leads[place])
        members = dropped[keeper[dropped] == lead][: _PICTURES - 1]
        figures = [album.figure(lead, "stands for the others", True)]
        figures += [album.figure(int(row), f"cosine {cosine[row]:.3f}", False) for row in members]
        groups.append(f"<h3>{counts[place] + 1} alike</h3><div class=row>{''.join(figures)}</div>")
    return f"<h2>Duplicates</h2><p class=about>{len(leads)} groups, some of them, largest first.</p>{''.join(groups)}"


def _clusters(outcome: Outcome, album: _Album) -> str:
    if outcome.hierarchy is None:
        return ""
    labels, closeness = np.array(outcome.hierarchy.labels), outcome.hierarchy.closeness
    taken = np.zeros(len(labels), bool)
    for rows in (outcome.sampled, None if outcome.hits is None else outcome.hits.rows):
        taken[np.empty(0, np.int64) if rows is None else rows] = True
    sizes = np.bincount(labels[labels >= 0])
    parts = []
    for leaf in _spread_over(np.argsort(-sizes, kind="stable"), _CLUSTERS):
        members = np.flatnonzero(labels == leaf)
        closest = members[np.argsort(-closeness[members], kind="stable")][:_PICTURES]
        figures = "".join(album.figure(int(row), "", bool(taken[row])) for row in closest)
        path = " in ".join(str(number) for number in outcome.hierarchy.path(int(leaf)))
        parts.append(
            f"<h3>cluster {path}: {len(members)} images, {int(taken[members].sum())} kept</h3>"
            f"<div class=row>{figures}</div>"
        )
    return (
        "<h2>Clusters</h2><p class=about>Some of the finest, from the largest to the smallest, with the images closest"
        f" to their centroid; outlined: kept.</p>{''.join(parts)}"
    )


def _spread_over(order: Ints | Sequence[int], count: int) -> Iterator[int]:
    """Up to `count` entries, evenly over the order, the first and the last among them."""
    places = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64))
    return (int(order[place]) for place in places)
