"""What the heads that learn together learn from: images, keypoints, tokens and labels; the backbone is run once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.frontend import Frontend
from slamfeat.frontend.heads.eight_point import weighted_pose
from slamfeat.frontend.learned import tokens_at_keypoints
from slamfeat.geometry.se3 import invert
from slamfeat.train.cache import Fields
from slamfeat.train.fitted_pairs import fit_pair
from slamfeat.train.labels import assignment_labels, local_maps, repeatability_labels
from slamfeat.train.losses import pose_loss
from slamfeat.train.pairs import Pixels, Points, TrainingPair, Transferred
from slamfeat.train.prepare import FAR_PX, NEAR_PX

Arrays = dict[str, NDArray[Any]]
_PROBE_PX = 224
_LEAST_MATCHES, _ROTATION_DEG, _DIRECTION_DEG = 16, 3.0, 20.0
"""Where the pair's true matches give the pose no better than this, matching better cannot mend it."""


class JointPreparer:
    """Rows of a `PairCache`, of images of one size."""

    def __init__(self, frontend: Frontend, size: tuple[int, int]) -> None:
        """Use its keypoints (`num_keypoints` are the slots) and tokens, on images of `size` (W, H)."""
        self.frontend, self.size = frontend, size
        probe = frontend.extract(np.zeros((_PROBE_PX, _PROBE_PX, 3), np.uint8))
        self.token_dim = tokens_at_keypoints(probe).shape[2]

    @property
    def fields(self) -> Fields:
        """Of a `PairCache`; the suffix is the image's number in the pair.

        `image` is the mean of the colours, which is what fine branches look at; `found` and `index` are labels;
        `landed` and `affine` say where a keypoint with a partner is in the other image, and how its surroundings
        moved; `K` and `motion` (to the other camera) are zero where the pair has no pose, and `posed` says whether it
        has one that its matches decide.
        """
        slots, (width, height) = self.frontend.config.num_keypoints, self.size
        view = {
            "image": ((height, width), "uint8"),
            "keypoints": ((slots, 2), "float32"),
            "mask": ((slots,), "bool"),
            "tokens": ((slots, self.token_dim), "float16"),
            "index": ((slots,), "int16"),
            "found": ((slots,), "int8"),
            "landed": ((slots, 2), "float32"),
            "affine": ((slots, 2, 2), "float32"),
            "K": ((3, 3), "float32"),
            "motion": ((3, 4), "float32"),
        }
        fields: Fields = {f"{name}{image}": field for image in (0, 1) for name, field in view.items()}
        return {**fields, "posed": ((), "bool")}

    @torch.inference_mode()
    def __call__(self, pair: TrainingPair) -> Arrays:
        """One row."""
        pair = fit_pair(pair, self.size)
        views = self._view(pair.image0), self._view(pair.image1)
        points0, points1 = points = [view["keypoints"].astype(np.float64) for view in views]
        mask0, mask1 = (view["mask"] for view in views)
        index = assignment_labels(points0, points1, pair.transfer, near=NEAR_PX, far=FAR_PX, mask0=mask0, mask1=mask1)
        found = repeatability_labels(points0, points1, pair.transfer, radius=NEAR_PX, mask0=mask0, mask1=mask1)
        for image, move in enumerate((pair.transfer.forth, pair.transfer.back)):
            view, partner = views[image], np.asarray(index[image])
            view["index"], view["found"] = partner.astype(np.int16), np.asarray(found[image]).astype(np.int8)
            view["landed"], view["affine"] = _carried(points[image], partner >= 0, move)
        _add_pose(pair, views)
        row = {f"{name}{image}": value for image, view in enumerate(views) for name, value in view.items()}
        return {**row, "posed": np.asarray(_is_decided(pair, views))}

    def _view(self, image: Pixels) -> Arrays:
        features = self.frontend.extract(image)
        return {
            "image": np.round(image.mean(2)).astype(np.uint8),
            "keypoints": features.keypoints[0].cpu().numpy(),
            "mask": features.mask[0].cpu().numpy(),
            "tokens": tokens_at_keypoints(features)[0].half().cpu().numpy(),
        }


def _carried(
    points: Points, matched: NDArray[np.bool_], move: Callable[[Points], Transferred]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where points (N, 2) are in the other image, and the affine maps (N, 2, 2) there; zeros where not matched."""
    landed, affine = np.zeros((len(points), 2), np.float32), np.zeros((len(points), 2, 2), np.float32)
    if matched.any():
        landed[matched], maps, known = local_maps(points[matched], move)
        # At an edge the surroundings are not known: then as if they had only been shifted.
        affine[matched] = np.where(known[:, None, None], maps, np.eye(2))
    return landed, affine


def _add_pose(pair: TrainingPair, views: tuple[Arrays, Arrays]) -> None:
    for view in views:
        view["K"], view["motion"] = np.zeros((3, 3), np.float32), np.zeros((3, 4), np.float32)
    if pair.K0 is None or pair.K1 is None or pair.T_1_0 is None:
        return
    for view, K, motion in zip(views, (pair.K0, pair.K1), (pair.T_1_0, invert(pair.T_1_0)), strict=True):
        view["K"], view["motion"] = K.astype(np.float32), motion[:3].astype(np.float32)


def _is_decided(pair: TrainingPair, views: tuple[Arrays, Arrays]) -> bool:
    """Whether the pair has a pose, and its true matches lead to it.

    They do not where all lies on a plane, where the camera only turned, or where they are few: there the eight-point
    algorithm gives anything, and teaching through it would teach noise.
    """
    first, second = views
    matched = np.flatnonzero(first["index"] >= 0)
    if pair.K0 is None or pair.K1 is None or pair.T_1_0 is None or len(matched) < _LEAST_MATCHES:
        return False
    points = first["keypoints"][matched], second["keypoints"][first["index"][matched]]
    rays = [(p - K[:2, 2]) / (K[0, 0], K[1, 1]) for p, K in zip(points, (pair.K0, pair.K1), strict=True)]
    x0, x1 = (torch.from_numpy(np.asarray(ray, np.float64))[None] for ray in rays)
    truth = torch.from_numpy(np.asarray(pair.T_1_0, np.float64))[None]
    R, t = weighted_pose(x0, x1, torch.ones(x0.shape[:2], dtype=torch.float64))
    error = pose_loss(R, t, truth[:, :3, :3], truth[:, :3, 3])
    moves = bool(truth[0, :3, 3].norm() > 1e-6)
    return moves and float(error.rotation_deg) < _ROTATION_DEG and float(error.direction_deg) < _DIRECTION_DEG
