"""The attention matcher against kornia's LightGlue with the published weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from slamfeat.bench.peer_models import build_lightglue
from slamfeat.config import load_config
from slamfeat.errors import WeightsError
from slamfeat.frontend.heads.lightglue_weights import load_lightglue
from slamfeat.frontend.heads.matcher import AttentionConfig, AttentionMatcher, MatcherInput, normalize_positions
from slamfeat.train.cache import PairCache
from slamfeat.train.recipe import HeadsRecipe
from slamfeat.train.recipe_files import find_recipe
from slamfeat.train.stages import KINDS

Published = Callable[[str], Mapping[str, Tensor]]
SMALL: dict[str, Any] = {"input_dim": 64, "dim": 96, "layers": 6, "heads": 1}
FULL: dict[str, Any] = {"input_dim": 128, "dim": 256, "layers": 9, "heads": 4, "token_width": 128}
PEERS = {
    "xfeat-lighterglue": (SMALL, {"input_dim": 64, "descriptor_dim": 96, "n_layers": 6, "num_heads": 1}),
    "aliked-lightglue": (FULL, {"input_dim": 128, "descriptor_dim": 256, "n_layers": 9, "num_heads": 4}),
}
SIZE = torch.tensor([[640, 480]])


def scene(count0: int, count1: int, channels: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Keypoints, descriptors and tokens of two images whose first keypoints belong together."""
    generator = torch.Generator().manual_seed(3)
    shared = torch.randn(1, min(count0, count1), channels, generator=generator, dtype=torch.float64)
    out = []
    for count in (count0, count1):
        keypoints = torch.rand(1, count, 2, generator=generator).double() * torch.tensor([640.0, 480.0])
        noise = torch.randn(1, count, channels, generator=generator).double()
        noise[:, : shared.shape[1]] = 0.9 * shared + 0.4 * noise[:, : shared.shape[1]]
        tokens = torch.nn.functional.normalize(torch.randn(1, count, 384, generator=generator).double(), dim=2)
        out.append((keypoints, torch.nn.functional.normalize(noise, dim=2), tokens))
    return out


def inputs(count0: int, count1: int, channels: int) -> list[MatcherInput]:
    return [
        MatcherInput(normalize_positions(points, SIZE), values, tokens, torch.ones(points.shape[:2], dtype=torch.bool))
        for points, values, tokens in scene(count0, count1, channels)
    ]


def padded(image: MatcherInput, empty: int) -> MatcherInput:
    """The same with empty slots full of rubbish."""
    pad = torch.nn.functional.pad
    positions, descriptors, tokens = (pad(x, (0, 0, 0, empty), value=0.7) for x in image[:3] if x is not None)
    return MatcherInput(positions, descriptors, tokens, pad(image.mask, (0, empty)))


def check_same_as_lightglue(matcher: AttentionMatcher, name: str) -> None:
    """Against kornia's with the published weights of a name, to 1e-5 of every probability."""
    reference = build_lightglue(
        name, leftovers=r"extractor\..*", **PEERS[name][1], depth_confidence=-1, width_confidence=-1,
        filter_threshold=0.1,
    )  # fmt: skip
    reference, matcher = reference.double(), matcher.double()  # in single precision both round, differently
    (points0, values0, _), (points1, values1, _) = scene(150, 170, matcher.config.input_dim)
    image0, image1 = inputs(150, 170, matcher.config.input_dim)
    with torch.inference_mode():
        wanted = reference(
            {
                "image0": {"keypoints": points0, "descriptors": values0, "image_size": SIZE},
                "image1": {"keypoints": points1, "descriptors": values1, "image_size": SIZE},
            }
        )["log_assignment"]
        found = matcher(image0, image1)
    torch.testing.assert_close(found.log_assignment().exp(), wanted[:, :-1, :-1].exp(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.matchable0.sigmoid().neg(), wanted[:, :-1, -1].exp() - 1, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PEERS)
def test_with_published_weights_it_is_lightglue(name: str, published: Published) -> None:
    matcher = AttentionMatcher(AttentionConfig(**PEERS[name][0])).eval()
    load_lightglue(matcher, published(name))
    check_same_as_lightglue(matcher, name)


@pytest.mark.parametrize(
    ("recipe", "name"), [("cpu_full", "xfeat-lighterglue"), ("cpu_full_aliked", "aliked-lightglue")]
)
def test_before_its_first_step_a_recipes_matcher_is_lightglue(
    recipe: str, name: str, published: Published, tmp_path: Path
) -> None:
    """With the tokens in it."""
    published(name)
    channels = PEERS[name][0]["input_dim"]
    fields = {"tokens0": ((1, 384), "float16"), "descriptors0": ((1, channels), "float16")}
    cache = PairCache.create(tmp_path, 1, fields, {})
    task = KINDS["matcher"].task(load_config(HeadsRecipe, find_recipe(recipe)), cache, cache)
    matcher = task.module.eval()
    assert isinstance(matcher, AttentionMatcher) and matcher.tokens is not None
    check_same_as_lightglue(matcher, name)


def test_empty_slots_change_nothing() -> None:
    matcher = AttentionMatcher(AttentionConfig(**SMALL)).eval().double()
    assert matcher.tokens is not None
    torch.nn.init.normal_(matcher.tokens.into_cross, std=0.1)
    torch.nn.init.normal_(matcher.tokens.into_layer[0].weight, std=0.1)
    image0, image1 = inputs(40, 50, 64)
    with torch.inference_mode():
        wanted = matcher(image0, image1).log_assignment()
        found = matcher(padded(image0, 7), padded(image1, 3)).log_assignment()
    torch.testing.assert_close(found[:, :40, :50], wanted, atol=1e-4, rtol=1e-4)
    assert bool((found[:, 40:].exp() < 1e-6).all()) and bool((found[:, :, 50:].exp() < 1e-6).all())


def test_tokens_move_the_result_as_soon_as_they_are_let_in() -> None:
    matcher = AttentionMatcher(AttentionConfig(**SMALL)).eval().double()
    image0, image1 = inputs(40, 50, 64)
    before = matcher(image0, image1).similarity
    loss = matcher(image0, image1).log_assignment()[0, 0, 0]
    loss.backward()
    assert matcher.tokens is not None
    for parameter in (matcher.tokens.into_cross, matcher.tokens.into_similarity, matcher.tokens.into_layer[2].weight):
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0
        with torch.no_grad():
            parameter += 0.1
    assert (matcher(image0, image1).similarity - before).abs().max() > 1e-3


def test_weights_of_another_size_are_refused(published: Published) -> None:
    with pytest.raises(WeightsError, match="another LightGlue"):
        load_lightglue(AttentionMatcher(AttentionConfig(**SMALL)), published("aliked-lightglue"))
