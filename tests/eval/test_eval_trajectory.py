"""Trajectory errors: alignment, association, and sequences that determine no alignment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from eval_paths import disturbed, straight, walk
from hypothesis import given, settings
from hypothesis import strategies as st

from slamfeat.errors import InputError
from slamfeat.eval import associate_and_align, evaluate, to_evo
from slamfeat.types import Trajectory


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 20.0))
def test_sim3_removes_world_and_scale(seed: int, scale: float) -> None:
    reference = walk(seed, count=40)
    metrics = evaluate(disturbed(reference, seed, size=0.0, scale=scale), reference, "sim3")
    assert metrics.ate_rmse_m < 1e-9 and metrics.rpe_trans_m < 1e-9 and metrics.rpe_rot_deg < 1e-5
    assert metrics.scale == pytest.approx(1 / scale, rel=1e-9)
    assert metrics.tracked_percent == 100.0 and metrics.note == ""


def test_alignments_differ_as_they_should() -> None:
    reference = walk(2)
    estimate = disturbed(reference, scale=0.5)
    sim3, se3, none = (evaluate(estimate, reference, align) for align in ("sim3", "se3", "none"))
    assert sim3.ate_rmse_m < se3.ate_rmse_m < none.ate_rmse_m
    assert se3.scale == none.scale == 1.0
    assert none.ate_rmse_m == pytest.approx(
        np.sqrt((np.linalg.norm(estimate.positions - reference.positions, axis=1) ** 2).mean()), rel=1e-12
    )
    assert none.path_length_m == pytest.approx(np.linalg.norm(np.diff(reference.positions, axis=0), axis=1).sum())


def test_rpe_of_a_known_drift() -> None:
    reference, estimate = straight(50, 1.0), straight(50, 1.01, yaw_deg_per_m=0.2 / 1.01)
    times = np.arange(50.0)
    for delta in (1, 5):
        metrics = evaluate(Trajectory(times, estimate), Trajectory(times, reference), "none", delta=delta)
        assert metrics.rpe_rot_deg == pytest.approx(0.2 * delta, rel=1e-6)
        expected = np.linalg.norm(estimate[delta][:3, 3] - reference[delta][:3, 3])
        assert metrics.rpe_trans_m == pytest.approx(expected, rel=1e-6)


def test_lost_frames_count() -> None:
    reference = walk(4, count=100)
    kept = np.r_[0:30, 50:100]
    estimate = Trajectory(reference.timestamps[kept], disturbed(reference).poses[kept])
    metrics = evaluate(estimate, reference)
    assert (metrics.matched, metrics.total, metrics.tracked_percent) == (80, 100, 80.0)
    assert evaluate(estimate, reference, total_frames=160).tracked_percent == 50.0


def test_a_faster_reference_does_not_look_like_lost_frames() -> None:
    fast = walk(5, count=601, rate=200.0)
    slow = Trajectory(fast.timestamps[::10], disturbed(fast).poses[::10])
    metrics = evaluate(slow, fast)
    assert (metrics.matched, metrics.total) == (61, 61)


def test_time_offset() -> None:
    reference = walk(6)
    late = disturbed(reference, late=3.0)
    assert evaluate(late, reference, time_offset=-3.0).matched == len(reference)


@pytest.mark.parametrize(
    ("late", "message"),
    [
        (1000.0, r"within 0\.02 s: the estimate covers 1305032102\.000 to .*ground truth of this sequence"),
        (0.5 / 30, r"raise the largest time difference"),
        (1.3e18, r"looks like nanoseconds: divide it by 1e9"),
    ],
)
def test_no_overlap(late: float, message: str) -> None:
    reference = walk(7, count=20)
    estimate = Trajectory(np.linspace(late, late * 1.0001 + 20, 20) + reference.timestamps[0], reference.poses)
    if late < 1:
        estimate = Trajectory(reference.timestamps + late, reference.poses)
    with pytest.raises(InputError, match=message):
        evaluate(estimate, reference, max_time_difference=0.001 if late < 1 else 0.02)


def test_standing_still_is_aligned_at_the_first_pose() -> None:
    reference = walk(8, count=30)
    still = Trajectory(reference.timestamps, np.tile(np.eye(4), (30, 1, 1)))
    metrics = evaluate(still, reference, "sim3")
    expected = np.linalg.norm(reference.positions - reference.positions[0], axis=1)
    assert metrics.ate_max_m == pytest.approx(expected.max())
    assert metrics.scale == 1.0 and "aligned at the first pose instead; the scale is not determined" in metrics.note
    both = evaluate(still, still, "se3")
    assert both.ate_rmse_m == pytest.approx(0.0, abs=1e-12) and "first pose" in both.note


def test_too_few_poses_have_no_errors() -> None:
    reference = walk(9, count=30)
    two = Trajectory(reference.timestamps[:2], reference.poses[:2])
    metrics = evaluate(two, reference, total_frames=30)
    assert np.isnan([metrics.ate_rmse_m, metrics.rpe_trans_m]).all() and metrics.matched == 2
    assert "only 2 poses match" in metrics.note
    assert metrics.as_dict()["ate_rmse_m"] is None
    json.dumps(metrics.as_dict(), allow_nan=False)
    assert evaluate(two, reference, "none").ate_rmse_m == pytest.approx(0.0, abs=1e-12)


def test_useless_estimates_are_called_so() -> None:
    reference = walk(10, count=60)
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (60, 1, 1))
    poses[:, :3, 3] = rng.normal(size=(60, 3))
    metrics = evaluate(Trajectory(reference.timestamps, poses), reference, "sim3")
    assert "no better than a camera that stands still" in metrics.note
    assert evaluate(disturbed(reference), reference, "sim3").note == ""


def test_aligned_trajectories_for_plots() -> None:
    reference = walk(11)
    pair = associate_and_align(disturbed(reference, scale=3.0), reference, "sim3")
    metrics = evaluate(disturbed(reference, scale=3.0), reference, "sim3")
    errors = np.linalg.norm(pair.estimate[:, :3, 3] - pair.reference[:, :3, 3], axis=1)
    assert np.sqrt((errors**2).mean()) == pytest.approx(metrics.ate_rmse_m, rel=1e-12)
    assert np.array_equal(pair.timestamps, reference.timestamps)


def test_inputs_are_not_changed() -> None:
    reference, estimate = walk(12), disturbed(walk(12), scale=2.0)
    before = reference.poses.copy(), estimate.poses.copy()
    evaluate(estimate, reference, "sim3")
    assert np.array_equal(before[0], reference.poses) and np.array_equal(before[1], estimate.poses)


def test_wrong_calls() -> None:
    reference = walk(13)
    with pytest.raises(InputError, match="align 'sim2' is unknown; use one of sim3, se3, none"):
        evaluate(reference, reference, "sim2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="empty"):
        to_evo(Trajectory(np.zeros(0), np.zeros((0, 4, 4))))


def test_evo_stays_silent_and_out_of_the_home_folder(tmp_path: Path) -> None:
    code = (
        "import numpy as np, slamfeat as sf\n"
        "p = np.tile(np.eye(4), (9, 1, 1)); p[:, :3, 3] = np.random.default_rng(0).normal(size=(9, 3))\n"
        "t = sf.Trajectory(np.arange(9.0), p)\n"
        "sf.evaluate(t, t, 'sim3')\n"
    )
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "" and done.stderr == ""
    assert not (tmp_path / ".evo").exists()
