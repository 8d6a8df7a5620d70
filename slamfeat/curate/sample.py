"""The stage that keeps as many images as asked for, evenly over the clusters.

FOLDER/
  rows.npy      rows sampled, rising
  figures.json  number asked for, and how even clusters are before and after; written last
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.curate.balance import gini, pick, sample_tree
from slamfeat.curate.config import SampleConfig
from slamfeat.curate.hierarchy import Hierarchy
from slamfeat.curate.rows import Ints, load_array, save_array
from slamfeat.files import write_text


@dataclass(frozen=True)
class Sampled:
    """What the stage left.

    Attributes:
        rows: sampled, rising.
        figures: see the module.
    """

    rows: Ints
    figures: dict[str, Any]


def sample(hierarchy: Hierarchy, config: SampleConfig, seed: int, folder: Path) -> Sampled:
    """Sample the clustered rows from the top of the hierarchy down; what is there is taken up.

    Raises:
        OutputError: the disk is full.
    """
    path = folder / "figures.json"
    if not path.is_file():
        labels = np.asarray(hierarchy.labels, np.int64)
        sizes = np.bincount(labels[labels >= 0], minlength=hierarchy.levels[0])
        target = wanted(int(sizes.sum()), config)
        quotas = sample_tree(sizes, hierarchy.parents, target)
        if config.pick == "closest":
            ranks = -np.asarray(hierarchy.closeness)
        else:
            ranks = np.random.default_rng(seed).random(len(labels), np.float32)
        save_array(folder / "rows.npy", pick(labels, quotas, ranks))
        figures = {"target": target, "levels": _evenness(hierarchy, sizes, quotas)}
        write_text(path, json.dumps(figures, indent=1) + "\n")
    rows = np.array(load_array(folder / "rows.npy"))
    return Sampled(rows, json.loads(path.read_text(encoding="utf-8")))


def wanted(rows: int, config: SampleConfig) -> int:
    """Images to sample of so many; at least one, where any are to be sampled."""
    return min(rows, config.target or max(1, round(rows * config.share)))


def _evenness(hierarchy: Hierarchy, before: Ints, after: Ints) -> list[dict[str, Any]]:
    """For every level, finest first: number of clusters, and Gini of their sizes and the share of the largest tenth."""
    found = []
    for level, clusters in enumerate(hierarchy.levels):
        if level:
            before, after = (np.bincount(hierarchy.parents[level - 1], one, clusters) for one in (before, after))
        found.append({
            "clusters": clusters, "gini_before": gini(before), "gini_after": gini(after),
            "largest_tenth_before": _largest_tenth(before), "largest_tenth_after": _largest_tenth(after),
        })  # fmt: skip
    return found


def _largest_tenth(sizes: Ints) -> float:
    """Share of the rows that the largest tenth of the clusters holds."""
    falling = np.sort(np.asarray(sizes, np.float64))[::-1]
    return float(falling[: max(1, len(falling) // 10)].sum() / max(1.0, falling.sum()))
