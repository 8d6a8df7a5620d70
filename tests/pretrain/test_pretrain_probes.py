"""Probes against what is known: warps with exact answers, ranks of made-up features, classes that can be told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.pretrain.probes.classes import knn_accuracy, linear_accuracy
from slamfeat.pretrain.probes.correspondence import correspondence_accuracy, draw_warp, warp
from slamfeat.pretrain.probes.features import Described, by_pixels, squares
from slamfeat.pretrain.probes.spread import effective_rank, mean_cosine, nearest_entropy


def square(photo: np.ndarray, size: int = 224) -> Tensor:
    return next(squares([photo], size, 1))[0]


def by_place(images: Tensor) -> Described:
    """Sees through the warp: each pixel's colour says where it was at first."""
    cells = F.avg_pool2d(images, 14)
    red, green = cells[:, 0], cells[:, 1]
    angles = [2 * math.pi * k * part / 4 for part in (red, green) for k in (1, 2, 3)]
    found = torch.stack([wave for angle in angles for wave in (angle.sin(), angle.cos())], 1)
    return Described(found.flatten(1), found)


def test_who_knows_the_place_finds_it() -> None:
    ramp = torch.linspace(0, 1, 224)
    places = torch.stack([ramp.expand(224, 224), ramp[:, None].expand(224, 224), torch.zeros(224, 224)])
    assert correspondence_accuracy(by_place, [places], 14, strength=0.1, light=0.0) > 0.9
    assert correspondence_accuracy(by_place, [places], 14, strength=0.0, light=0.0) == 1.0


def test_who_knows_nothing_guesses(photo: np.ndarray) -> None:
    def noise(images: Tensor) -> Described:
        found = torch.randn(len(images), 32, 16, 16, generator=torch.Generator().manual_seed(1))
        return Described(found.flatten(1), found)

    chance = correspondence_accuracy(noise, [square(photo)] * 8, 14, strength=0.1)
    assert 0 < chance < 3 * 9 / 256  # nine cells of 256 lie within one cell of a place
    pixels = correspondence_accuracy(by_pixels(14), [square(photo)], 14, strength=0.0, light=0.0)
    assert pixels == 1.0
    assert correspondence_accuracy(by_pixels(14), [square(photo)], 14) < 0.7
    assert math.isnan(correspondence_accuracy(noise, [], 14))


def test_warps_move_pixels_where_they_say(photo: np.ndarray) -> None:
    homography = draw_warp(224, 0.2, np.random.default_rng(0))
    dot = torch.zeros(3, 224, 224)
    dot[:, 100:103, 60:63] = 1.0  # centred on (61, 101)
    seen = warp(dot, homography)[0]
    x, y, w = homography @ np.array([61.0, 101.0, 1.0])
    rows, columns = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    found = float((seen * columns).sum() / seen.sum()), float((seen * rows).sum() / seen.sum())
    assert np.abs(np.array(found) - np.array([x / w, y / w])).max() < 0.5


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_rank_is_the_number_of_directions(rank: int) -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(400, rank, generator=generator)).Q
    features = basis @ torch.linalg.qr(torch.randn(32, rank, generator=generator)).Q.T
    assert effective_rank(features) == pytest.approx(rank, rel=0.01)


def test_spread_of_known_features() -> None:
    equal = torch.ones(10, 8)
    assert mean_cosine(equal) == pytest.approx(1.0) and nearest_entropy(equal) < -5
    axes = torch.eye(8)
    assert mean_cosine(axes) == pytest.approx(0.0) and nearest_entropy(axes) == pytest.approx(math.log(math.sqrt(2)))
    rows = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    unit = F.normalize(rows.double(), dim=1)
    pairs = [float(unit[i] @ unit[j]) for i in range(50) for j in range(50) if i != j]
    assert mean_cosine(rows) == pytest.approx(np.mean(pairs))


def test_classes_that_can_be_told_apart() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 16))
    labels = torch.from_numpy(rng.integers(0, 4, 300))
    features = torch.from_numpy(centres[labels] + 0.4 * rng.normal(size=(300, 16))).float()
    known, asked = slice(0, 200), slice(200, 300)
    given = (features[known], labels[known], features[asked], labels[asked])
    assert knn_accuracy(*given) > 0.95 and linear_accuracy(*given) > 0.95
    shuffled = (features[known], labels[torch.randperm(200)], features[asked], labels[asked])
    assert knn_accuracy(*shuffled) < 0.45 and linear_accuracy(*shuffled) < 0.45


def test_neighbours_vote_by_their_likeness() -> None:
    """One near neighbour outvotes three far ones at a low temperature, and not at a high one."""
    known = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.05, 1.0], [-0.05, 1.0]])
    labels, asked = torch.tensor([0, 1, 1, 1]), torch.tensor([[1.0, 0.2]])
    answer = torch.tensor([0])
    assert knn_accuracy(known, labels, asked, answer, neighbours=4, temperature=0.07) == 1.0
    assert knn_accuracy(known, labels, asked, answer, neighbours=4, temperature=10.0) == 0.0
    assert knn_accuracy(known, labels, asked, answer, neighbours=1, temperature=10.0) == 1.0
