"""The same image gives the same features, bit by bit, wherever its arrays lie in memory and whichever thread asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from slamfeat.frontend import Frontend, SelectorConfig
from slamfeat.frontend.selector import saliency_map
from slamfeat.image import read_image


def photo(sample: Path) -> np.ndarray:
    """Of odd width, so that rows begin at every alignment."""
    return np.ascontiguousarray(read_image(sorted((sample / "rgb").iterdir())[0])[:231, :317])


def test_saliency_does_not_depend_on_memory(sample: Path) -> None:
    gray = torch.from_numpy(photo(sample)[..., 0].copy())[None, None]
    first, held = saliency_map(gray, SelectorConfig()), []
    for size in range(1, 40):  # small blocks in between, so that the large ones lie elsewhere
        held.append(np.empty(1000 * size + 8 * size, np.uint8))
        assert torch.equal(saliency_map(gray, SelectorConfig()), first)


def test_features_and_matches_are_the_same_again_and_in_another_thread(sample: Path) -> None:
    frontend = Frontend.from_pretrained("default")
    image = photo(sample)
    first = frontend.extract(image, 200)
    shifted = frontend.extract(np.roll(image, 3, 1), 200)
    with ThreadPoolExecutor(1) as pool:
        others = [frontend.extract(image.copy(), 200), *pool.map(lambda one: frontend.extract(one, 200), [image] * 3)]
        matches = [frontend.match(first, shifted), pool.submit(frontend.match, first, shifted).result()]
    for other in others:
        for key in ("keypoints", "scores", "descriptors", "mask"):
            assert torch.equal(getattr(other, key), getattr(first, key)), key
    assert torch.equal(matches[0].points1, matches[1].points1) and bool(matches[0].mask.any())
