"""Matching as a module of plain tensors, which exporters can trace."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from slamfeat.errors import ConfigError
from slamfeat.export.graphs import Graph
from slamfeat.frontend.frontend import Frontend
from slamfeat.frontend.learned import attention_matches
from slamfeat.frontend.matcher import MatcherConfig
from slamfeat.frontend.matching import descriptor_matches
from slamfeat.types import Features


class MatcherGraph(Graph):
    """Matching without refinement: from two sets of K slots to the index (B, K) of each one's match, -1 for none, and a
    score.

    The grids' tokens (B, C, h, w) are inputs where `matcher.gate` is below 1, or the learned matcher has been trained
    with tokens. The keypoints (B, K, 2) are looked at for the gate, for `matcher.radius`, and by the learned matcher.

    Args:
        frontend: whose settings, and whose learned matcher with `matcher.method=attention`.
        features0, features1: like those that will be matched, for the images' sizes and the maps to cells.

    Raises:
        ConfigError: a method that needs more, or decides pair by pair how much to compute.
    """

    outputs = ("indices0", "scores")

    def __init__(self, frontend: Frontend, features0: Features, features1: Features) -> None:
        super().__init__()
        self.config = frontend.config
        _check_method(self.config.matcher)
        heads = frontend.plain_heads if self.config.matcher.method == "attention" else None
        self.matcher = matcher = None if heads is None else heads.matcher
        self.with_tokens = self.config.matcher.gate < 1 if matcher is None else matcher.tokens is not None
        self.examples = features0, features1
        parts = ("keypoints", "descriptors", "mask", *(("tokens",) if self.with_tokens else ()))
        self.inputs = tuple(f"{part}{image}" for image in (0, 1) for part in parts)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        half = len(self.inputs) // 2
        features0 = self._features(inputs[:half], self.examples[0])
        features1 = self._features(inputs[half:], self.examples[1])
        if self.matcher is None:
            indices, scores = descriptor_matches(features0, features1, self.config)
        else:
            indices, scores = attention_matches(features0, features1, self.matcher, self.config.matcher)
        return indices, scores * (indices >= 0)

    def _features(self, inputs: tuple[Tensor, ...], example: Features) -> Features:
        keypoints, descriptors, mask = inputs[:3]
        assert example.grid is not None  # extract always gives one
        grid = replace(example.grid, tokens=inputs[3]) if self.with_tokens else None
        size = torch.tensor(example.image_size[0].tolist()).expand(mask.shape[0], 2)
        return Features(keypoints, mask.to(keypoints.dtype), descriptors, mask, size, grid)


def _check_method(config: MatcherConfig) -> None:
    if config.method == "guided":
        raise ConfigError(
            "frontend.matcher.method=guided looks tokens up one by one; export mutual, dual_softmax or, with heads, "
            "attention"
        )
    if config.method == "attention" and (config.exit or config.prune):
        raise ConfigError(
            "matcher.exit and matcher.prune decide pair by pair what to compute, which a graph cannot; "
            "export with matcher.exit=0 matcher.prune=0, and matcher.layers for less time"
        )
