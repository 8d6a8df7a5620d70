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
from slamfeat.frontend.heads.assignment import AssignmentHead, Scores, hide_empty
from slamfeat.frontend.heads.attention import CrossBlock, FourierEncoding, SelfBlock, halves, swap

_TOKEN_SCALE = 10.0  # similarities of tokens lie within -1..1, logits of attention within tens
_ALWAYS = ("positions", "descriptors", "mask")


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


class Shared(NamedTuple):
    """What all layers use; images of a batch of B pairs are stacked, all first ones before all second ones.

    Attributes:
        encoding: of the positions, see `FourierEncoding`.
        hidden: bias (2 B, 1, 1, K) that hides empty slots; None where there are none.
        alike: (2 B, K, K) similarity of each image's tokens (rows) with its partner's, None without tokens.
        hints: (2 B, K, token_width) for the states, None without tokens.
    """

    encoding: Tensor
    hidden: Tensor | None
    alike: Tensor | None
    hints: Tensor | None


class LayerOutput(NamedTuple):
    """What a matcher says after a layer.

    Attributes:
        layer: its number, from 0.
        scores: of all pairs of keypoints.
        states: (2 B, K, dim) of both images, stacked as by `stack`.
    """

    layer: int
    scores: Scores
    states: Tensor


class AttentionMatcher(nn.Module):
    """See the module. `forward` gives the last layer's scores, `layer_scores` those of several, for training."""

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

    def forward(self, image0: MatcherInput, image1: MatcherInput, layers: int | None = None) -> Scores:
        """Scores of all pairs of keypoints after the last layer, or after the first `layers`.

        Raises:
            ConfigError: the matcher has fewer layers.
        """
        last = self.depth(layers) - 1
        *_, (_, scores) = self.layer_scores(image0, image1, [last])
        return scores

    def depth(self, layers: int | None) -> int:
        """The number of layers to compute; None or 0 for all.

        Raises:
            ConfigError: more than there are.
        """
        if layers is not None and not 0 <= layers <= self.config.layers:
            raise ConfigError(f"matcher.layers: this matcher has {self.config.layers}, not {layers}; 0 takes all")
        return layers or self.config.layers

    def layer_scores(
        self, image0: MatcherInput, image1: MatcherInput, layers: Collection[int]
    ) -> Iterator[tuple[int, Scores]]:
        """Number and scores of each of some layers, in order; none beyond the last of them is computed."""
        return ((out.layer, out.scores) for out in self.layer_outputs(image0, image1, layers))

    def layer_outputs(
        self, image0: MatcherInput, image1: MatcherInput, layers: Collection[int]
    ) -> Iterator[LayerOutput]:
        """As `layer_scores`, with the states."""
        counts = image0.mask.shape[1], image1.mask.shape[1]
        states, shared = self.start(stack(image0, image1))
        for layer in range(max(layers, default=-1) + 1):
            states = self.step(layer, states, shared)
            if layer in layers:
                yield LayerOutput(layer, cut(self.score(layer, states, shared), counts), states)

    def confidences(self, output: LayerOutput, counts: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Logits (B, K0) and (B, K1) that what a layer says of a keypoint is final; gradients end at the states."""
        said: Tensor = self.confidence[output.layer](output.states.detach())[..., 0]
        first, second = halves(said)
        return first[:, : counts[0]], second[:, : counts[1]]

    def start(self, both: MatcherInput, any_mask: bool = False) -> tuple[Tensor, Shared]:
        """States (2 B, K, dim) before the first layer of images that `stack` made one, and what the layers use.

        With `any_mask` the arithmetic is the same for every mask: a traced graph does not look at masks.
        """
        alike = hints = None
        if self.tokens is not None and both.tokens is not None:
            alike = _TOKEN_SCALE * both.tokens @ swap(both.tokens).transpose(1, 2)
            hints = self.tokens(both.tokens)
        shared = Shared(self.encoding(both.positions), hide_empty(both.mask, any_mask), alike, hints)
        return self.input(both.descriptors), shared

    def step(self, layer: int, states: Tensor, shared: Shared) -> Tensor:
        """States after a layer."""
        if self.tokens is not None and shared.hints is not None:
            states = states + self.tokens.into_layer[layer](shared.hints)
        states = self.within[layer](states, shared.encoding, shared.hidden)
        updated: Tensor = self.across[layer](states, self._cross_bias(layer, shared))
        return updated

    def _cross_bias(self, layer: int, shared: Shared) -> Tensor | None:
        hidden = None if shared.hidden is None else swap(shared.hidden)
        if self.tokens is None or shared.alike is None:
            return hidden
        weighted = shared.alike[:, None] * self.tokens.into_cross[layer][:, None, None]
        return weighted if hidden is None else weighted + hidden

    def score(self, layer: int, states: Tensor, shared: Shared) -> Scores:
        """Scores by the assignment head of a layer, for both numbers of keypoints equal."""
        bias = None
        if self.tokens is not None and shared.alike is not None:
            bias = halves(shared.alike)[0] * self.tokens.into_similarity[layer]
        state0, state1 = halves(states)
        scores: Scores = self.assignment[layer](state0, state1, bias)
        if shared.hidden is None:
            return scores
        hidden0, hidden1 = halves(shared.hidden[:, 0, 0])
        similarity = scores.similarity + torch.minimum(hidden0[:, :, None], hidden1[:, None])
        return Scores(similarity, scores.matchable0 + hidden0, scores.matchable1 + hidden1)


def stack(image0: MatcherInput, image1: MatcherInput) -> MatcherInput:
    """Both images as one batch, the one with fewer slots filled up with empty ones."""
    count = max(image0.mask.shape[1], image1.mask.shape[1])
    filled = [_fill(image, count - image.mask.shape[1]) for image in (image0, image1)]
    tokens = None
    if filled[0].tokens is not None and filled[1].tokens is not None:
        tokens = torch.cat([filled[0].tokens, filled[1].tokens])
    positions, descriptors, mask = (torch.cat([getattr(image, name) for image in filled]) for name in _ALWAYS)
    return MatcherInput(positions, descriptors, tokens, mask)


def _fill(image: MatcherInput, empty: int) -> MatcherInput:
    if empty == 0:
        return image
    tokens = None if image.tokens is None else F.pad(image.tokens, (0, 0, 0, empty))
    positions, descriptors = (F.pad(values, (0, 0, 0, empty)) for values in (image.positions, image.descriptors))
    return MatcherInput(positions, descriptors, tokens, F.pad(image.mask, (0, empty)))


def cut(scores: Scores, counts: tuple[int, int]) -> Scores:
    """Scores without the slots that `stack` filled up."""
    if scores.similarity.shape[1:] == counts:
        return scores
    matchable0, matchable1 = scores.matchable0[:, : counts[0]], scores.matchable1[:, : counts[1]]
    return Scores(scores.similarity[:, : counts[0], : counts[1]], matchable0, matchable1)
