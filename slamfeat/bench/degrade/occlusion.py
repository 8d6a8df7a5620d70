"""Things that pass before the camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from slamfeat.bench.degrade.base import Degradation, Image, Shot, generator

LEAST_SIDE, GREATEST_SIDE = 0.15, 0.4
"""Sides of a block, as shares of the shorter side of the image."""

SPEED = (2.0, 10.0)
"""Range of a block's speed: pixels a frame at 640 px width."""

DISPARITY = 20.0
"""Pixels, at 640 px width, by which the right eye sees every block further left: they are near."""


@dataclass(frozen=True)
class Block:
    """A rectangle that moves evenly over the image and comes back on the other side.

    Attributes:
        texture: (h, w) uint8 grey, of the block's size.
        start: (x, y) of its corner in frame 0; velocity: pixels a frame.
    """

    texture: Image
    start: tuple[float, float]
    velocity: tuple[float, float]


def occlusion(shot: Shot) -> Image:
    """The picture behind moving blocks that cover `amount` per cent of it on average; every third is plain."""
    image = shot.image.copy()
    for where, texture in _placed(shot):
        image[where] = texture[..., None]
    return image


def covered(shot: Shot) -> NDArray[np.bool_]:
    """(H, W), true where a block covers the picture."""
    mask = np.zeros(shot.image.shape[:2], np.bool_)
    for where, _ in _placed(shot):
        mask[where] = True
    return mask


@lru_cache(maxsize=8)
def blocks(amount: float, seed: int, size: tuple[int, int]) -> tuple[Block, ...]:
    """The blocks of a sequence of (W, H) images. Their places are independent, so what they cover is on average
    1 - prod(1 - share of each), which comes to `amount` per cent by the size of the last one."""
    out: list[Block] = []
    open_share, wanted = 1.0, 1 - amount / 100
    while open_share > wanted:
        rng = generator(seed, "occlusion", len(out))
        short = min(size)
        width, height = (round(float(side)) for side in rng.uniform(LEAST_SIDE, GREATEST_SIDE, 2) * short)
        most = (1 - wanted / open_share) * size[0] * size[1]
        if width * height > most:
            width, height = (max(1, round(side * float(np.sqrt(most / (width * height))))) for side in (width, height))
        out.append(_block(rng, (width, height), size, plain=len(out) % 3 == 2))
        open_share *= 1 - width * height / (size[0] * size[1])
        if width * height >= most * 0.98:
            break
    return tuple(out)


def _block(rng: np.random.Generator, block: tuple[int, int], size: tuple[int, int], plain: bool) -> Block:
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*SPEED) * size[0] / 640
    start = (float(rng.uniform(0, size[0])), float(rng.uniform(0, size[1])))
    velocity = (float(speed * np.cos(angle)), float(speed * np.sin(angle)))
    return Block(_texture(rng, block, plain), start, velocity)


def _texture(rng: np.random.Generator, size: tuple[int, int], plain: bool) -> Image:
    """Grey noise at three scales, with as many corners as a scene has; it moves with the block."""
    import cv2

    texture = np.full((size[1], size[0]), rng.uniform(60, 180), np.float32)
    for cell, contrast in () if plain else ((4, 15.0), (10, 25.0), (24, 30.0)):
        coarse = rng.standard_normal((size[1] // cell + 2, size[0] // cell + 2)).astype(np.float32)
        texture += contrast * np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))
    return np.clip(texture.round(), 0, 255).astype(np.uint8)


def _placed(shot: Shot) -> list[tuple[tuple[NDArray[np.intp], NDArray[np.intp]], Image]]:
    """Index arrays of the pixels that each block covers in this shot, and what it shows."""
    width, height = shot.size
    shift = DISPARITY * width / 640 * shot.eye
    out = []
    for block in blocks(shot.amount, shot.seed, shot.size):
        x = round(block.start[0] + block.velocity[0] * shot.index - shift)
        y = round(block.start[1] + block.velocity[1] * shot.index)
        rows, columns = (np.arange(side) for side in block.texture.shape)
        out.append((((rows + y)[:, None] % height, (columns + x)[None] % width), block.texture))
    return out


OCCLUSION = Degradation(
    "occlusion", (15, 35, 60), "% covered, mean",
    "Passers-by close to the lens: rectangles of grey noise (every third one plain) that move evenly, 2 to 10 px a "
    "frame at 640 px width, each in its own direction, and cover the amount on average; own code.",
    occlusion, limits=(0, 95),
)  # fmt: skip
