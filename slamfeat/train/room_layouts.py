"""Where rectangles stand in a made-up scene: rooms, corridors, desks and streets. World: x right, y down, z ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from slamfeat.geometry.se3 import Array, invert, make_pose, transform_points
from slamfeat.train.room_config import RoomConfig, between

_DOWN = np.array([0.0, 1.0, 0.0])
_LONGEST_M = 9.0


@dataclass
class Layout:
    """A scene before it is painted.

    Attributes:
        kind: "room", "corridor", "desk" or "street".
        low, high: opposite corners (3,) of the box where cameras may be; metres.
        distance: how far cameras usually are from what they see; metres.
        along: cameras look along the z axis, one way or the other, instead of at things.
        panels: origin, u, v (3, 3) of every rectangle: a corner and two edges, v downwards where there is a down.
        solids: (4, 4) from the world to a box's own coordinates, in which it is the cube -0.5..0.5: no place for a
            camera.
    """

    kind: str
    low: Array
    high: Array
    distance: float
    along: bool = False
    panels: list[Array] = field(default_factory=list)
    solids: list[Array] = field(default_factory=list)

    def add(self, origin: Array, u: Array, v: Array) -> None:
        """A rectangle, cut into parts of at most 9 m along `u` so that each has texels enough."""
        parts = int(np.ceil(np.linalg.norm(u) / _LONGEST_M))
        for part in range(parts):
            self.panels.append(np.array([origin + u * part / parts, u / parts, v]))

    def add_facing(self, centre: Array, facing: Array, size: tuple[float, float]) -> None:
        """An upright rectangle of `size` (width, height) about `centre`, whose front looks along unit `facing`."""
        right = np.cross(_DOWN, -facing) * size[0]
        down = _DOWN * size[1]
        self.add(centre - right / 2 - down / 2, right, down)

    def add_box(self, base: Array, size: Array, yaw: float, sides: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        """A box standing on `base`, the centre of its underside; `size` is (x, y, z), `yaw` in degrees about y."""
        turn = Rotation.from_euler("y", yaw, degrees=True).as_matrix()
        middle = base - _DOWN * size[1] / 2
        for side in sides:
            facing = turn @ Rotation.from_euler("y", 90 * side, degrees=True).as_matrix() @ np.array([0, 0, -1.0])
            wide, deep = (size[0], size[2]) if side % 2 == 0 else (size[2], size[0])
            self.add_facing(middle + facing * deep / 2, facing, (wide, size[1]))
        corner = base - _DOWN * size[1] + turn @ (np.array([-1, 0, 1]) * size / 2)
        self.add(corner, turn[:, 0] * size[0], -turn[:, 2] * size[2])
        self.solids.append(np.diag([*1 / size, 1.0]) @ invert(make_pose(turn, middle)))

    def is_free(self, point: Array) -> bool:
        """Whether a camera may be at a point (3,): inside the scene's box and in none of its solids."""
        inside = ((point >= self.low) & (point <= self.high)).all()
        return bool(inside) and not any((np.abs(transform_points(solid, point)) < 0.55).all() for solid in self.solids)


def make_layout(rng: np.random.Generator, config: RoomConfig) -> Layout:
    """A scene of one of the four kinds, by their shares."""
    shares = np.array([config.corridors, config.desks, config.streets])
    makers: tuple[Callable[[np.random.Generator, RoomConfig], Layout], ...] = (_corridor, _desk, _street, _room)
    return makers[int(rng.choice(4, p=[*shares, max(0.0, 1 - shares.sum())]))](rng, config)


def _room(rng: np.random.Generator, config: RoomConfig) -> Layout:
    size = np.array([between(rng, config.side_m), between(rng, config.height_m), between(rng, config.side_m)])
    layout = _shell("room", size, distance=3.0)
    for _ in range(_count(rng, config.boxes)):
        base = np.array([rng.uniform(-0.4, 0.4) * size[0], 0, rng.uniform(0.1, 0.9) * size[2]])
        layout.add_box(base, rng.uniform(0.3, 1.5, 3), rng.uniform(0, 90))
    _add_planes(rng, layout, size, _count(rng, config.planes))
    return layout


def _corridor(rng: np.random.Generator, config: RoomConfig) -> Layout:
    size = np.array([rng.uniform(1.8, 3.2), between(rng, config.height_m), between(rng, config.corridor_m)])
    layout = _shell("corridor", size, distance=4.0)
    layout.along = True
    for _ in range(_count(rng, config.boxes)):
        side = rng.choice([-1, 1])
        box = np.array([rng.uniform(0.2, 0.5), rng.uniform(0.4, 1.8), rng.uniform(0.4, 1.5)])
        layout.add_box(np.array([side * (size[0] - box[0]) / 2, 0, rng.uniform(1, size[2] - 1)]), box, 0)
    for _ in range(_count(rng, config.planes)):
        side, wide = float(rng.choice([-1, 1])), rng.uniform(0.4, 1.5)
        centre = np.array([side * (size[0] / 2 - 0.03), rng.uniform(-1.8, -1.2), rng.uniform(1, size[2] - 1)])
        layout.add_facing(centre, np.array([-side, 0, 0]), (wide, rng.uniform(0.3, 1.0)))
    return layout


