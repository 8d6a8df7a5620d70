"""Made-up scenes of rectangles covered with photographs: all of their geometry is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from slamfeat.geometry.se3 import Array
from slamfeat.train.pairs import Pixels
from slamfeat.train.room_config import RoomConfig, log_between
from slamfeat.train.room_layouts import Layout, make_layout
from slamfeat.train.room_surfaces import Surface, blank, detail, photographs, repeated
from slamfeat.train.textures import Textures

_ROOM_DISTANCE_M = 3.0
_LONGEST_BLANK = 768


@dataclass(frozen=True, eq=False)
class Rectangle:
    """A flat, covered piece of the scene, seen from both sides.

    Its points are origin + a u + b v with a, b in 0..1; texel (x, y) of a texture (w, h) lies at a = (x + 0.5) / w,
    b = (y + 0.5) / h.

    Attributes:
        origin: a corner (3,), world coordinates in metres.
        u, v: edges (3,) from there; at right angles.
        surface: its texels.
    """

    origin: Array
    u: Array
    v: Array
    surface: Surface


@dataclass(frozen=True, eq=False)
class Lights:
    """Point lights and the light that is everywhere.

    Attributes:
        ambient: intensity everywhere; 1 shows a texture as it is.
        positions: (L, 3) world coordinates in metres.
        strengths: (L,) intensity right in front of a light, on a surface that faces it.
        reach: metres at which a light has half its strength.
    """

    ambient: float
    positions: Array
    strengths: Array
    reach: float


@dataclass(frozen=True, eq=False)
class Room:
    """A scene. World: x right, y down, z ahead; metres.

    Attributes:
        rectangles: all surfaces, at most 32767.
        lights: its usual lights.
        sky: (3,) RGB 0..255 where no rectangle is.
        layout: what kind of scene it is, and where cameras may be.
    """

    rectangles: tuple[Rectangle, ...]
    lights: Lights
    sky: Array
    layout: Layout


def make_room(rng: np.random.Generator, textures: Textures, config: RoomConfig) -> Room:
    """A scene at random; photographs are read only when its surfaces are first seen.

    Raises:
        ImageError: from a surface, when twenty photographs in a row cannot be read.
    """
    layout = make_layout(rng, config)
    closeness = np.clip(_ROOM_DISTANCE_M / layout.distance, 1 / 3, 4)
    density = log_between(rng, config.texels_a_metre) * closeness
    rectangles = tuple(
        Rectangle(panel[0], panel[1], panel[2], _surface(rng, textures, panel, density, config))
        for panel in layout.panels
    )
    lights = make_lights(rng, layout)
    sky = rng.uniform(190, 255) - np.array([1.0, 0.5, 0.0]) * rng.uniform(0, 60)
    return Room(rectangles, lights, sky, layout)


def make_lights(rng: np.random.Generator, layout: Layout) -> Lights:
    """One or two lights about where cameras may be, or high above a street, at random."""
    count = int(rng.integers(1, 3))
    positions = rng.uniform(layout.low, layout.high, (count, 3))
    if layout.kind == "street":
        positions[:, 1] -= 15
    reach = layout.distance * (5 if layout.kind == "street" else 2)
    return Lights(float(rng.uniform(0.3, 0.8)), positions, rng.uniform(0.3, 1.2, count), reach)


def _surface(rng: np.random.Generator, textures: Textures, panel: Array, density: float, config: RoomConfig) -> Surface:
    lengths = np.linalg.norm(panel[1:], axis=1)
    texels = lengths * min(density, config.longest_texture / lengths.max())
    size = (max(16, round(texels[0])), max(16, round(texels[1])))
    kind, seed = rng.random(), int(rng.integers(2**63))
    if kind < config.blank:
        coarse = (min(size[0], _LONGEST_BLANK), min(size[1], _LONGEST_BLANK))
        return Surface(partial(_painted, blank, seed, coarse), distinct=False)
    distinct = kind >= config.blank + config.repeated
    how = photographs if distinct else repeated
    fine = partial(_painted, detail, seed + 1, textures) if rng.random() < config.detail else None
    return Surface(partial(_painted, how, seed, textures, size), distinct, fine)


def _painted(paint: Callable[..., Pixels], seed: int, *args: object) -> Pixels:
    """Paint with a generator of its own, so that a surface does not depend on which ones were seen before."""
    return paint(np.random.default_rng(seed), *args)
