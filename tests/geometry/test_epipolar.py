"""Epipolar errors against their definitions."""

from __future__ import annotations

import numpy as np
from geometry_scenes import PINHOLE, make_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from slamfeat.geometry.epipolar import (
    epipolar_residual,
    essential_from_pose,
    homogeneous,
    sampson_error,
    skew,
    symmetric_epipolar_error,
)
from slamfeat.geometry.twoview import _linearize, pose_from_essential

SEEDS = st.integers(0, 10_000)


@given(SEEDS)
def test_skew_is_the_cross_product(seed: int) -> None:
    v, w = np.random.default_rng(seed).normal(size=(2, 3))
    assert np.allclose(skew(v) @ w, np.cross(v, w))


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_exact_matches_have_no_error(seed: int) -> None:
    scene = make_scene(seed)
    n0, n1 = PINHOLE.normalize(scene.pixels0), PINHOLE.normalize(scene.pixels1)
    essential = essential_from_pose(scene.T_1_0)
    assert np.abs(epipolar_residual(essential, n0, n1)).max() < 1e-14
    assert sampson_error(essential, n0, n1).max() < 1e-24
    assert symmetric_epipolar_error(essential, n0, n1).max() < 1e-24


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_errors_are_distances(seed: int) -> None:
    scene = make_scene(seed, noise=0.3)
    n0, n1 = PINHOLE.normalize(scene.pixels0), PINHOLE.normalize(scene.pixels1)
    essential = essential_from_pose(scene.T_1_0)
    lines1, lines0 = homogeneous(n0) @ essential.T, homogeneous(n1) @ essential
    to_line1 = (lines1 * homogeneous(n1)).sum(1) / np.linalg.norm(lines1[:, :2], axis=1)
    to_line0 = (lines0 * homogeneous(n0)).sum(1) / np.linalg.norm(lines0[:, :2], axis=1)
    assert np.allclose(symmetric_epipolar_error(essential, n0, n1), to_line0**2 + to_line1**2, rtol=1e-9)
    # 1/sampson = 1/d0^2 + 1/d1^2: the two displacements share the residual.
    sampson = sampson_error(essential, n0, n1)
    assert np.allclose(sampson * (to_line0**2 + to_line1**2), (to_line0 * to_line1) ** 2, rtol=1e-6, atol=1e-20)
    assert np.allclose(sampson_error(-7 * essential, n0, n1), sampson, rtol=1e-9)


def test_undefined_errors_are_infinite() -> None:
    standing = essential_from_pose(np.eye(4))
    assert np.isinf(sampson_error(standing, [[0.1, 0.2]], [[0.1, 0.2]])).all()
    assert sampson_error(standing, np.zeros((0, 2)), np.zeros((0, 2))).shape == (0,)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from([1.0, -3.0]))
def test_decomposition_finds_the_pose_also_for_far_points(seed: int, factor: float) -> None:
    # OpenCV's recoverPose leaves out points beyond 50 baselines, and then turns the camera around.
    scene = make_scene(seed, baseline=0.01, depth=(5.0, 50.0))
    n0, n1 = PINHOLE.normalize(scene.pixels0), PINHOLE.normalize(scene.pixels1)
    pose = pose_from_essential(factor * essential_from_pose(scene.T_1_0), n0, n1)
    assert np.allclose(pose[:3, :3], scene.T_1_0[:3, :3], atol=1e-9)
    assert np.allclose(pose[:3, 3], scene.T_1_0[:3, 3] / 0.01, atol=1e-9)


def test_derivatives_of_the_refinement() -> None:
    from slamfeat.geometry.twoview import _moved

    scene = make_scene(4, noise=1.0)
    x0, x1 = homogeneous(PINHOLE.normalize(scene.pixels0)), homogeneous(PINHOLE.normalize(scene.pixels1))
    pose = scene.T_1_0.copy()
    pose[:3, 3] /= np.linalg.norm(pose[:3, 3])
    _, jacobian = _linearize(pose, x0, x1)
    for k, step in enumerate(np.eye(5) * 1e-6):
        ahead, behind = _linearize(_moved(pose, step), x0, x1)[0], _linearize(_moved(pose, -step), x0, x1)[0]
        numeric = (ahead - behind) / 2e-6
        assert np.abs(numeric - jacobian[:, k]).max() < 1e-6 * max(1.0, np.abs(jacobian[:, k]).max())
