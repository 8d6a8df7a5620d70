"""What becomes of matches in learned refinement: covariances, kept coarse places, and a whole frontend with both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from slamfeat.backbones.load import parse_device
from slamfeat.engines.torch_engine import TorchEngine
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.grid_choice import layers_of
from slamfeat.frontend.heads.bundle import Heads, HeadsAbout
from slamfeat.frontend.heads.refiner import PatchRefiner, Refined, RefinerConfig
from slamfeat.frontend.learned import RefinedMatches, refine_learned
from slamfeat.frontend.matcher import MatcherConfig
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.frontend.refine import RefineConfig
from slamfeat.types import Features

SIZE = 500
TURN = 1.3 * torch.tensor([[0.8, -0.6], [0.6, 0.8]])  # rotation and zoom
CHOLESKY = torch.tensor([-1.0, 0.5, 0.3])
SHAPE = torch.tensor([[0.13533528, 0.11036383], [0.11036383, 2.80828183]])  # L L^T of it
OFF = torch.tensor([20.0, -15.0])


class ToldRefiner(PatchRefiner):
    """Moves nothing, and is sure where it was told to be; it is asked about pairs of places."""

    def __init__(self, sure: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(RefinerConfig())
        self.sure = sure

    def refine(
        self, image0: Tensor, image1: Tensor, points0: Tensor, points1: Tensor, affine: Tensor
    ) -> tuple[Tensor, Refined]:
        """As the real one."""
        logit = torch.where(self.sure(points0, points1), 5.0, -5.0)
        return points1, Refined(torch.zeros_like(points0), CHOLESKY.expand(len(points0), 3), logit)


def places() -> tuple[Tensor, Tensor]:
    """49 points far from one another, and where they are in the other image."""
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    points0 = 45 * torch.stack([x.flatten(), y.flatten()], 1) + 40
    return points0, (points0 - 175) @ TURN.T + 250


def near_truth(points0: Tensor, points1: Tensor) -> Tensor:
    return (points1 - ((points0 - 175) @ TURN.T + 250)).norm(dim=1) < 3


def refine(
    points1: Tensor, known: Tensor, sure: Callable[[Tensor, Tensor], Tensor], **settings: bool
) -> RefinedMatches:
    gray = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    config = RefineConfig(method="learned", **settings)  # type: ignore[arg-type]  # checked by the class
    return refine_learned(gray, gray, places()[0], points1, known, ToldRefiner(sure).eval(), config)


def some(*chosen: int) -> Tensor:
    mask = torch.zeros(49, dtype=torch.bool)
    mask[list(chosen)] = True
    return mask


def test_covariances_are_those_of_l_seen_through_the_affine() -> None:
    generator = torch.Generator().manual_seed(0)
    affine, cholesky = torch.randn(5, 2, 2, generator=generator), torch.randn(5, 3, generator=generator)
    found = Refined(torch.zeros(5, 2), cholesky, torch.zeros(5)).covariances(affine)
    for matrix, (first, second, lower), covariance in zip(affine, cholesky, found, strict=True):
        factor = torch.tensor([[first.exp(), 0.0], [lower, second.exp()]])
        torch.testing.assert_close(covariance, matrix @ factor @ factor.T @ matrix.T)


def test_covariances_turn_and_grow_with_the_image() -> None:
    _, points1 = places()
    found = refine(points1, ~some(), near_truth)
    inside = ((points1 >= 0) & (points1 <= SIZE - 1)).all(1)
    assert torch.equal(found.kept, inside) and inside.sum() > 30
    wanted = (TURN @ SHAPE @ TURN.T).expand(49, 2, 2)
    torch.testing.assert_close(found.covariances, wanted, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("fill", [True, False])
def test_without_keep_what_is_rejected_is_dropped(fill: bool) -> None:
    _, points1 = places()
    hopeless = places()[0][24]
    found = refine(points1, ~some(), lambda p0, p1: near_truth(p0, p1) & (p0 != hopeless).any(1), fill=fill)
    assert not found.kept[24] and found.kept[[17, 23, 25, 31]].all()


@pytest.mark.parametrize("fill", [True, False])
def test_keep_keeps_the_coarse_place_of_what_is_rejected(fill: bool) -> None:
    points0, points1 = places()
    points1[24] += 1
    found = refine(
        points1, ~some(), lambda p0, p1: near_truth(p0, p1) & (p0 != points0[24]).any(1), fill=fill, keep=True
    )
    assert found.kept[24] and torch.equal(found.points1[24], points1[24])
    torch.testing.assert_close(found.covariances[24], 4 * torch.eye(2))
    assert found.confidence[24] < 0.5
    plain = refine(points1, ~some(24), near_truth, fill=False)
    assert torch.equal(found.kept[plain.kept], plain.kept[plain.kept])
    torch.testing.assert_close(found.covariances[plain.kept], plain.covariances[plain.kept], rtol=0.03, atol=0.03)


def test_a_confident_place_by_the_neighbours_wins_over_a_kept_coarse_one() -> None:
    _, truth = places()
    points1 = truth.clone()
    points1[24] += OFF
    found = refine(points1, ~some(), near_truth, keep=True)
    assert found.kept[24] and found.confidence[24] > 0.5
    assert (found.points1[24] - truth[24]).norm() < 1
    torch.testing.assert_close(found.covariances[24], TURN @ SHAPE @ TURN.T, rtol=0.05, atol=0.05)
    unfilled = refine(points1, ~some(), near_truth, keep=True, fill=False)
    assert torch.equal(unfilled.points1[24], points1[24]) and unfilled.confidence[24] < 0.5


def test_kept_coarse_places_guide_no_neighbours() -> None:
    """Half of the matches are off, all alike; what has no match yet follows the sure ones."""
    _, truth = places()
    points1 = truth.clone()
    wrong = some(*range(0, 49, 2)) & ~some(24)
    points1[wrong] += OFF
    found = refine(points1, ~some(24), lambda p0, p1: near_truth(p0, p1) & ~_among(p0, wrong), keep=True)
    assert found.kept[24] and (found.points1[24] - truth[24]).norm() < 1


def _among(points0: Tensor, chosen: Tensor) -> Tensor:
    return (points0[:, None] == places()[0][chosen][None]).all(2).any(1)


def test_keep_invents_nothing() -> None:
    """Neither a match that the matcher never made, nor one outside of the image."""
    _, points1 = places()
    points1[17] = torch.tensor([-3.0, 100.0])

    def sure(p0: Tensor, p1: Tensor) -> Tensor:
        return near_truth(p0, p1) & ~_among(p0, some(17, 24))

    found = refine(points1, ~some(24), sure, keep=True)
    assert not found.kept[17] and not found.kept[24]


def test_too_few_matches_to_refine_are_kept_as_they_are() -> None:
    _, points1 = places()
    few = some(16, 17, 18, 23, 24, 25)
    assert not refine(points1, few, near_truth).kept.any()
    found = refine(points1, few, near_truth, keep=True)
    assert torch.equal(found.kept, few) and torch.equal(found.points1[few], points1[few])
    torch.testing.assert_close(found.covariances[few], 4 * torch.eye(2).expand(6, 2, 2))


@pytest.fixture(scope="module")
def frontend() -> Frontend:
    """With a refiner that knows nothing."""
    torch.manual_seed(11)
    backbone = load_pretrained("default", parse_device("cpu"))[0]
    layer = layers_of(backbone, FrontendConfig())[0]
    heads = Heads(HeadsAbout(backbone.name, layer, "xfeat", refiner=RefinerConfig()))
    config = FrontendConfig(num_keypoints=150, matcher=MatcherConfig("mutual"), refine=RefineConfig("learned"))
    return Frontend(backbone, config, engine=TorchEngine(backbone, layers_of(backbone, config)), heads=heads)


@pytest.fixture(scope="module")
def pair(frontend: Frontend, sample: Path) -> tuple[Features, Features]:
    frames = sorted((sample / "rgb").iterdir())
    return frontend.extract(frames[0]), frontend.extract(frames[2])


def refining(frontend: Frontend, **settings: object) -> Frontend:
    config = replace(frontend.config, refine=RefineConfig(**settings))  # type: ignore[arg-type]  # checked by the class
    return Frontend(frontend.backbone, config, engine=frontend.engine, heads=frontend.heads)


def test_matches_carry_covariances(frontend: Frontend, pair: tuple[Features, Features]) -> None:
    matches = refining(frontend, method="learned", min_confidence=0.0).match(*pair)
    assert matches.covariances is not None and matches.covariances.shape == (1, 150, 2, 2)
    assert 20 < len(matches) < 150
    assert (torch.linalg.eigvalsh(matches.covariances[matches.mask]) > 0).all()
    assert (matches.covariances[~matches.mask] == 0).all()


@pytest.mark.parametrize("method", ["lk", "none"])
def test_other_refinements_say_nothing_of_covariances(
    method: str, frontend: Frontend, pair: tuple[Features, Features]
) -> None:
    assert refining(frontend, method=method).match(*pair).covariances is None


def test_covariances_can_be_left_out(frontend: Frontend, pair: tuple[Features, Features]) -> None:
    plain, told = (
        refining(frontend, method="learned", min_confidence=0.0, covariances=wanted).match(*pair)
        for wanted in (False, True)
    )
    assert plain.covariances is None and torch.equal(plain.points1, told.points1)


def test_a_refiner_that_is_never_sure_leaves_the_coarse_matches(
    frontend: Frontend, pair: tuple[Features, Features]
) -> None:
    coarse = refining(frontend, method="none").match(*pair)
    kept = refining(frontend, method="learned", min_confidence=1.1, keep=True).match(*pair)
    assert len(coarse) > 20 and torch.equal(kept.mask, coarse.mask) and torch.equal(kept.points1, coarse.points1)
    assert kept.covariances is not None
    torch.testing.assert_close(kept.covariances, 4 * torch.eye(2) * kept.mask[..., None, None])
    assert len(refining(frontend, method="learned", min_confidence=1.1).match(*pair)) == 0
