"""Labels under a known homography, against the definition written out pair by pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slamfeat.errors import ConfigError, InputError
from slamfeat.train.labels import IGNORE, UNMATCHABLE, assignment_labels, repeatability_labels
from slamfeat.train.pairs import HIDDEN, UNKNOWN, VISIBLE, Transferred

Array = NDArray[np.float64]
WIDTH, HEIGHT = 320, 240


@dataclass(frozen=True)
class Plane:
    """A homography from image 0 to image 1; outside is hidden, and a band of either image is unknown."""

    H: Array
    band: tuple[float, float] = (-2.0, -1.0)

    def forth(self, points0: Array) -> Transferred:
        return self._move(points0, self.H)

    def back(self, points1: Array) -> Transferred:
        return self._move(points1, np.linalg.inv(self.H))

    def _move(self, points: Array, H: Array) -> Transferred:
        moved = np.column_stack([points, np.ones(len(points))]) @ H.T
        moved = moved[:, :2] / moved[:, 2:]
        inside = ((moved >= -0.5) & (moved < (WIDTH - 0.5, HEIGHT - 0.5))).all(1)
        state = np.where(inside, VISIBLE, HIDDEN)
        state[(points[:, 0] >= self.band[0]) & (points[:, 0] < self.band[1])] = UNKNOWN
        return Transferred(moved, state.astype(np.int8))


IDENTITY = Plane(np.eye(3))
# Zoom, roll, shift and perspective: distances in the two images differ, some points leave the image.
TILTED = Plane(np.array([[1.3, -0.2, 10.0], [0.25, 1.2, -40.0], [0.0006, 0.0002, 1.0]]), (100.0, 130.0))


def scattered(count: int, seed: int) -> Array:
    return np.random.default_rng(seed).uniform((-0.5, -0.5), (WIDTH - 0.5, HEIGHT - 0.5), (count, 2))


def by_definition(
    points0: Array, points1: Array, there: Transferred, back: Transferred, near: float, far: float
) -> list[int]:
    """Labels of the first image, pair by pair."""
    forward = np.linalg.norm(there.points[:, None] - points1[None], axis=2)
    backward = np.linalg.norm(points0[:, None] - back.points[None], axis=2)
    both = (there.state == VISIBLE)[:, None] & (back.state == VISIBLE)[None]
    symmetric = np.where(both, np.maximum(forward, backward), np.inf)
    labels = []
    for i in range(len(points0)):
        if there.state[i] == UNKNOWN:
            labels.append(IGNORE)
            continue
        if there.state[i] == HIDDEN:
            labels.append(UNMATCHABLE)
            continue
        j = int(symmetric[i].argmin())
        if symmetric[i, j] < near and int(symmetric[:, j].argmin()) == i:
            labels.append(j)
            continue
        distance = [
            max(f, b) if s == VISIBLE else f for f, b, s in zip(forward[i], backward[i], back.state, strict=True)
        ]
        labels.append(UNMATCHABLE if min(distance) >= far else IGNORE)
    return labels


@pytest.mark.parametrize("transfer", [IDENTITY, TILTED], ids=["identity", "tilted"])
@pytest.mark.parametrize(("near", "far"), [(3.0, 5.0), (1.0, 12.0), (4.0, 4.0)])
def test_labels_are_the_definition(transfer: Plane, near: float, far: float) -> None:
    """Random points, dense enough that all cases occur, of which some are each other's partners."""
    points0, points1 = scattered(300, 0), scattered(350, 1)
    moved = transfer.forth(points0[:150])
    points1[:150] = moved.points + np.random.default_rng(2).normal(0, 1.5, (150, 2))
    labels = assignment_labels(points0, points1, transfer, near=near, far=far)
    there, back = transfer.forth(points0), transfer.back(points1)
    assert labels.index0.dtype == np.int64
    assert labels.index0.tolist() == by_definition(points0, points1, there, back, near, far)
    assert labels.index1.tolist() == by_definition(points1, points0, back, there, near, far)
    for index in labels:
        assert min((index >= 0).sum(), (index == UNMATCHABLE).sum(), (index == IGNORE).sum()) >= 10


def test_true_partners_are_found_wherever_they_are() -> None:
    spread = np.stack(np.meshgrid(np.arange(10.0, 310, 20), np.arange(10.0, 230, 20)), -1).reshape(-1, 2)
    moved = TILTED.forth(spread)
    order = np.random.default_rng(0).permutation(len(spread))
    labels = assignment_labels(spread, moved.points[order], TILTED)
    place = np.argsort(order)
    visible = moved.state == VISIBLE
    assert visible.sum() > 60 and (moved.state == HIDDEN).sum() > 10
    back = TILTED.back(moved.points)
    known = visible & (back.state == VISIBLE)
    assert (labels.index0[known] == place[known]).all()
    assert (labels.index0[moved.state == HIDDEN] == UNMATCHABLE).all()
    assert (labels.index1[labels.index0[known]] == np.flatnonzero(known)).all()


