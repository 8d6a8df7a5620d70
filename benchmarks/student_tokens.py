"""What `benchmarks.student` measures of backbones alone: how alike their tokens are, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.backbones.load import parse_device
from slamfeat.bench.jobs import set_threads
from slamfeat.engines import Engine, make_engine
from slamfeat.errors import ConfigError
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.pretrain.sources import Joined

SIDE, REPEATS = 308, 25
Blocks = Mapping[str, tuple[str, int]]
"""By label: weights, and the block that is looked at."""


def engines_of(blocks: Blocks, engine: str, precision: str) -> dict[str, Engine]:
    """What computes each one's tokens."""
    made = {}
    for label, (weights, block) in blocks.items():
        backbone, _ = load_pretrained(weights, parse_device("cpu"))
        made[label] = make_engine(backbone, [block % backbone.depth], engine=engine, precision=precision)
    return made


def likeness(blocks: Blocks, teacher: str, images: Joined, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Two rows: mean cosines of patch tokens to the teacher's, and of what is left without each image's mean token."""
    engines = engines_of(blocks, "torch", "fp32")
    plain: dict[str, list[float]] = {label: [] for label in engines}
    centred: dict[str, list[float]] = {label: [] for label in engines}
    with torch.inference_mode():
        for number in numbers:
            image = images.read_or_none(number)
            if image is None:
                continue
            square = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            pixels = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255
            tokens = {label: engine(pixels)[0].float().flatten(2)[0] for label, engine in engines.items()}
            for label, own in tokens.items():
                plain[label].append(_cosine(own, tokens[teacher]))
                centred[label].append(_cosine(_without_mean(own), _without_mean(tokens[teacher])))
    names = {"cosine of patch tokens": plain, "the same, each image's mean taken away": centred}
    return [
        {"figure": name, "better": 1, **{label: float(np.mean(values)) for label, values in of.items()}}
        for name, of in names.items()
    ]


def _cosine(own: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(own, other, dim=0).mean())


def _without_mean(tokens: Tensor) -> Tensor:
    return tokens - tokens.mean(1, keepdim=True)


def milliseconds(blocks: Blocks, size: tuple[int, int]) -> dict[str, Any]:
    """A row: medians of one image of (width, height), all in turn, with one thread; torch's threads stay as they were.

    Raises:
        ConfigError: one has another engine than the others, as where its graph could not be made.
    """
    before = torch.get_num_threads()
    set_threads(1)
    width, height = size
    engines = engines_of(blocks, "auto", "auto")
    kinds = {label: f"{engine.name} {engine.precision}" for label, engine in engines.items()}
    if len(set(kinds.values())) > 1:
        raise ConfigError(f"times of different engines say nothing: {kinds}; see the warnings above")
    image = torch.rand(1, 3, height, width)
    spent: dict[str, list[float]] = {label: [] for label in engines}
    try:
        with torch.inference_mode():
            for number in range(REPEATS + 3):
                for label, engine in engines.items():
                    started = time.perf_counter()
                    engine(image)
                    if number > 2:
                        spent[label].append(1e3 * (time.perf_counter() - started))
    finally:
        set_threads(before)
    medians = {label: float(np.median(times)) for label, times in spent.items()}
    return {"figure": f"backbone at {width}x{height}, {next(iter(kinds.values()))} [ms]", "better": -1, **medians}
