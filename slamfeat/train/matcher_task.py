"""Training the matcher, with the tokens let in, on prepared pairs; what came with weights moves slowly."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slamfeat.errors import ConfigError
from slamfeat.frontend.heads.describe import freeze
from slamfeat.frontend.heads.matcher import AttentionMatcher, MatcherInput, normalize_positions
from slamfeat.train.cache import PairCache
from slamfeat.train.draw import HELD_OUT_SEED, draw_views, first_of_batch, join_views, judged_layers
from slamfeat.train.losses import (
    assignment_divergence,
    deep_matching_nll,
    matching_nll,
    matching_quality,
    settled_losses,
)

Batch = dict[str, Tensor]
_OF_KEYPOINTS = ("keypoints", "descriptors", "tokens", "mask", "index")


@dataclass
class MatcherTaskConfig:
    """How the matcher is trained.

    Attributes:
        keypoints: of each image, drawn anew every time; at most the cache's slots.
        warm_scale: learning rate of all but the tokens' part, as a share of its rate; 0 freezes it. A matcher that
            begins without published weights wants 1.
        layers: how many layers but the last are judged a step, drawn at random (deep supervision); negative for all.
        swap: whether the two images of a pair trade places half of the time.
        held_out: pairs of the held-out cache that are looked at.
        teacher_weight: of the distance from the published matcher's own assignment on matches that it finds rightly, so
            that these are not forgotten; 0 for none.
    """

    keypoints: int = 512
    warm_scale: float = 0.05
    layers: int = 1
    swap: bool = True
    held_out: int = 128
    teacher_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.keypoints < 8 or not 0 <= self.warm_scale <= 1 or self.held_out < 1:
            raise ConfigError("matcher task: keypoints >= 8, 0 <= warm_scale <= 1 and held_out >= 1 are needed")
        if not 0 <= self.teacher_weight < float("inf"):
            raise ConfigError("matcher task: teacher_weight >= 0 is needed")


class MatcherTask:
    """A `slamfeat.train.task.Task` on prepared pairs."""

    size: int | None = None

    def __init__(
        self, config: MatcherTaskConfig, matcher: AttentionMatcher, cache: PairCache, held_out: PairCache
    ) -> None:
        """Train `matcher`, which may have published weights.

        Args:
            config: see the class.
            matcher: trained in place; as it is now it is the teacher too, where there is one.
            cache, held_out: of `MatcherPreparer`.
        """
        self.config, self.module, self.cache, self.held_out = config, matcher, cache, held_out
        self.frozen: Sequence[nn.Module] = [freeze(copy.deepcopy(matcher))] if config.teacher_weight else []
        for parameter in matcher.parameters():
            parameter.requires_grad_(True)
        if config.warm_scale == 0:
            for parameter in self._warm():
                parameter.requires_grad_(False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is new at the full rate, as the confidences; what came with weights at a share of it."""
        groups: list[dict[str, Any]] = []
        if len(self.module.confidence):
            groups.append({"params": list(self.module.confidence.parameters()), "name": "confidence"})
        if self.module.tokens is not None:
            groups.append({"params": list(self.module.tokens.parameters()), "name": "tokens"})
        if self.config.warm_scale > 0:
            groups.append({"params": self._warm(), "name": "warm", "lr_scale": self.config.warm_scale})
        return groups

    def batch(self, indices: Sequence[int]) -> Batch:
        """The pairs behind some sample numbers."""
        batch = self._batch(self.cache, indices, seed=0)
        return {**batch, "number": torch.tensor(first_of_batch(indices))}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """LightGlue's negative log-likelihood of the last layer and of some layers before it, and of their confidences.

        The latter move the confidences alone. A teacher's assignment is held to after the last layer.
        """
        images = self._inputs(batch)
        judged = judged_layers(self.config.layers, self.module.config.layers, int(batch["number"]))
        outputs = list(self.module.layer_outputs(*images, judged))
        told = deep_matching_nll([out.scores for out in outputs], batch["index0"], batch["index1"])
        settled = settled_losses(self.module, outputs, (batch["mask0"], batch["mask1"]))
        loss, parts = told.loss + settled, {"nll": told.statistics["nll"], "settled": settled.detach()}
        for teacher in self.frozen:  # one or none
            with torch.no_grad():
                wanted = teacher(*images)
            forgotten = assignment_divergence(outputs[-1].scores, wanted, batch["index0"])
            loss, parts = loss + self.config.teacher_weight * forgotten, parts | {"forgotten": forgotten.detach()}
        return loss, parts | matching_quality(outputs[-1].scores, batch["index0"])

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Held-out pairs: likelihood of the last layer, precision and recall; `score` is minus the likelihood."""
        rows: list[dict[str, float]] = []
        for start in range(0, min(self.config.held_out, self.held_out.count), 4):
            numbers = range(start, min(start + 4, self.held_out.count))
            batch = self._on_device(self._batch(self.held_out, numbers, HELD_OUT_SEED))
            scores = self.module(*self._inputs(batch))
            loss = matching_nll(scores, batch["index0"], batch["index1"]).loss
            quality = matching_quality(scores, batch["index0"])
            rows.append({"nll": float(loss), **{name: float(value) for name, value in quality.items()}})
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        return {"score": -means["nll"], **means}

    def _on_device(self, batch: Batch) -> Batch:
        device = next(self.module.parameters()).device
        return {name: value.to(device) for name, value in batch.items()}

    def _warm(self) -> list[nn.Parameter]:
        """Parameters that came with published weights, but for the confidences, which are cheap to learn anew."""
        return [p for name, p in self.module.named_parameters() if not name.startswith(("tokens.", "confidence."))]

    def _inputs(self, batch: Batch) -> tuple[MatcherInput, MatcherInput]:
        first, second = (
            MatcherInput(
                normalize_positions(batch[f"keypoints{i}"], batch[f"size{i}"]),
                batch[f"descriptors{i}"], batch[f"tokens{i}"], batch[f"mask{i}"],
            )
            for i in (0, 1)
        )  # fmt: skip
        return first, second

    def _batch(self, cache: PairCache, indices: Sequence[int], seed: int) -> Batch:
        values = cache.read([index % cache.count for index in indices])
        pairs = [self._draw(values, place, index, seed) for place, index in enumerate(indices)]
        return {name: torch.stack([pair[name] for pair in pairs]) for name in pairs[0]}

    def _draw(self, values: dict[str, Tensor], place: int, index: int, seed: int) -> Batch:
        """Some keypoints of one pair, with labels among them; the same for the same sample number."""
        rng = np.random.default_rng([seed, index])
        first, second = draw_views(values, place, self.config.keypoints, rng, _OF_KEYPOINTS, ("size",))
        if seed == 0 and self.config.swap and rng.random() < 0.5:
            first, second = second, first
        return join_views(first, second)
