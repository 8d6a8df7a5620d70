"""The second pass of the matching task: from kept matches to errors a pair, and from those to rows of the table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.bench.config import BenchConfig
from slamfeat.bench.data import reduced_size
from slamfeat.bench.guard import describe_failures
from slamfeat.bench.jobs import Job
from slamfeat.bench.matching import item_name, made_by
from slamfeat.bench.store import Predictions, load_npz, save_npz
from slamfeat.data.open_pairs import PairGroup
from slamfeat.data.pairs import PosedPair
from slamfeat.eval.matching import (
    area_under_recall,
    corner_error_px,
    epipolar_precision,
    matching_accuracy,
    pose_errors_deg,
)
from slamfeat.geometry.robust import estimate_homography, estimate_relative_pose
from slamfeat.geometry.se3 import Array
from slamfeat.types import Camera, PixelMap

POSE_DEG = (1.0, 2.0, 5.0, 10.0, 20.0)
HOMOGRAPHY_PX = (1.0, 3.0, 5.0, 10.0)
Item = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """One group of pairs of one frontend, evaluated with one estimator."""

    out: Path
    frontend: str
    config: BenchConfig
    group: PairGroup

    @property
    def source(self) -> Path:
        """The predictions."""
        kept = Predictions(self.out, "matching", self.frontend, made_by(self.frontend, self.config))
        return kept.path(item_name(self.group))

    @property
    def target(self) -> Path:
        """Where the errors go; other predictions or another estimator are another file."""
        settings = (self.config.estimator, self.config.threshold_px, self.config.homography_threshold_px)
        words = json.dumps([*settings, self.config.seed, hashlib.sha256(self.source.read_bytes()).hexdigest()])
        digest = hashlib.sha256(words.encode()).hexdigest()[:12]
        return self.out / "evaluations" / "matching" / f"{self.source.parent.name}-{self.source.stem}-{digest}.npz"


def evaluation_jobs(config: BenchConfig, out: Path, groups: Iterable[PairGroup]) -> list[Job]:
    """Jobs for predictions that are there and not evaluated yet."""
    jobs = []
    for frontend in config.frontends:
        for group in groups:
            work = Evaluation(out, frontend, config, group)
            if work.source.exists() and not work.target.exists():
                label = f"evaluating {frontend} {group.data} {group.name}"
                jobs.append(Job(label, evaluate_group, (work,), 0.05 * len(group.pairs)))
    return jobs


def evaluate_group(work: Evaluation) -> None:
    """Errors of every pair, written to the evaluation's file."""
    arrays, facts = load_npz(work.source)
    ends = np.cumsum(arrays["counts"])
    items: list[Item] = []
    pairs: tuple[Any, ...] = work.group.pairs
    for pair, count, end in zip(pairs, arrays["counts"], ends, strict=True):
        part = slice(int(end - count), int(end))
        points = arrays["points0"][part].astype(np.float64), arrays["points1"][part].astype(np.float64)
        measure = _pose_item if isinstance(pair, PosedPair) else _homography_item
        items.append({"pair": f"{pair.image0.name} {pair.image1.name}", **measure(pair, *points, work.config)})
    times = {key: float(np.median(arrays[key])) if arrays[key].size else None for key in ("extract_ms", "match_ms")}
    save_npz(work.target, {}, {"items": items, "failures": facts["failures"], **times})


def _pose_item(pair: Any, points0: Array, points1: Array, config: BenchConfig) -> Item:
    camera0, camera1 = (_reduced(camera, config) for camera in (pair.camera0, pair.camera1))
    item: Item = {"matches": len(points0), "inliers": 0, "rotation_deg": None, "translation_deg": None, "error": None}
    if not len(points0):
        return item
    item["precision"] = epipolar_precision(points0, points1, camera0, camera1, pair.T_1_0)
    found = estimate_relative_pose(
        points0, points1, camera0, camera1, threshold_px=config.threshold_px, seed=config.seed,
        estimator=config.estimator,
    )  # fmt: skip
    if found is None:
        return item
    rotation, translation = pose_errors_deg(found.T_1_0, pair.T_1_0)
    known = np.isfinite(translation)
    return item | {
        "inliers": found.num_inliers, "rotation_deg": rotation, "translation_deg": translation if known else None,
        "error": max(rotation, translation) if known else rotation,
    }  # fmt: skip


