"""A small matcher's task on made-up pairs, and a program that trains it: python matcher_toys.py CACHE OUT KEY=VALUE ...

The program saves the gradients of its last step in OUT.grad-RANK.pt.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slamfeat.config import load_config
from slamfeat.frontend.heads.matcher import AttentionConfig, AttentionMatcher
from slamfeat.train.cache import PairCache
from slamfeat.train.config import LoopConfig
from slamfeat.train.loop import train
from slamfeat.train.matcher_task import MatcherTask, MatcherTaskConfig

SLOTS, DIM, TOKEN_DIM = 16, 8, 12
MODEL = AttentionConfig(input_dim=DIM, token_dim=TOKEN_DIM, token_width=6, dim=8, layers=5)


@dataclass
class MatcherToyConfig:
    """Settings of a run."""

    task: MatcherTaskConfig = field(default_factory=lambda: MatcherTaskConfig(keypoints=12, held_out=4))
    loop: LoopConfig = field(default_factory=LoopConfig)


class GradientTask(MatcherTask):
    """Keeps the gradients of the last step, by name."""

    gradients: dict[str, Tensor]

    def after_step(self, step: int) -> None:
        """The gradients are still there."""
        named = self.module.named_parameters()
        self.gradients = {name: value.grad.clone() for name, value in named if value.grad is not None}


def made_up_pairs(folder: Path, count: int = 8) -> PairCache:
    """Pairs whose first keypoints belong together, each pair another number of them; all slots are filled."""
    view = {
        "keypoints": ((SLOTS, 2), "float32"), "mask": ((SLOTS,), "bool"), "descriptors": ((SLOTS, DIM), "float16"),
        "tokens": ((SLOTS, TOKEN_DIM), "float16"), "index": ((SLOTS,), "int16"), "size": ((2,), "int32"),
    }  # fmt: skip
    fields = {f"{name}{image}": value for image in (0, 1) for name, value in view.items()}
    cache = PairCache.create(folder, count, fields, {"test": 1})
    for row in range(count):
        rng = np.random.default_rng(row)
        matched = 4 + row
        shared = {"descriptors": rng.normal(size=(SLOTS, DIM)), "tokens": rng.normal(size=(SLOTS, TOKEN_DIM))}
        values = {}
        for image in (0, 1):
            for name, value in shared.items():
                noisy = value + 0.2 * rng.normal(size=value.shape)
                noisy[matched:] = rng.normal(size=value[matched:].shape)
                values[f"{name}{image}"] = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
            values[f"keypoints{image}"] = rng.uniform(0, 100, (SLOTS, 2))
            values[f"index{image}"] = np.where(np.arange(SLOTS) < matched, np.arange(SLOTS), -1)
            values[f"mask{image}"], values[f"size{image}"] = np.ones(SLOTS, bool), np.array([120, 100])
        cache.write(row, values)
    return cache


def matcher_task(
    cache: PairCache, config: MatcherTaskConfig, weights: Mapping[str, Tensor] | None = None
) -> GradientTask:
    """With a matcher that begins with given weights, or always with the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        matcher = AttentionMatcher(MODEL)
    if weights is not None:
        matcher.load_state_dict(weights)
    return GradientTask(config, matcher, cache, cache)


def main() -> None:
    """Train as the arguments say."""
    torch.set_num_threads(1)
    folder, out, *words = sys.argv[1:]
    config = load_config(MatcherToyConfig, None, words)
    task = matcher_task(PairCache.open(folder), config.task)
    train(task, config.loop, out, settings=config)
    torch.save(task.gradients, Path(f"{out}.grad-{os.environ.get('RANK', '0')}.pt"))


if __name__ == "__main__":
    main()
