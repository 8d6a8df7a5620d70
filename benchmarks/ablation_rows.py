"""The rows of the ablation: frontends that differ from their group's base by one thing, as words of settings.

A new row is a line in `GROUPS`: its label, and the words that make it of the group's base (none for the base itself).
Rows with equal settings, in whatever groups, are one frontend and are measured once.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pareto import nested
from slamfeat.bench.registry import build_frontend
from slamfeat.errors import SlamfeatError
from slamfeat.files import write_text
from slamfeat.vo.pipeline import load_pipeline

LEARNED = "heads=light matcher.method=attention refine.method=learned"
DETECTOR = (
    "selector.saliency=fine selector.aligned=false selector.nms_radius=2 selector.coverage=0 selector.threshold=0 "
    "selector.floor=1e-5"
)
PRESET = "matcher.method=attention refine.align=true refine.min_correlation=0.7 refine.keep=true"
TOKENS = "local=none matcher.gate=1"
HEADS_WEIGHTS = "dinov2-vits14-int8"  # whose tokens the heads learnt from
PUBLISHED = "dinov2-vits14"  # all blocks; those the package ships end with the ninth


@dataclass(frozen=True, eq=False)  # a key, as which its dict could not serve
class Group:
    """Rows that are compared with one another.

    Attributes:
        title: its heading.
        base: words of the frontend's settings that all rows share; `heads` is a name of `ablation_heads.VARIANTS`.
        rows: by label, the words in which a row differs from the base.
        weights: of the backbone.
    """

    title: str
    base: str
    rows: Mapping[str, str]
    weights: str = HEADS_WEIGHTS


@dataclass(frozen=True)
class Row:
    """One line of the table: a group's base with its changes."""

    group: Group
    label: str
    changes: str

    def settings(self, heads: Mapping[str, str]) -> dict[str, Any]:
        """What a recipe holds, with the files of heads in place of their names."""
        words = [f"frontend.{word}" for word in shlex.split(f"{self.group.base} {self.changes}")]
        made = nested([f"weights={self.group.weights}", "preset=untrained", *words])
        frontend = made.setdefault("frontend", {})
        if "heads" in frontend:
            frontend["heads"] = heads[frontend["heads"]]
        return made


