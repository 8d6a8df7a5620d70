"""Fewer layers, early exit and pruning of the matcher."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from slamfeat.errors import ConfigError
from slamfeat.frontend.heads.adaptive import Effort, adaptive_scores
from slamfeat.frontend.heads.assignment import Scores, mutual_matches
from slamfeat.frontend.heads.matcher import AttentionConfig, AttentionMatcher, MatcherInput

CONFIG = AttentionConfig(input_dim=16, token_dim=24, token_width=16, dim=32, layers=4, heads=2)


@pytest.fixture
def matcher() -> AttentionMatcher:
    """With tokens let in."""
    torch.manual_seed(5)
    matcher = AttentionMatcher(CONFIG).eval().double()
    assert matcher.tokens is not None
    for part in (*matcher.tokens.into_layer,):
        nn.init.normal_(part.weight, std=0.1)
    nn.init.normal_(matcher.tokens.into_cross, std=0.1)
    nn.init.normal_(matcher.tokens.into_similarity, std=0.1)
    return matcher


def image(count: int, seed: int, empty: int = 0, batch: int = 2) -> MatcherInput:
    generator = torch.Generator().manual_seed(seed)

    def values(channels: int) -> Tensor:
        return torch.randn(batch, count, channels, generator=generator, dtype=torch.float64)

    mask = (torch.arange(count) < count - empty).expand(batch, -1)
    return MatcherInput(values(2) / 2, values(16), values(24) / 5, mask)


def assert_same(found: Scores, wanted: Scores) -> None:
    torch.testing.assert_close(found.log_assignment().exp(), wanted.log_assignment().exp(), atol=1e-9, rtol=1e-6)
    for one, other in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(one.sigmoid(), other.sigmoid(), atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("effort", [Effort(exit=1.0), Effort(prune=1.0), Effort(exit=1.0, prune=1.0)])
def test_thresholds_that_nothing_reaches_change_nothing(matcher: AttentionMatcher, effort: Effort) -> None:
    images = image(20, 1, empty=3), image(25, 2)
    with torch.inference_mode():
        assert_same(adaptive_scores(matcher, *images, effort), matcher(*images))


def test_fewer_layers_are_those_that_deep_supervision_sees(matcher: AttentionMatcher) -> None:
    images = image(20, 1), image(25, 2, empty=4)
    with torch.inference_mode():
        each = dict(matcher.layer_scores(*images, range(4)))
        for layers in (1, 3):
            assert_same(matcher(*images, layers), each[layers - 1])
            assert_same(adaptive_scores(matcher, *images, Effort(layers)), each[layers - 1])
        assert_same(matcher(*images, 0), each[3])
        assert_same(matcher(*images), each[3])
    with pytest.raises(ConfigError, match=r"matcher\.layers"):
        matcher(*images, 5)


def test_it_stops_where_most_keypoints_are_settled(matcher: AttentionMatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """The confidence heads say so after the second layer, beyond which the layers would change nothing anyway."""
    with torch.no_grad():
        for layer in (2, 3):  # nothing is added to the states
            for block in (matcher.within[layer], matcher.across[layer]):
                block.update.narrow.weight.zero_()
                block.update.narrow.bias.zero_()
            matcher.tokens.into_layer[layer].weight.zero_()  # type: ignore[union-attr]
            matcher.tokens.into_layer[layer].bias.zero_()  # type: ignore[union-attr]
            matcher.tokens.into_similarity[layer] = matcher.tokens.into_similarity[1]  # type: ignore[union-attr]
            matcher.assignment[layer].load_state_dict(matcher.assignment[1].state_dict())
        for layer, bias in enumerate((-9.0, 9.0, 9.0)):
            matcher.confidence[layer].weight.zero_()
            matcher.confidence[layer].bias.fill_(bias)
    images = image(20, 1), image(25, 2, empty=4)
    done: list[int] = []
    step = matcher.step
    monkeypatch.setattr(matcher, "step", lambda layer, *rest: (done.append(layer), step(layer, *rest))[1])
    with torch.inference_mode():
        found = adaptive_scores(matcher, *images, Effort(exit=0.95))
        assert done == [0, 1] * 2  # two pairs
        assert_same(found, matcher(*images))


def test_keypoints_without_a_partner_are_dropped(matcher: AttentionMatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        for layer in range(3):
            matcher.confidence[layer].weight.zero_()
            matcher.confidence[layer].bias.fill_(9.0)
    images = image(30, 1, empty=2, batch=1), image(40, 2, batch=1)
    counts: list[int] = []
    step = matcher.step
    monkeypatch.setattr(
        matcher, "step", lambda layer, states, shared: (counts.append(states.shape[1]), step(layer, states, shared))[1]
    )
    with torch.inference_mode():
        found = adaptive_scores(matcher, *images, Effort(prune=0.5))
    assert counts[0] == 40 and counts[-1] < 40 and counts == sorted(counts, reverse=True)
    assert found.similarity.shape == (1, 30, 40) and found.matchable0.shape == (1, 30)
    dropped = found.matchable0[0] <= -1e4
    assert bool(dropped[28:].all()) and 2 < int(dropped.sum()) < 30
    indices, _ = mutual_matches(found, 0.0)
    assert bool((indices[0, dropped] == -1).all())


def test_matches_are_those_of_the_log_assignment() -> None:
    """Whose sums are taken apart when matches are looked for."""
    generator = torch.Generator().manual_seed(2)
    scores = Scores(*(4 * torch.randn(shape, generator=generator) for shape in ((2, 30, 20), (2, 30), (2, 20))))
    log_p = scores.log_assignment()
    best, wanted = log_p.max(2)
    mutual = log_p.argmax(1).gather(1, wanted) == torch.arange(30)
    keep = mutual & (best.exp() > 0.1)
    indices, probability = mutual_matches(scores, 0.1)
    assert torch.equal(indices, torch.where(keep, wanted, -1))
    torch.testing.assert_close(probability, torch.where(keep, best.exp(), 0.0))
