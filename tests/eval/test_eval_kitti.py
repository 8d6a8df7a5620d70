"""KITTI's segment errors against closed forms and a line-by-line reading of the devkit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from eval_paths import disturbed, straight, walk

from slamfeat.eval import KITTI_LENGTHS_M, segment_errors


def test_no_error() -> None:
    poses = straight(2000, 0.5)
    errors = segment_errors(poses, poses)
    assert errors is not None and errors.trans_percent < 1e-9 and errors.rot_deg_per_100m < 1e-9


@pytest.mark.parametrize("scale", [0.98, 1.02])
def test_a_scale_error_of_two_percent_is_two_percent(scale: float) -> None:
    # The devkit ends a segment at the first pose beyond its length, at most one step (0.5 m of 100 m) too far.
    errors = segment_errors(straight(2000, 0.5, scale=scale), straight(2000, 0.5))
    assert errors is not None and errors.trans_percent == pytest.approx(2.0, rel=0.005)
    assert errors.rot_deg_per_100m < 1e-9


def test_a_yaw_drift() -> None:
    drift = 0.01  # degrees a metre
    errors = segment_errors(straight(2000, 0.5, yaw_deg_per_m=drift), straight(2000, 0.5))
    assert errors is not None and errors.rot_deg_per_100m == pytest.approx(1.0, rel=0.005)
    # An arc of length L ends L * drift / 2 (radians) beside the straight line.
    lateral = [100 * np.radians(drift) * length / 2 for length in KITTI_LENGTHS_M]
    counts = [sum(1 for start in range(0, 2000, 10) if start * 0.5 + length < 999.5) for length in KITTI_LENGTHS_M]
    assert errors.segments == sum(counts)
    assert errors.trans_percent == pytest.approx(np.average(lateral, weights=counts), rel=0.01)


def devkit(estimate: np.ndarray, reference: np.ndarray, lengths: tuple[float, ...]) -> tuple[float, float]:
    """`calcSequenceErrors` of the devkit, transcribed."""
    dist = [0.0]
    for before, after in itertools.pairwise(reference):
        dist.append(dist[-1] + float(np.linalg.norm(after[:3, 3] - before[:3, 3])))
    t_err, r_err = [], []
    for first in range(0, len(reference), 10):
        for length in lengths:
            last = next((i for i in range(first, len(dist)) if dist[i] > dist[first] + length), -1)
            if last == -1:
                continue
            delta_gt = np.linalg.inv(reference[first]) @ reference[last]
            delta_result = np.linalg.inv(estimate[first]) @ estimate[last]
            error = np.linalg.inv(delta_result) @ delta_gt
            cosine = 0.5 * (np.trace(error[:3, :3]) - 1.0)
            r_err.append(np.arccos(max(min(cosine, 1.0), -1.0)) / length)
            t_err.append(np.linalg.norm(error[:3, 3]) / length)
    return 100 * float(np.mean(t_err)), 100 * float(np.degrees(np.mean(r_err)))


@pytest.mark.parametrize("lengths", [KITTI_LENGTHS_M, (5.0, 10.0)])
def test_equals_the_devkit(lengths: tuple[float, ...]) -> None:
    reference = walk(3, count=900, step=1.0)
    estimate = disturbed(reference, size=0.05)
    errors = segment_errors(estimate.poses, reference.poses, lengths_m=lengths)
    assert errors is not None
    expected = devkit(estimate.poses, reference.poses, lengths)
    assert (errors.trans_percent, errors.rot_deg_per_100m) == pytest.approx(expected, rel=1e-9)


def test_too_short_a_path() -> None:
    poses = straight(100, 0.5)
    assert segment_errors(poses, poses) is None
    assert segment_errors(poses[:1], poses[:1]) is None
    assert segment_errors(poses, poses, lengths_m=(10.0,)) is not None
