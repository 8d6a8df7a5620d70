"""The learned matcher: attention among the keypoints of both images, with the backbone's tokens led into every layer.

LightGlue's architecture (Lindenberger et al., ICCV 2023) with two additions, both zero at the start, so that a matcher
with LightGlue's weights *is* LightGlue until training moves it: the tokens at the keypoints are added to the states
before every layer, and the tokens' similarity across the images to the logits of cross attention and assignment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.errors import ConfigError
from slamfeat.frontend.heads.assignment import NEVER, AssignmentHead, Scores, empty_slots
from slamfeat.frontend.heads.attention import CrossBlock, FourierEncoding, SelfBlock

_TOKEN_SCALE = 10.0  # similarities of tokens lie within -1..1, logits of attention within tens


@dataclass
class AttentionConfig:
    """Size of the matcher.

    Attributes:
        input_dim: channels of the fine descriptors.
        token_dim: channels of the tokens at the keypoints; 0 for a matcher without tokens.
        token_width: channels between the tokens and the layers, shared by all layers.
        dim: width of the states.
        layers: pairs of self and cross attention.
        heads: of the attention; each has an even number of channels.
    """

    input_dim: int = 64
    token_dim: int = 384
    token_width: int = 96
    dim: int = 96
    layers: int = 6
    heads: int = 1

    def __post_init__(self) -> None:
        if min(self.input_dim, self.dim, self.layers, self.heads, self.token_width) < 1 or self.token_dim < 0:
            raise ConfigError("matcher: input_dim, dim, layers, heads, token_width >= 1 and token_dim >= 0 are needed")
        if self.dim % (2 * self.heads):
            raise ConfigError(f"matcher: dim {self.dim} must be a multiple of twice the heads, {2 * self.heads}")


class MatcherInput(NamedTuple):
    """One image of each pair of a batch.

    Attributes:
        positions: (B, K, 2) keypoints, brought to about -1..1 by `normalize_positions`.
        descriptors: (B, K, input_dim).
        tokens: (B, K, token_dim) at the keypoints, of unit length; None for a matcher without tokens.
        mask: (B, K) bool, filled slots.
    """

    positions: Tensor
    descriptors: Tensor
    tokens: Tensor | None
    mask: Tensor


def normalize_positions(keypoints: Tensor, image_size: Tensor) -> Tensor:
    """Keypoints (B, K, 2) in pixels from the image's middle, over half its longer side; `image_size` (B, 2) as (W, H).

    As LightGlue has it: half a pixel off from this package's convention, which only shifts all positions.
    """
    size = image_size.to(keypoints)
    return (keypoints - size[:, None] / 2) / (size.amax(1)[:, None, None] / 2)


class _TokenInput(nn.Module):
    """Leads tokens into the states: a shared narrow layer, then one matrix a layer that starts at zero."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.token_dim)
        self.narrow = nn.Linear(config.token_dim, config.token_width)
        matrices = [nn.Linear(config.token_width, config.dim) for _ in range(config.layers)]
        for matrix in matrices:
            nn.init.zeros_(matrix.weight)
            nn.init.zeros_(matrix.bias)
        self.into_layer = nn.ModuleList(matrices)
        self.into_cross = nn.Parameter(torch.zeros(config.layers, config.heads))
        self.into_similarity = nn.Parameter(torch.zeros(config.layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, K, token_dim) to hints (B, K, token_width) for all layers."""
        return F.gelu(self.narrow(self.norm(tokens)))


class _Shared(NamedTuple):
    """What all layers of a pair use.

    Attributes:
        within0, within1: biases (B, 1, 1, K) that hide empty slots; None where there are none.
        forbidden: (B, K0, K1) likewise for pairs.
        alike: (B, K0, K1) similarity of the tokens, None without tokens.
        hints0, hints1: (B, K, token_width) for the states, None without tokens.
    """

    within0: Tensor | None
    within1: Tensor | None
    forbidden: Tensor | None
    alike: Tensor | None
    hints0: Tensor | None
    hints1: Tensor | None


class AttentionMatcher(nn.Module):
    """See the module. `forward` gives the last layer's scores, `layer_scores` every layer's, for training."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.config = config
        same = config.input_dim == config.dim
        self.input: nn.Module = nn.Identity() if same else nn.Linear(config.input_dim, config.dim)
        self.encoding = FourierEncoding(config.dim // config.heads)
        self.within = nn.ModuleList(SelfBlock(config.dim, config.heads) for _ in range(config.layers))
        self.across = nn.ModuleList(CrossBlock(config.dim, config.heads) for _ in range(config.layers))
        self.assignment = nn.ModuleList(AssignmentHead(config.dim) for _ in range(config.layers))
        self.confidence = nn.ModuleList(nn.Linear(config.dim, 1) for _ in range(config.layers - 1))
        self.tokens = _TokenInput(config) if config.token_dim else None

    def forward(self, image0: MatcherInput, image1: MatcherInput) -> Scores:
        """Scores of all pairs of keypoints after the last layer."""
        shared = self._share(image0, image1)
        *_, (state0, state1) = self._states(image0, image1, shared)
        return self._score(self.config.layers - 1, state0, state1, shared)

    def layer_scores(
        self, image0: MatcherInput, image1: MatcherInput, layers: Collection[int]
    ) -> Iterator[tuple[int, Scores]]:
        """Number and scores of each of some layers, in order."""
        shared = self._share(image0, image1)
        for layer, (state0, state1) in enumerate(self._states(image0, image1, shared)):
            if layer in layers:
                yield layer, self._score(layer, state0, state1, shared)

    def _share(self, image0: MatcherInput, image1: MatcherInput) -> _Shared:
        forbidden = empty_slots(image0.mask, image1.mask)
        within0, within1 = (None, None) if forbidden is None else (_hide(image0.mask), _hide(image1.mask))
        if self.tokens is None or image0.tokens is None or image1.tokens is None:
            return _Shared(within0, within1, forbidden, None, None, None)
        alike = _TOKEN_SCALE * image0.tokens @ image1.tokens.mT
        return _Shared(within0, within1, forbidden, alike, self.tokens(image0.tokens), self.tokens(image1.tokens))

    def _states(self, image0: MatcherInput, image1: MatcherInput, shared: _Shared) -> Iterator[tuple[Tensor, Tensor]]:
        state0, state1 = self.input(image0.descriptors), self.input(image1.descriptors)
        encoding0, encoding1 = self.encoding(image0.positions), self.encoding(image1.positions)
        for layer, (within, across) in enumerate(zip(self.within, self.across, strict=True)):
            if self.tokens is not None and shared.hints0 is not None:
                into = self.tokens.into_layer[layer]
                state0, state1 = state0 + into(shared.hints0), state1 + into(shared.hints1)
            state0, state1 = within(state0, encoding0, shared.within0), within(state1, encoding1, shared.within1)
            bias = self._cross_bias(layer, shared)
            state0, state1 = across(state0, state1, bias, None if bias is None else bias.mT)
            yield state0, state1

    def _cross_bias(self, layer: int, shared: _Shared) -> Tensor | None:
        bias = None if shared.forbidden is None else shared.forbidden[:, None]
        if self.tokens is None or shared.alike is None:
            return bias
        weighted = shared.alike[:, None] * self.tokens.into_cross[layer][:, None, None]
        return weighted if bias is None else weighted + bias

    def _score(self, layer: int, state0: Tensor, state1: Tensor, shared: _Shared) -> Scores:
        bias = shared.forbidden
        if self.tokens is not None and shared.alike is not None:
            weighted = shared.alike * self.tokens.into_similarity[layer]
            bias = weighted if bias is None else weighted + bias
        scores: Scores = self.assignment[layer](state0, state1, bias)
        if shared.within0 is None or shared.within1 is None:
            return scores
        hidden0, hidden1 = shared.within0[:, 0, 0], shared.within1[:, 0, 0]
        return Scores(scores.similarity, scores.matchable0 + hidden0, scores.matchable1 + hidden1)


def _hide(mask: Tensor) -> Tensor:
    """Bias (B, 1, 1, K) that hides an image's empty slots from its own keypoints."""
    return mask.logical_not()[:, None, None] * NEVER