def _desk(rng: np.random.Generator, config: RoomConfig) -> Layout:
    size = np.array([rng.uniform(2.5, 4), between(rng, config.height_m), rng.uniform(2.5, 4)])
    layout = _shell("desk", size, distance=0.8)
    table = np.array([rng.uniform(1.0, 1.8), 0.74, rng.uniform(0.6, 0.9)])
    back = size[2] - rng.uniform(0.05, 0.6)
    layout.add_box(np.array([0, 0, back - table[2] / 2]), table, 0)
    top = np.array([0, -table[1], back - table[2] / 2])
    for _ in range(2 + _count(rng, config.boxes)):
        base = top + rng.uniform(-0.4, 0.4, 3) * table * (1, 0, 1)
        layout.add_box(base, rng.uniform(0.05, 0.32, 3), rng.uniform(0, 90))
    for _ in range(_count(rng, config.planes)):
        yaw, wide, tall = rng.uniform(-60, 60), rng.uniform(0.15, 0.5), rng.uniform(0.15, 0.4)
        facing = Rotation.from_euler("y", yaw, degrees=True).as_matrix() @ np.array([0, 0, -1.0])
        centre = top + rng.uniform(-0.4, 0.4, 3) * table * (1, 0, 1) - _DOWN * tall / 2
        layout.add_facing(centre, facing, (wide, tall))
    layout.low, layout.high = top + np.array([[-0.7, -0.9, -1.1], [0.7, -0.1, -0.1]])
    return layout


def _street(rng: np.random.Generator, config: RoomConfig) -> Layout:
    length, half = between(rng, config.street_m), rng.uniform(5, 9)
    low, high = np.array([-half / 2, -2.0, 0]), np.array([half / 2, -1.2, length / 2])
    layout = Layout("street", low, high, distance=9.0, along=True)
    _add_ground(layout, length, half)
    for side in (-1, 1):
        ahead = -6.0
        while ahead < length:
            wide, setback = rng.uniform(6, 14), rng.uniform(0, 2)
            house = np.array([8.0, rng.uniform(4, 12), wide])
            base = np.array([side * (half + setback + 4), 0, ahead + wide / 2])
            # Of a house one sees the front (1 looks along -x, 3 along +x) and the gables; the back faces nobody.
            layout.add_box(base, house, 0, sides=(0, 1 if side > 0 else 3, 2))
            ahead += wide + float(rng.choice([0.0, rng.uniform(1, 5)]))
    for _ in range(_count(rng, config.boxes)):
        base = np.array([rng.choice([-1, 1]) * rng.uniform(0.5, 0.8) * half, 0, rng.uniform(3, length)])
        layout.add_box(base, rng.uniform([1.5, 1.2, 3.5], [2.0, 2.2, 5.0]), rng.uniform(-8, 8))
    for _ in range(_count(rng, config.planes)):
        centre = np.array([rng.choice([-1, 1]) * 0.85 * half, -rng.uniform(1.8, 3), rng.uniform(4, length)])
        layout.add_facing(centre, np.array([0, 0, -1.0]), (rng.uniform(0.5, 1.5), rng.uniform(0.5, 1.5)))
    layout.add_facing(np.array([0, -5, length + 10]), np.array([0, 0, -1.0]), (4 * half, 10))
    return layout


def _shell(kind: str, size: Array, distance: float) -> Layout:
    """Floor, ceiling and four walls around x -w/2..w/2, y -h..0, z 0..d."""
    wide, tall, deep = size
    margin = np.minimum(0.3, size / 5)
    low, high = np.array([-wide / 2, -tall, 0.0]), np.array([wide / 2, 0.0, deep])
    layout = Layout(kind, low + margin, high - margin, distance)
    x, z = np.array([wide, 0, 0]), np.array([0, 0, deep])
    # Cut across where that is the long way, so that every part is about square.
    layout.add(np.array([-wide / 2, 0, 0]), z, x)
    layout.add(np.array([-wide / 2, -tall, 0]), z, x)
    for centre, facing, width in (
        ((0, -tall / 2, deep), (0, 0, -1.0), wide),
        ((0, -tall / 2, 0), (0, 0, 1.0), wide),
        ((-wide / 2, -tall / 2, deep / 2), (1.0, 0, 0), deep),
        ((wide / 2, -tall / 2, deep / 2), (-1.0, 0, 0), deep),
    ):
        layout.add_facing(np.array(centre), np.array(facing), (width, tall))
    return layout


def _add_planes(rng: np.random.Generator, layout: Layout, size: Array, count: int) -> None:
    """Pictures a little off the far and near wall, and boards that stand or float anywhere at any angle."""
    for _ in range(count):
        wide, tall = rng.uniform(0.4, 2.0), rng.uniform(0.4, 1.5)
        x, y = rng.uniform(-0.4, 0.4) * size[0], -rng.uniform(0.35, 0.7) * size[1]
        if rng.random() < 0.5:
            far = rng.random() < 0.5
            centre = np.array([x, y, size[2] - 0.04 if far else 0.04])
            layout.add_facing(centre, np.array([0, 0, -1.0 if far else 1.0]), (wide, tall))
            continue
        turn = Rotation.from_euler("yxz", rng.normal(0, [60, 20, 10]), degrees=True).as_matrix()
        centre = np.array([x, y, rng.uniform(0.2, 0.8) * size[2]])
        layout.add(centre - turn @ (wide / 2, tall / 2, 0), turn[:, 0] * wide, turn[:, 1] * tall)


def _add_ground(layout: Layout, length: float, half: float) -> None:
    """Stretches of road and, beside it, a pavement of each side."""
    for left, right in ((-half - 3, -0.7 * half), (-0.7 * half, 0.7 * half), (0.7 * half, half + 3)):
        layout.add(np.array([left, 0, -6.0]), np.array([0, 0, length + 16.0]), np.array([right - left, 0, 0]))


def _count(rng: np.random.Generator, limits: list[int]) -> int:
    return int(rng.integers(limits[0], limits[1] + 1))
