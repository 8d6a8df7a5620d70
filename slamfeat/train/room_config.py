"""Settings of the made-up rooms, of the cameras in them, and of the pairs these make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from slamfeat.errors import ConfigError


@dataclass
class RoomConfig:
    """What scenes look like. Ranges are [low, high], both possible.

    Attributes:
        corridors, desks, streets: shares of these kinds of scene; the rest are rooms.
        boxes, planes: how many boxes (furniture, houses' cars, things on a desk) and free planes there are.
        side_m: length and width of a room; metres.
        height_m: of rooms and corridors; metres.
        corridor_m, street_m: length of a corridor, of a street; metres.
        texels_a_metre: resolution of surfaces in a room. A desk, seen from near, has four times as many, a street a
            third.
        longest_texture: most texels along a side of a rectangle.
        blank, repeated: shares of rectangles that are of one colour, or covered by a repeated pattern; the others
            show photographs.
        detail: share of those that are not blank which have fine structure added, for cameras that come close.
    """

    corridors: float = 0.15
    desks: float = 0.2
    streets: float = 0.25
    boxes: list[int] = field(default_factory=lambda: [1, 4])
    planes: list[int] = field(default_factory=lambda: [0, 4])
    side_m: list[float] = field(default_factory=lambda: [3.0, 9.0])
    height_m: list[float] = field(default_factory=lambda: [2.3, 3.5])
    corridor_m: list[float] = field(default_factory=lambda: [12.0, 32.0])
    street_m: list[float] = field(default_factory=lambda: [40.0, 70.0])
    texels_a_metre: list[float] = field(default_factory=lambda: [100.0, 400.0])
    longest_texture: int = 2048
    blank: float = 0.15
    repeated: float = 0.15
    detail: float = 0.8

    def __post_init__(self) -> None:
        _check_shares("rooms", corridors=self.corridors, desks=self.desks, streets=self.streets)
        _check_shares("rooms", blank=self.blank, repeated=self.repeated)
        _check_shares("rooms", detail=self.detail)
        for name in ("boxes", "planes"):
            check_range(f"rooms: {name}", getattr(self, name), least=0)
        for name in ("side_m", "height_m", "corridor_m", "street_m", "texels_a_metre"):
            check_range(f"rooms: {name}", getattr(self, name), least=1)
        if self.longest_texture < 16:
            raise ConfigError(f"rooms: longest_texture must be at least 16, got {self.longest_texture}")


@dataclass
class CameraConfig:
    """What cameras see a room and how they move from the first view to the second. Ranges are [low, high].

    Attributes:
        sizes: image sizes [W, H] to choose from; pixels.
        focal: focal length as a share of the image's width.
        other_camera: share of pairs whose views have cameras of their own (size and focal length).
        step, wide, zoom, turn, drive: weights of the motions: a small step in any direction; around what is looked
            at; towards it or away; on the spot; forward as a car.
        street_drive: share of the pairs in streets that are driven, whatever the weights.
        viewpoint_deg: most a camera goes around what it looks at in a wide motion; degrees.
        zoom_most: most a zoom changes the scale.
        turn_deg: most a camera turns on the spot; degrees.
        drive_m: metres driven between the views of a street; elsewhere a share of the distance in view.
        roll_deg: most the second view is rolled; degrees.
        rare_roll_deg, rare_roll: a share `rare_roll` of the pairs is rolled by up to `rare_roll_deg`.
        overlap: share of either view that the other sees, mean of the two.
        distinct: least share of the first view that is neither blank nor repeated.
        attempts: camera pairs tried in a room, before another room is made.
    """

    sizes: list[list[int]] = field(default_factory=lambda: [[640, 480], [752, 480], [768, 512], [1241, 376]])
    focal: list[float] = field(default_factory=lambda: [0.5, 1.5])
    other_camera: float = 0.25
    step: float = 0.25
    wide: float = 0.35
    zoom: float = 0.2
    turn: float = 0.1
    drive: float = 0.1
    street_drive: float = 0.5
    viewpoint_deg: float = 45.0
    zoom_most: float = 3.0
    turn_deg: float = 40.0
    drive_m: list[float] = field(default_factory=lambda: [0.3, 4.0])
    roll_deg: float = 15.0
    rare_roll_deg: float = 45.0
    rare_roll: float = 0.1
    overlap: list[float] = field(default_factory=lambda: [0.15, 0.97])
    distinct: float = 0.3
    attempts: int = 40

    def __post_init__(self) -> None:
        if not self.sizes or any(len(size) != 2 or min(size) < 32 for size in self.sizes):
            raise ConfigError(f"cameras: sizes are [W, H] of at least 32 pixels a side, not {self.sizes}")
        check_range("cameras: focal", self.focal, least=0.1)
        check_range("cameras: drive_m", self.drive_m, least=0)
        check_range("cameras: overlap", self.overlap, least=0, most=1)
        for name in ("other_camera", "rare_roll", "distinct", "street_drive"):
            _check_shares("cameras", **{name: getattr(self, name)})
        weights = [self.step, self.wide, self.zoom, self.turn, self.drive]
        if min(weights) < 0 or sum(weights) <= 0:
            raise ConfigError("cameras: step, wide, zoom, turn, drive are weights >= 0, and one must be above 0")
        angles = [self.viewpoint_deg, self.turn_deg, self.roll_deg, self.rare_roll_deg]
        if not all(0 <= angle <= 180 for angle in angles) or self.zoom_most < 1 or self.attempts < 1:
            raise ConfigError("cameras: angles are 0..180 degrees, zoom_most and attempts at least 1")


@dataclass
class RoomPairsConfig:
    """How pairs of views of rooms are made.

    Attributes:
        seed: pairs of two sources of one seed are equal.
        light_change: share of pairs whose second view has other lights.
        rooms: rooms made for one pair at most.
        room, cameras: see their classes.
    """

    seed: int = 0
    light_change: float = 0.3
    rooms: int = 8
    room: RoomConfig = field(default_factory=RoomConfig)
    cameras: CameraConfig = field(default_factory=CameraConfig)

    def __post_init__(self) -> None:
        _check_shares("room pairs", light_change=self.light_change)
        if self.seed < 0 or self.rooms < 1:
            raise ConfigError(f"room pairs: seed >= 0 and rooms >= 1 are needed, got {self.seed} and {self.rooms}")


def check_range(name: str, values: Sequence[float], least: float, most: float = float("inf")) -> None:
    """Raise ConfigError unless `values` are [low, high] with least <= low <= high <= most."""
    if len(values) != 2 or not least <= values[0] <= values[1] <= most:
        limit = f"{least}..{most}" if most < float("inf") else f"at least {least}"
        raise ConfigError(f"{name} is [low, high], {limit}, not {list(values)}")


def between(rng: np.random.Generator, limits: Sequence[float]) -> float:
    """A number of the range [low, high], all equally likely."""
    return float(rng.uniform(limits[0], limits[1]))


def log_between(rng: np.random.Generator, limits: Sequence[float]) -> float:
    """A number of the range [low, high], all equally likely on a logarithmic scale."""
    return float(limits[0] * (limits[1] / limits[0]) ** rng.random())


def _check_shares(name: str, **shares: float) -> None:
    if any(not 0 <= share <= 1 for share in shares.values()) or sum(shares.values()) > 1:
        raise ConfigError(f"{name}: {', '.join(shares)} are shares between 0 and 1, together at most 1")