def _homography_item(pair: Any, points0: Array, points1: Array, config: BenchConfig) -> Item:
    from slamfeat.image import image_size

    sizes = [image_size(path) for path in (pair.image0, pair.image1)]
    small = [reduced_size(size, config.matching.longest_side) for size in sizes]
    maps = [_scaling(size, less) for size, less in zip(sizes, small, strict=True)]
    truth = maps[1] @ pair.H @ np.linalg.inv(maps[0])
    accuracy = matching_accuracy(points0, points1, truth, HOMOGRAPHY_PX)
    found = estimate_homography(
        points0, points1, threshold_px=config.homography_threshold_px, seed=config.seed, estimator=config.estimator
    )  # fmt: skip
    error = None if found is None else corner_error_px(found.H_1_0, truth, small[0])
    inliers = 0 if found is None else found.num_inliers
    return {"matches": len(points0), "inliers": inliers, "accuracy": accuracy, "error": error}


def rows_of(config: BenchConfig, out: Path, groups: list[PairGroup]) -> Iterator[dict[str, Any]]:
    """Rows of the table: each group, then everything with poses together, frontend by frontend."""
    every: dict[str, list[Item]] = {frontend: [] for frontend in config.frontends}
    for group in groups:
        for frontend in config.frontends:
            work = Evaluation(out, frontend, config, group)
            if not work.source.exists() or not work.target.exists():
                continue
            facts = load_npz(work.target)[1]
            row = pose_row(facts["items"]) if group.kind == "pose" else homography_row(facts["items"])
            if group.kind == "pose":
                every[frontend] += facts["items"]
            yield {
                "data": group.data, "group": group.name, "kind": group.kind, "frontend": frontend, **row,
                "ms_extract": facts["extract_ms"], "ms_match": facts["match_ms"],
                "failed": describe_failures([facts["failures"]]), "items": facts["items"],
            }  # fmt: skip
    for frontend, items in every.items():
        if items:
            yield {"data": "all", "group": "all", "kind": "pose", "frontend": frontend, **pose_row(items), "failed": ""}


def pose_row(items: list[Item]) -> dict[str, Any]:
    """Figures over pairs with poses; a pair without a pose counts as not recalled."""
    errors = [np.inf if item["error"] is None else item["error"] for item in items]
    rotations = [np.inf if item["rotation_deg"] is None else item["rotation_deg"] for item in items]
    auc = {f"auc_{t:g}": v for t, v in zip(POSE_DEG, area_under_recall(errors, POSE_DEG), strict=True)}
    median = float(np.median(errors))
    precision = [item["precision"] for item in items if np.isfinite(item.get("precision", np.nan))]
    return {
        "pairs": len(items), **auc, "rot_auc_5": area_under_recall(rotations, [5.0])[0],
        "median_deg": median if np.isfinite(median) else None, **_counts(items),
        "precision": float(np.mean(precision)) if precision else None,
    }  # fmt: skip


def homography_row(items: list[Item]) -> dict[str, Any]:
    """Figures over pairs with homographies."""
    errors = [np.inf if item["error"] is None else item["error"] for item in items]
    auc = {f"h_auc_{t:g}": v for t, v in zip(HOMOGRAPHY_PX, area_under_recall(errors, HOMOGRAPHY_PX), strict=True)}
    accuracy = np.mean([item["accuracy"] for item in items], axis=0)
    mma = {f"mma_{t:g}": float(v) for t, v in zip(HOMOGRAPHY_PX, accuracy, strict=True)}
    return {"pairs": len(items), **auc, **mma, **_counts(items)}


def _counts(items: list[Item]) -> dict[str, float]:
    return {key: float(np.mean([item[key] for item in items])) for key in ("matches", "inliers")}


def _reduced(camera: Camera, config: BenchConfig) -> Camera:
    size = (camera.width, camera.height)
    less = reduced_size(size, config.matching.longest_side)
    return camera.mapped(PixelMap(scale=(less[0] / size[0], less[1] / size[1])), less)


def _scaling(size: tuple[int, int], less: tuple[int, int]) -> Array:
    """Homogeneous matrix (3, 3) of the pixels of an image of `size` to those of its reduction."""
    sx, sy = less[0] / size[0], less[1] / size[1]
    return np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1.0]])
