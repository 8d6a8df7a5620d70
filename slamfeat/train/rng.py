"""The global random generators: seeding them, and their states as tensors and numbers that load without unpickling."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

RngState = dict[str, Any]


def seed_generators(seed: int) -> None:
    """Seed Python's, NumPy's legacy and torch's generators, on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # the generator that libraries draw from who know no other
    torch.manual_seed(seed)


def seed_of(*numbers: int) -> int:
    """A seed made of several numbers: that of others is another one."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def generator_states() -> RngState:
    """States of the generators that `seed_generators` seeds; of the current CUDA device, if any, alone."""
    version, words, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": (version, torch.tensor(words, dtype=torch.int64), gauss),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), place, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_generators(states: RngState) -> None:
    """Put the generators where `generator_states` found them."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, place, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), place, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


@contextmanager
def generators_untouched() -> Iterator[None]:
    """Whatever the block draws, the generators are afterwards where they were."""
    states = generator_states()
    try:
        yield
    finally:
        restore_generators(states)