LOOK_UP = {"bilinear": "", "floor (DINO-VO)": "sampling=floor"}
BLOCKS = {"6th": "", "9th": "layers=[8]", "last": "layers=[-1]", "6th and last": "layers=[5,11]"}
PRECISIONS = {"float32": "", "bfloat16": "matcher.bf16=true"}
GROUPS: tuple[Group, ...] = (
    Group("Token look-up: tokens alone", TOKENS, LOOK_UP),
    Group("Token look-up: with RootSIFT", "", LOOK_UP),
    Group("Block: tokens alone", f"{TOKENS} layers=[5]", BLOCKS, PUBLISHED),
    Group("Block: with RootSIFT", "layers=[5]", BLOCKS, PUBLISHED),
    # Lucas-Kanade in all, since the learned refiner comes with heads, whose descriptor takes the tokens' place.
    Group("What describes", "refine.method=lk", {
        "tokens, mutual": TOKENS,
        "fine, mutual": "heads=light matcher.gate=1",
        "fine gated by tokens, mutual": "heads=light",
        "fine, attention without tokens": "heads=light-without-tokens matcher.method=attention",
        "fine, attention with tokens": "heads=light matcher.method=attention",
    }),
    Group("Keypoints", LEARNED, {
        "salient, one a 7 px part of a patch": "",
        "salient, one a patch": "selector.splits=1",
        "salient, anywhere": "selector.aligned=false",
        "centres of the 7 px parts": "selector.saliency=center",
        "centres of the patches": "selector.saliency=center selector.splits=1",
        "XFeat's own detector": DETECTOR,
        "Shi-Tomasi": "selector.saliency=shi_tomasi selector.sigma=1.5",
        "no share for every region": "selector.coverage=0",
        "no suppression of neighbours": "selector.nms_radius=0",
        "whole pixels": "selector.subpixel=false",
    }),
    Group("Refinement", LEARNED, {
        "learned": "",
        "learned, unmatched keypoints left out": "refine.fill=false",
        "learned, doubted matches keep their place": "refine.keep=true",
        "learned, poses know no covariances": "refine.covariances=false",
        "Lucas-Kanade": "refine.method=lk",
        "Lucas-Kanade, lost matches keep their place": "refine.method=lk refine.keep=true",
        "Lucas-Kanade, lost matches aligned": "refine.method=lk refine.align=true",
        "Lucas-Kanade, lost matches aligned or kept": "refine.method=lk refine.align=true refine.keep=true",
        "none": "refine.method=none",
    }),
    Group("Depth of the matcher", LEARNED, {
        "all layers": "",
        "3 layers": "matcher.layers=3",
        "1 layer": "matcher.layers=1",
        "early exit": "matcher.exit=0.95",
        "pruning": "matcher.prune=0.95",
        "early exit and pruning": "matcher.exit=0.95 matcher.prune=0.95",
    }),
    Group("Precision of the matcher, as in balanced", f"heads=light matcher.layers=3 {PRESET}", PRECISIONS),
    Group("Precision of the matcher, as in accurate", f"heads=full {DETECTOR} {PRESET}", PRECISIONS),
    Group("Heads", LEARNED, {
        "light": "", "full": "heads=full", "full, ALIKED's own detector": f"heads=full {DETECTOR}",
    }),
    Group("From scratch, at CPU size", "heads=scratch matcher.method=attention refine.method=lk", {
        "joined descriptor, attention": "",
        "joined descriptor, mutual": "matcher.method=mutual matcher.gate=1",
        "learned saliency": "selector.saliency=learned",
    }),
)  # fmt: skip


def all_rows(groups: tuple[Group, ...]) -> Iterator[Row]:
    """The rows of groups, in order."""
    for group in groups:
        for label, changes in group.rows.items():
            yield Row(group, label, changes)


def write_recipe(row: Row, heads: Mapping[str, str], folder: Path) -> str:
    """The recipe of a row, named by what it holds.

    Raises:
        ConfigError: a word is not one of the frontend's settings.
    """
    content = json.dumps(row.settings(heads), sort_keys=True, indent=1) + "\n"  # JSON is YAML
    path = write_text(folder / f"{hashlib.sha256(content.encode()).hexdigest()[:10]}.yaml", content)
    load_pipeline(path)
    return str(path)


def recipes_of(
    rows: list[Row], heads: Mapping[str, str], missing: Mapping[str, str], folder: Path, num_keypoints: int
) -> tuple[dict[Row, str], dict[Row, str]]:
    """The recipe of every row whose frontend can be built, and why the others cannot.

    Args:
        rows: see `all_rows`.
        heads: files of heads by name.
        missing: why there are none by some names.
        folder: where recipes go.
        num_keypoints: slots K.

    Raises:
        ConfigError: a word is not one of the frontend's settings.
    """
    recipes, reasons = {}, {}
    problems: dict[str, str] = {}
    for row in rows:
        wanted = nested(shlex.split(f"{row.group.base} {row.changes}")).get("heads", "")
        if wanted in missing:
            reasons[row] = missing[wanted]
            continue
        recipe = write_recipe(row, heads, folder)
        if recipe not in problems:
            problems[recipe] = _problem(recipe, num_keypoints)
        if problems[recipe]:
            reasons[row] = problems[recipe]
        else:
            recipes[row] = recipe
    return recipes, reasons


def _problem(recipe: str, num_keypoints: int) -> str:
    """Why a recipe's frontend cannot be built, or ""."""
    try:
        build_frontend(recipe, num_keypoints)
    except SlamfeatError as error:
        return " ".join(str(error).split())
    return ""