def test_the_four_cases_by_hand() -> None:
    points0 = [[50.0, 50.0], [100.0, 50.0], [150.0, 50.0], [200.0, 50.0], [202.5, 50.0]]
    points1 = [[51.0, 52.0], [104.0, 50.0], [156.0, 50.0], [202.0, 50.0]]
    labels = assignment_labels(points0, points1, IDENTITY)
    # 2.2 px: a match. 4 px: neither. 6 px: none. 2 px, but the partner has one at 0.5 px: neither.
    assert labels.index0.tolist() == [0, IGNORE, UNMATCHABLE, IGNORE, 3]
    assert labels.index1.tolist() == [0, IGNORE, UNMATCHABLE, 4]


def test_unknown_partners_teach_nothing() -> None:
    """A point that lands on a keypoint of which the transfer knows nothing may be its partner: not unmatchable."""
    transfer = Plane(np.array([[1.0, 0, 20.0], [0, 1.0, 0], [0, 0, 1.0]]), (60.0, 70.0))
    labels = assignment_labels([[45.0, 50.0], [65.0, 90.0], [40.0, 20.0]], [[65.0, 50.0], [85.0, 90.0]], transfer)
    assert labels.index0.tolist() == [IGNORE, IGNORE, UNMATCHABLE]
    assert labels.index1.tolist() == [IGNORE, IGNORE]


def test_distances_count_in_both_images() -> None:
    """Under a zoom by two, 2 px in the first image are 4 px in the second."""
    zoom = Plane(np.diag([2.0, 2.0, 1.0]))
    labels = assignment_labels([[50.0, 50.0], [80.0, 50.0]], [[104.0, 100.0], [162.0, 100.0]], zoom)
    assert labels.index0.tolist() == [IGNORE, 1]
    assert assignment_labels([[104.0, 100.0]], [[50.0, 50.0]], Plane(np.diag([0.5, 0.5, 1.0]))).index0.tolist() == [
        IGNORE
    ]


def test_empty_slots_are_ignored_and_change_nothing() -> None:
    points0, points1 = scattered(80, 3), scattered(90, 4)
    points1[:60] = TILTED.forth(points0[:60]).points
    alone = assignment_labels(points0, points1, TILTED)
    rng = np.random.default_rng(5)
    filled0, filled1 = rng.permutation(120) < 80, rng.permutation(100) < 90
    padded0, padded1 = np.zeros((120, 2)), np.full((100, 2), np.nan)
    padded0[filled0], padded1[filled1] = points0, points1
    padded0[~filled0] = points0[0]  # in the way, were it looked at
    labels = assignment_labels(padded0, padded1, TILTED, mask0=filled0, mask1=filled1)
    assert (labels.index0[~filled0] == IGNORE).all() and (labels.index1[~filled1] == IGNORE).all()
    for found, wanted, slots in (
        (labels.index0[filled0], alone.index0, np.flatnonzero(filled1)),
        (labels.index1[filled1], alone.index1, np.flatnonzero(filled0)),
    ):
        assert found.tolist() == [int(slots[index]) if index >= 0 else index for index in wanted.tolist()]


def test_tensors_twins_and_no_points() -> None:
    twins = torch.tensor([[50.0, 50.0], [50.0, 50.0]])
    labels = assignment_labels(twins, twins[:1], IDENTITY)
    assert labels.index0.tolist() == [0, IGNORE] and labels.index1.tolist() == [0]
    none = torch.zeros(0, 2)
    assert assignment_labels(twins, none, IDENTITY).index0.tolist() == [UNMATCHABLE, UNMATCHABLE]
    assert assignment_labels(none, twins, IDENTITY).index0.tolist() == []


def test_repeatability() -> None:
    shift = Plane(np.array([[1.0, 0, 100.0], [0, 1.0, 0], [0, 0, 1.0]]), (20.0, 30.0))
    points0 = [[50.0, 50.0], [80.0, 50.0], [300.0, 50.0], [25.0, 50.0], [52.0, 50.0]]
    points1 = [[151.0, 51.0], [183.0, 53.0], [40.0, 50.0]]
    labels = repeatability_labels(points0, points1, shift)
    # 1.4 px; 4.2 px; outside; unknown; 1.4 px again, as one keypoint may be found from two.
    assert labels.index0.tolist() == [1, 0, IGNORE, IGNORE, 1]
    assert labels.index1.tolist() == [1, 0, IGNORE]
    masked = repeatability_labels(points0, points1, shift, mask1=[False, True, True])
    assert masked.index0.tolist() == [0, 0, IGNORE, IGNORE, 0] and masked.index1.tolist() == [IGNORE, 0, IGNORE]
    assert repeatability_labels(points0, points1, shift, radius=4.5).index0[1] == 1


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match="near=6"):
        assignment_labels(scattered(3, 0), scattered(3, 1), IDENTITY, near=6.0)
    with pytest.raises(ConfigError, match="radius"):
        repeatability_labels(scattered(3, 0), scattered(3, 1), IDENTITY, radius=0.0)
    with pytest.raises(InputError, match="points1"):
        assignment_labels(scattered(3, 0), np.zeros((3, 3)), IDENTITY)
    with pytest.raises(InputError, match="mask of points0"):
        assignment_labels(scattered(3, 0), scattered(3, 1), IDENTITY, mask0=[True])
