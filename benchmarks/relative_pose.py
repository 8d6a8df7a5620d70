"""Estimators of relative pose on a synthetic street, as keypoints become less exact than the inlier threshold.

    python -m benchmarks.relative_pose --out benchmarks/results/relative_pose

A camera like KITTI's drives forward 0.4 or 0.8 m between walls over a road; 600 points, a tenth of the matches wrong,
Gaussian noise on the rest, threshold 1 px, 60 scenes a row. "failed" counts rotations off by more than a degree.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from slamfeat.bench.provenance import header, header_line
from slamfeat.eval import markdown_table
from slamfeat.files import write_text
from slamfeat.geometry.robust import estimate_relative_pose
from slamfeat.geometry.se3 import make_pose, rotation_angle_deg, transform_points
from slamfeat.types import Camera

CAMERA = Camera(1241, 376, 718.856, 718.856, 607.19, 185.22)
Array = NDArray[np.float64]


def street(
    seed: int, noise_px: float, step_m: float, count: int = 600, wrong: float = 0.1
) -> tuple[Array, Array, Array]:
    """Matches (M, 2), (M, 2) in pixels and the true pose `T_1_0`."""
    generator = np.random.default_rng(seed)
    wall = generator.choice([-1, 1], count) * generator.uniform(4, 9, count)
    x = np.where(generator.random(count) < 0.6, wall, generator.uniform(-12, 12, count))
    y = np.where(generator.random(count) < 0.25, 1.65, generator.uniform(-4, 1.6, count))
    points = np.column_stack([x, y, generator.uniform(6, 60, count)])
    turn = Rotation.from_euler("xyz", generator.normal(0, 0.3, 3), degrees=True).as_matrix()
    pose = make_pose(turn, [*generator.normal(0, 0.02, 2), -step_m])
    seen = [CAMERA.project(points), CAMERA.project(transform_points(pose, points))]
    inside = np.all([((p > 0) & (p < (CAMERA.width, CAMERA.height))).all(1) for p in seen], axis=0)
    points0, points1 = (p[inside] + generator.normal(0, noise_px, (inside.sum(), 2)) for p in seen)
    astray = int(wrong * len(points1))
    points1[:astray] += generator.uniform(-30, 30, (astray, 2))
    return points0, points1, pose


def measure(estimator: str, noise_px: float, step_m: float, scenes: int = 60) -> dict[str, Any]:
    """One row."""
    errors, started = [], time.perf_counter()
    for seed in range(scenes):
        points0, points1, truth = street(seed, noise_px, step_m)
        found = estimate_relative_pose(points0, points1, CAMERA, CAMERA, seed=seed, estimator=estimator)
        errors.append(180.0 if found is None else float(rotation_angle_deg(found.T_1_0[:3, :3] @ truth[:3, :3].T)))
    return {
        "noise_px": noise_px, "step_m": step_m, "estimator": estimator, "median_deg": float(np.median(errors)),
        "worst_tenth_deg": float(np.quantile(errors, 0.9)), "failed": int(np.sum(np.array(errors) > 1)),
        "ms": 1e3 * (time.perf_counter() - started) / scenes,
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    facts = header("python -m benchmarks.relative_pose " + " ".join(sys.argv[1:]))
    cases = [(noise, step) for step in (0.8, 0.4) for noise in (0.3, 0.6, 0.9, 1.2)]
    rows = [measure(estimator, *case) for case in cases for estimator in ("pycolmap", "opencv", "poselib")]
    write_text(given.out.with_suffix(".json"), json.dumps({"header": facts, "rows": rows}, indent=1) + "\n")
    write_text(given.out.with_suffix(".md"), f"{header_line(facts)}\n\n{markdown_table(rows)}")


if __name__ == "__main__":
    main()
