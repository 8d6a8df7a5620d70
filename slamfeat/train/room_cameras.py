"""Pairs of cameras in a made-up room: what a hand-held camera, a robot or a car might see one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from slamfeat.geometry.se3 import Array, make_pose
from slamfeat.train.room_config import CameraConfig, between, log_between
from slamfeat.train.room_rays import RoomView
from slamfeat.train.room_transfer import Landing, land
from slamfeat.train.rooms import Room

_GRID = (16, 12)
_CLOSE_SHARE = 0.1
Generator = np.random.Generator


@dataclass(frozen=True)
class CameraPair:
    """Two cameras in a room.

    Attributes:
        view0, view1: what they see.
        T_1_0: (4, 4) from coordinates of camera 0 to those of camera 1.
        motion: "step", "wide", "zoom", "turn" or "drive".
        overlap: share of either view that the other sees, mean of the two, by a grid of points.
    """

    view0: RoomView
    view1: RoomView
    T_1_0: Array
    motion: str
    overlap: float


def make_cameras(rng: Generator, room: Room, config: CameraConfig) -> CameraPair | None:
    """Two cameras that see the room and enough of the same, or None if `config.attempts` tries gave none."""
    # Before the tries: else motions that often fail would become rare.
    motion = str(rng.choice(list(_MOTIONS), p=_weights(config)))
    if room.layout.kind == "street" and rng.random() < config.street_drive:
        motion = "drive"
    for _ in range(config.attempts):
        pair = _attempt(rng, room, motion, config)
        if pair is not None and config.overlap[0] <= pair.overlap <= config.overlap[1]:
            return pair
    return None


def _attempt(rng: Generator, room: Room, motion: str, config: CameraConfig) -> CameraPair | None:
    K, size = _intrinsics(rng, config)
    pose0 = _first_pose(rng, room)
    if pose0 is None:
        return None
    view0 = RoomView.of(room.rectangles, K, pose0, size)
    index, inverse = view0.hits(_grid(size))
    covered = [i >= 0 and room.rectangles[i].surface.distinct for i in index]
    if np.mean(covered) < config.distinct or _too_close(room, inverse):
        return None
    distance = float(1 / np.median(inverse[inverse > 0]))
    relative = _MOTIONS[motion](rng, config, distance, room)
    pose1 = pose0 @ relative @ make_pose(_roll(rng, config), np.zeros(3))
    if not room.layout.is_free(pose1[:3, 3]):
        return None
    if rng.random() < config.other_camera:
        K, size = _intrinsics(rng, config)
    view1 = RoomView.of(room.rectangles, K, pose1, size)
    if _too_close(room, view1.hits(_grid(size))[1]):
        return None
    T_1_0 = view1.T_camera_world @ pose0
    return CameraPair(view0, view1, T_1_0, motion, overlap(view0, view1))


def overlap(view0: RoomView, view1: RoomView) -> float:
    """Share of either view that the other sees, mean of the two (0..1), by a grid of 16x12 points."""
    both: list[Landing] = [land(a, b, _grid(a.size)) for a, b in ((view0, view1), (view1, view0))]
    return float(np.mean([landing.visible.mean() for landing in both]))


def _intrinsics(rng: Generator, config: CameraConfig) -> tuple[Array, tuple[int, int]]:
    width, height = config.sizes[int(rng.integers(len(config.sizes)))]
    focal = width * log_between(rng, config.focal)
    centre = (np.array([width, height]) - 1) / 2 + rng.normal(0, 0.02 * height, 2)
    return np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1.0]]), (width, height)


def _first_pose(rng: Generator, room: Room) -> Array | None:
    """A camera held about upright that looks along the scene or at something distinct, or None for a bad place."""
    eye = rng.uniform(room.layout.low, room.layout.high)
    if not room.layout.is_free(eye):
        return None
    if room.layout.along:
        # A street has its end at far z; a corridor has two.
        ahead = 1.0 if room.layout.kind == "street" or rng.random() < 0.5 else -1.0
        pitch, yaw = np.radians(rng.normal(0, 4)), np.radians(rng.normal(0, 15))
        forward = ahead * np.array([np.sin(yaw), 0, np.cos(yaw)]) + np.array([0, np.sin(pitch), 0])
    else:
        forward = _target(rng, room, eye) - eye
    roll = Rotation.from_euler("z", rng.normal(0, 3), degrees=True).as_matrix()
    return make_pose(_look_along(forward) @ roll, eye)


def _target(rng: Generator, room: Room, eye: Array) -> Array:
    """A point (3,) on a distinct rectangle, drawn about by how large it looks from `eye`."""
    chosen = [r for r in room.rectangles if r.surface.distinct] or list(room.rectangles)
    middles = np.array([r.origin + (r.u + r.v) / 2 for r in chosen])
    areas = np.array([np.linalg.norm(r.u) * np.linalg.norm(r.v) for r in chosen])
    sizes = areas / (areas + ((middles - eye) ** 2).sum(1))
    picked = chosen[int(rng.choice(len(chosen), p=sizes / sizes.sum()))]
    a, b = rng.uniform(0.2, 0.8, 2)
    return np.asarray(picked.origin + a * picked.u + b * picked.v)


def _look_along(forward: Array) -> Array:
    """The rotation (3, 3) of an upright camera whose axis is along `forward`."""
    z = forward / np.linalg.norm(forward)
    down = np.array([0, 1.0, 0]) if abs(z[1]) < 0.999 else np.array([0, 0, 1.0])
    x = np.cross(down, z)
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(z, x), z])


def _step(rng: Generator, config: CameraConfig, distance: float, room: Room) -> Array:
    direction = rng.normal(size=3)
    shift = direction / np.linalg.norm(direction) * rng.uniform(0.005, 0.1) * distance
    return make_pose(_jitter(rng, 4), shift)


def _wide(rng: Generator, config: CameraConfig, distance: float, room: Room) -> Array:
    axis = rng.normal(size=3) * (0.4, 0, 0.1) + np.array([0, rng.choice([-1.0, 1.0]), 0])
    angle = np.radians(rng.uniform(min(5, config.viewpoint_deg), config.viewpoint_deg))
    around = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()
    middle = np.array([0, 0, distance])
    nearer = np.exp(rng.uniform(-0.3, 0.3))
    return make_pose(around @ _jitter(rng, 5), middle - nearer * around @ middle)


def _zoom(rng: Generator, config: CameraConfig, distance: float, room: Room) -> Array:
    scale = np.exp(rng.uniform(0.2, 1) * np.log(config.zoom_most))
    ahead = distance * (1 - 1 / scale) if rng.random() < 0.5 else -distance * (scale - 1)
    return make_pose(_jitter(rng, 4), [*rng.normal(0, 0.05 * distance, 2), ahead])


def _turn(rng: Generator, config: CameraConfig, distance: float, room: Room) -> Array:
    yaw, pitch = rng.uniform(-1, 1, 2) * (config.turn_deg, config.turn_deg / 4)
    turned = Rotation.from_euler("yx", [yaw, pitch], degrees=True).as_matrix()
    return make_pose(turned, rng.normal(0, 0.01 * distance, 3))


def _drive(rng: Generator, config: CameraConfig, distance: float, room: Room) -> Array:
    ahead = between(rng, config.drive_m) if room.layout.kind == "street" else rng.uniform(0.03, 0.3) * distance
    yaw = np.radians(np.clip(rng.normal(0, 5), -15, 15))
    turned = Rotation.from_euler("yx", [np.degrees(yaw), rng.normal(0, 0.5)], degrees=True).as_matrix()
    # On an arc the way goes along the mean of both headings.
    return make_pose(turned, ahead * np.array([np.sin(yaw / 2), rng.normal(0, 0.01), np.cos(yaw / 2)]))


_MOTIONS: dict[str, Callable[[Generator, CameraConfig, float, Room], Array]] = {
    "step": _step, "wide": _wide, "zoom": _zoom, "turn": _turn, "drive": _drive,
}  # fmt: skip


def _weights(config: CameraConfig) -> Array:
    weights = np.array([getattr(config, name) for name in _MOTIONS], dtype=np.float64)
    return np.asarray(weights / weights.sum())


def _roll(rng: Generator, config: CameraConfig) -> Array:
    if rng.random() < config.rare_roll:
        angle = rng.uniform(-config.rare_roll_deg, config.rare_roll_deg)
    else:
        angle = np.clip(rng.normal(0, config.roll_deg / 3), -config.roll_deg, config.roll_deg)
    return np.asarray(Rotation.from_euler("z", angle, degrees=True).as_matrix())


def _jitter(rng: Generator, degrees: float) -> Array:
    return np.asarray(Rotation.from_rotvec(np.radians(rng.normal(0, degrees, 3) * (1, 1, 0.3))).as_matrix())


def _grid(size: tuple[int, int]) -> Array:
    x, y = ((np.arange(count) + 0.5) * side / count - 0.5 for count, side in zip(_GRID, size, strict=True))
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def _too_close(room: Room, inverse: Array) -> bool:
    """Whether a tenth of a view is right before the lens, or most of it is empty."""
    close = inverse > 8 / room.layout.distance
    return bool(close.mean() > _CLOSE_SHARE or (inverse == 0).mean() > 0.5)
