"""The differentiable eight-point layer against known motions, OpenCV, and finite differences."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from geometry_scenes import PINHOLE, Scene, direction_error_deg, make_scene
from scipy.spatial.transform import Rotation
from torch import Tensor

from slamfeat.errors import InputError
from slamfeat.frontend.heads.eight_point import (
    decompose,
    homogeneous,
    nearest_essential,
    pose_from_essential,
    weighted_essential,
    weighted_pose,
)
from slamfeat.geometry.epipolar import essential_from_pose
from slamfeat.geometry.se3 import make_pose, rotation_angle_deg, transform_points


def planes(scene: Scene) -> tuple[Tensor, Tensor]:
    """Matches (1, N, 2) on the planes z = 1."""
    x0, x1 = (torch.from_numpy(PINHOLE.normalize(pixels))[None] for pixels in (scene.pixels0, scene.pixels1))
    return x0, x1


def moved(points: np.ndarray, T_1_0: np.ndarray) -> tuple[Tensor, Tensor]:
    """Points (N, 3) of camera 0 and the same after a motion, projected; (1, N, 2) each."""
    x0, x1 = (torch.from_numpy(p[:, :2] / p[:, 2:])[None] for p in (points, transform_points(T_1_0, points)))
    return x0, x1


def ones(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:2], dtype=x.dtype)


def errors_deg(R: Tensor, t: Tensor, T_1_0: np.ndarray) -> tuple[float, float]:
    """Of rotation and of direction."""
    rotation = float(rotation_angle_deg(R[0].detach().double().numpy() @ T_1_0[:3, :3].T))
    return rotation, direction_error_deg(t[0].detach().double().numpy(), T_1_0[:3, 3])


FORWARD = make_pose(np.eye(3), [0.0, 0.0, -1.0])
MOTIONS = {
    "forward": FORWARD,
    "backward": make_pose(np.eye(3), [0.0, 0.0, 0.5]),
    "sideways": make_pose(np.eye(3), [-0.4, 0.0, 0.0]),
    "large turn": make_pose(Rotation.from_rotvec([0.0, 0.6, 0.1]).as_matrix(), [-2.0, 0.1, 0.3]),
    "one pixel of parallax": make_pose(Rotation.from_rotvec([0.01, 0.0, 0.0]).as_matrix(), [0.01, 0.0, 0.002]),
}


@pytest.mark.parametrize("name", MOTIONS)
def test_exact_matches_give_the_exact_pose(name: str) -> None:
    for seed in range(3):
        x0, x1 = moved(make_scene(seed).points, MOTIONS[name])
        R, t = weighted_pose(x0, x1, ones(x0))
        rotation, direction = errors_deg(R, t, MOTIONS[name])
        assert rotation < 1e-6 and direction < 1e-6
        torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=R.dtype)[None], atol=1e-12, rtol=0)
        assert torch.linalg.det(R)[0] > 0 and float(torch.linalg.norm(t)) == pytest.approx(1)


def test_a_batch_is_its_pairs() -> None:
    scenes = [make_scene(seed, noise=0.5) for seed in range(4)]
    x0, x1 = (torch.cat(x) for x in zip(*map(planes, scenes), strict=True))
    weights = torch.rand(x0.shape[:2], dtype=x0.dtype, generator=torch.Generator().manual_seed(0))
    R, t = weighted_pose(x0, x1, weights)
    for i in range(len(scenes)):
        alone = weighted_pose(x0[i : i + 1], x1[i : i + 1], 7 * weights[i : i + 1])
        torch.testing.assert_close((R[i : i + 1], t[i : i + 1]), alone, atol=1e-9, rtol=0)


def test_noisy_matches_are_fitted_as_well_as_by_opencv() -> None:
    """OpenCV's eight-point algorithm on the same normalised points, taken apart by OpenCV too."""
    for seed in range(6):
        scene = make_scene(seed, noise=0.5, baseline=1.0)
        x0, x1 = planes(scene)
        essential = weighted_essential(x0, x1, ones(x0))
        theirs, _ = cv2.findFundamentalMat(x0[0].numpy(), x1[0].numpy(), cv2.FM_8POINT)
        theirs = theirs / np.linalg.norm(theirs)
        u, _, vt = np.linalg.svd(theirs)  # OpenCV stops at rank two
        theirs = u @ np.diag([1.0, 1.0, 0.0]) @ vt
        ours = essential[0].numpy()
        np.testing.assert_allclose(ours * np.sign((ours * theirs).sum()), theirs, atol=2e-3)
        R, t = pose_from_essential(essential, x0, x1, ones(x0))
        _, R_theirs, t_theirs, _ = cv2.recoverPose(ours, x0[0].numpy(), x1[0].numpy(), np.eye(3), distanceThresh=1e4)[
            :4
        ]
        np.testing.assert_allclose(R[0].numpy(), R_theirs, atol=1e-9)
        np.testing.assert_allclose(t[0].numpy(), t_theirs[:, 0], atol=1e-9)


def test_the_essential_matrix_is_the_one_of_the_pose() -> None:
    scene = make_scene(1)
    x0, x1 = planes(scene)
    essential = weighted_essential(x0, x1, ones(x0))
    truth = torch.from_numpy(essential_from_pose(scene.T_1_0))[None]
    truth = truth / torch.linalg.matrix_norm(truth) * 2**0.5
    sign = (essential * truth).sum().sign()
    torch.testing.assert_close(sign * essential, truth, atol=1e-8, rtol=0)
    torch.testing.assert_close(
        torch.linalg.svdvals(essential)[0], torch.tensor([1.0, 1, 0], dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_decompose_gives_the_four_poses_of_the_textbook() -> None:
    essential = torch.from_numpy(essential_from_pose(make_scene(5).T_1_0))[None]
    rotations, translations = decompose(7 * essential)
    first, second, t = cv2.decomposeEssentialMat(essential[0].numpy())
    theirs = [(R, sign * t[:, 0]) for R in (first, second) for sign in (1, -1)]
    for R, direction in zip(rotations[0].numpy(), translations[0].numpy(), strict=True):
        fits = [np.allclose(R, a, atol=1e-9) and np.allclose(direction, b, atol=1e-9) for a, b in theirs]
        assert sum(fits) == 1


def test_outliers_of_no_weight_change_nothing() -> None:
    scene = make_scene(2, outliers=0.2)
    x0, x1 = planes(scene)
    weights = torch.from_numpy((~scene.wrong).astype(np.float64))[None]
    assert scene.wrong.sum() > 30
    assert max(errors_deg(*weighted_pose(x0, x1, weights), scene.T_1_0)) < 1e-6
    assert errors_deg(*weighted_pose(x0, x1, ones(x0)), scene.T_1_0)[1] > 5  # so that the weights did it


def test_single_precision_is_good_enough_to_train_with() -> None:
    for seed in range(4):
        scene = make_scene(seed)
        x0, x1 = (x.float() for x in planes(scene))
        R, t = weighted_pose(x0, x1, ones(x0))
        assert R.dtype == torch.float32
        assert max(errors_deg(R, t, scene.T_1_0)) < 0.01
        assert max(errors_deg(*weighted_pose(x0, x1, ones(x0), dtype=torch.float32), scene.T_1_0)) < 0.5


def chosen_pose(x0: Tensor, x1: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return weighted_pose(x0, x1, weights)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_derivatives_are_those_of_finite_differences(noise: float) -> None:
    """By points and weights; without noise the two singular values are equal, where derivatives of an SVD blow up."""
    x0, x1 = planes(make_scene(3, count=14, noise=noise, baseline=2.0, turn=0.2))
    weights = torch.linspace(0.3, 1.0, 14, dtype=torch.float64)[None]
    inputs = [x.clone().requires_grad_() for x in (x0, x1, weights)]
    assert torch.autograd.gradcheck(chosen_pose, inputs, eps=1e-7, atol=1e-4, rtol=1e-4)


def test_the_nearest_essential_matrix_is_smooth_where_singular_values_are_equal() -> None:
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0] for _ in range(2))
    for values in ([1.0, 1.0, 0.0], [1.0, 1.0, 0.2], [2.0, 0.7, 0.0], [1.0, 0.9, 0.3]):
        matrix = (u @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ v.mT)[None].requires_grad_()
        assert torch.autograd.gradcheck(nearest_essential, matrix, eps=1e-6, atol=1e-5)


def degenerate_pairs() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    points = make_scene(4, count=60).points
    plane = points / points[:, 2:] * 4.0
    sideways, turn = MOTIONS["sideways"], make_pose(Rotation.from_rotvec([0.02, 0.1, 0.0]).as_matrix(), np.zeros(3))
    x0, x1 = moved(points, sideways)
    none = torch.zeros_like(ones(x0))
    few = none.clone()
    few[:, :5] = 1
    return {
        "no motion": (x0, x0.clone(), ones(x0)),
        "pure rotation": (*moved(points, turn), ones(x0)),
        "plane": (*moved(plane, sideways), ones(x0)),
        "one match repeated": (x0[:, :1].repeat(1, 60, 1), x1[:, :1].repeat(1, 60, 1), ones(x0)),
        "five matches repeated": (x0[:, :5].repeat(1, 12, 1), x1[:, :5].repeat(1, 12, 1), ones(x0)),
        "points of one line": (torch.stack([x0[..., 0], 0 * x0[..., 0]], 2), x1, ones(x0)),
        "no weight": (x0, x1, none),
        "weight on five": (x0, x1, few),
        "tiny weights": (x0, x1, 1e-200 * ones(x0)),
        "all at the origin": (0 * x0, 0 * x1, ones(x0)),
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", degenerate_pairs())
def test_what_determines_nothing_gives_finite_poses_and_derivatives(name: str, dtype: torch.dtype) -> None:
    inputs = [x.to(dtype).requires_grad_() for x in degenerate_pairs()[name]]
    R, t = weighted_pose(inputs[0], inputs[1], inputs[2], dtype=dtype)
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=dtype)[None], atol=1e-3, rtol=0)
    assert float(torch.linalg.norm(t.detach())) == pytest.approx(1, abs=1e-5)
    (R * torch.arange(9, dtype=dtype).view(3, 3)).sum().add(t @ torch.tensor([1.0, 2, 3], dtype=dtype)).sum().backward()
    for x in inputs:
        assert x.grad is not None and torch.isfinite(x.grad).all()
    if name == "no motion":  # any translation fits, but the camera has not turned around
        torch.testing.assert_close(R, torch.eye(3, dtype=dtype)[None], atol=1e-3, rtol=0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("axis", range(3))
def test_without_parallax_the_camera_has_not_turned_around(axis: int, sign: int) -> None:
    """Points that stand still are in front of nothing, so all four poses have no vote; one of them is no rotation."""
    x0, _ = planes(make_scene(4))
    essential = torch.from_numpy(sign * essential_from_pose(make_pose(np.eye(3), np.eye(3)[axis])))[None]
    R, _ = pose_from_essential(essential, x0, x0, ones(x0))
    torch.testing.assert_close(R, torch.eye(3, dtype=R.dtype)[None])


def test_derivatives_stay_bounded_as_a_scene_becomes_a_plane() -> None:
    """The gap of eigenvalues goes to zero; 1 / gap would go to infinity."""
    points = make_scene(4, count=60).points
    plane = points / points[:, 2:] * 4.0
    sizes = []
    for depth in 10.0 ** -np.arange(0, 12):
        x0, x1 = moved(plane + depth * (points - plane), MOTIONS["sideways"])
        x1 = x1.requires_grad_()
        R, _ = weighted_pose(x0, x1, ones(x0))
        (grad,) = torch.autograd.grad(R[0, 0, 2], x1)
        sizes.append(float(grad.abs().max()))
    assert np.isfinite(sizes).all() and max(sizes) < 1e7


@pytest.mark.parametrize("seed", [0, 4, 5])
def test_descent_on_weights_finds_the_outliers(seed: int) -> None:
    """Through the pose alone, weights learn which matches are wrong, and the pose becomes right."""
    scene = make_scene(seed, count=100, outliers=0.2, noise=0.2, baseline=1.0)
    x0, x1 = planes(scene)
    truth = torch.from_numpy(scene.T_1_0)
    logits = torch.zeros(1, 100, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    before = errors_deg(*weighted_pose(x0, x1, logits.sigmoid()), scene.T_1_0)
    for _ in range(150):
        R, t = weighted_pose(x0, x1, logits.sigmoid())
        loss = (R[0] - truth[:3, :3]).square().sum() + (t[0] - truth[:3, 3]).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = errors_deg(*weighted_pose(x0, x1, logits.sigmoid()), scene.T_1_0)
    assert sum(before) > 40 and sum(after) < 0.1 * sum(before)
    weights = logits.detach().sigmoid()[0].numpy()
    assert np.median(weights[scene.wrong]) < 0.6 * np.median(weights[~scene.wrong])


def test_homogeneous() -> None:
    assert homogeneous(torch.tensor([[2.0, 3.0]])).tolist() == [[2.0, 3.0, 1.0]]


def test_bad_input_is_named() -> None:
    x = torch.rand(1, 20, 2)
    with pytest.raises(InputError, match="7 matches are too few"):
        weighted_pose(x[:, :7], x[:, :7], torch.ones(1, 7))
    with pytest.raises(InputError, match="do not fit"):
        weighted_pose(x, x, torch.ones(1, 19))
    with pytest.raises(InputError, match="not finite"):
        weighted_pose(x, torch.full_like(x, torch.nan), torch.ones(1, 20))
