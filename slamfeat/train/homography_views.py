"""Views of a photograph as of a flat picture on a wall: how they are drawn at random, and how they are rendered."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import ConfigError
from slamfeat.train.pairs import Pixels, Points

Matrix = NDArray[np.float64]
Size = tuple[int, int]
_GRID = 8
_FOCAL = (0.8, 1.6)
"""Of the views, in units of their longer side: fields of view of 64 to 35 degrees."""
_STEEPEST = 45.0
"""Above it the widest of these fields of view would show the horizon of the picture's plane."""


@dataclass
class HomographyConfig:
    """What the two views of a photograph are like.

    Attributes:
        width, height: of both views, pixels.
        tilt_deg: the plane is seen at up to this angle from its normal, degrees, at most 45.
        rotation_deg: about the optical axis, up to this angle either way, degrees.
        any_rotation: share of the pairs where one view is turned by any angle instead.
        zoom: largest ratio between the scales of the two views.
        translation: how far the middles of the views lie apart at most, as a share of the wider view's sides.
        upright_first: share of the pairs whose first view is neither tilted nor turned, only cropped and scaled.
        max_upsampling: pixels of a view a pixel of the photograph, before tilt.
        least_cover: share of a view's sides that the photograph spans at least. Where the photograph is too small for
            that, `zoom` shrinks to 1 first, and then `max_upsampling` is passed.
        least_overlap: share of each view that is in the other one; the best of 20 draws is taken where none reaches it.
        reflect: share of the pairs where the photograph goes on beyond its edges as in mirrors; otherwise there is
            noise or an even colour, drawn anew for each view.

    Raises:
        ConfigError: a value that is out of range.
    """

    width: int = 640
    height: int = 480
    tilt_deg: float = 40.0
    rotation_deg: float = 20.0
    any_rotation: float = 0.15
    zoom: float = 2.5
    translation: float = 0.3
    upright_first: float = 0.5
    max_upsampling: float = 2.0
    least_cover: float = 0.75
    least_overlap: float = 0.2
    reflect: float = 0.6

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 32:
            raise ConfigError(f"views need 32 x 32 pixels at least, got {self.width} x {self.height}")
        for name in ("any_rotation", "translation", "upright_first", "least_cover", "least_overlap", "reflect"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is a share between 0 and 1, not {getattr(self, name)}")
        if not 0 <= self.tilt_deg <= _STEEPEST or not 0 <= self.rotation_deg <= 180:
            raise ConfigError(f"tilt_deg must be in 0..{_STEEPEST:g} and rotation_deg in 0..180")
        if not 1 <= self.zoom < math.inf or not 0 < self.max_upsampling < math.inf or self.least_cover == 0:
            raise ConfigError("zoom must be at least 1, max_upsampling and least_cover above 0")

    @property
    def size(self) -> Size:
        """(W, H) of the views."""
        return self.width, self.height


def draw_views(config: HomographyConfig, photo_size: Size, rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """Homographies (3, 3) from pixels of a photograph (W, H) to those of two views; their w is positive in front."""
    best, best_share = None, -1.0
    for _ in range(20):
        views = _draw(config, photo_size, rng)
        share = min(_overlap(a, b, config.size, photo_size) for a, b in (views, views[::-1]))
        if share > best_share:
            best, best_share = views, share
        if share >= config.least_overlap:
            break
    assert best is not None
    return best


def render(photo: Pixels, H: Matrix, size: Size) -> Pixels:
    """The view (h, w, 3) of `size` that `H` (photo to view) makes; beyond its edges the photo is reflected.

    Where the view shrinks the photo, it is sampled from a copy that was shrunk by averaging areas. Positions are exact
    but for OpenCV's: 4.x rounds where it samples to 1/32 of a pixel of the photo.
    """
    import cv2

    height, width = photo.shape[:2]
    step = _largest_step(H, size, (width, height))
    if step > 1:
        small = (max(round(width / step), 1), max(round(height / step), 1))
        photo = np.asarray(cv2.resize(photo, small, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        H = H @ inverse(_rescaling(small[0] / width, small[1] / height))
    # Not kornia's warp: it takes five times as long (6 ms and two conversions at 640x480 on one core, against 1.3).
    view = cv2.warpPerspective(photo, H, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(view, dtype=np.uint8)


def move(H: Matrix, points: Points) -> tuple[Points, NDArray[np.bool_]]:
    """Points (N, 2) through `H`, and (N,) whether they are in front of the camera; finite also where they are not."""
    mapped = np.asarray(points, np.float64) @ H[:, :2].T + H[:, 2]
    in_front = mapped[:, 2] > 1e-6
    return mapped[:, :2] / np.maximum(mapped[:, 2:], 1e-6), in_front


def inverse(H: Matrix) -> Matrix:
    """The homography the other way; its w is positive for what is in front, as that of `H` is."""
    return np.asarray(np.linalg.inv(H), dtype=np.float64)


def inside(points: Points, size: Size, margin: float = 0.0) -> NDArray[np.bool_]:
    """(N,) whether points (N, 2) lie in a picture of `size` (W, H), at least `margin` pixels from its edges."""
    low, high = margin - 0.5, np.asarray(size) - 0.5 - margin
    return np.asarray(((points >= low) & (points <= high)).all(1))


def view_pixels(size: Size, count: int) -> Points:
    """`count` x `count` points spread evenly over a picture of `size` (W, H), (count**2, 2)."""
    x, y = ((np.arange(count) + 0.5) / count * side - 0.5 for side in size)
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def _draw(config: HomographyConfig, photo_size: Size, rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    size, photo = np.array(config.size), np.array(photo_size)
    scales = _scales(config, photo_size, rng)
    half = size / (2 * scales[0])
    middle = rng.uniform(np.minimum(half, photo / 2), np.maximum(photo - half, photo / 2)) - 0.5
    middles = (middle, middle + rng.uniform(-1, 1, 2) * config.translation * size / scales[0])
    upright = rng.random() < config.upright_first
    poses = [np.eye(3) if upright else _orbit(config, rng), _orbit(config, rng)]
    if rng.random() < config.any_rotation:
        poses[1] = poses[1] @ _turn(rng.uniform(-180, 180))
    if rng.random() < 0.5:
        scales, middles = scales[::-1], middles[::-1]
    centre = _shift((size - 1) / 2)
    first, second = (
        centre @ pose @ np.diag([scale, scale, 1.0]) @ _shift(-at)
        for pose, scale, at in zip(poses, scales, middles, strict=True)
    )
    return first, second


def _scales(config: HomographyConfig, photo_size: Size, rng: np.random.Generator) -> tuple[float, float]:
    """Pixels of a view a pixel of the photo, of the wider and of the closer view."""
    least = config.least_cover * max(view / photo for view, photo in zip(config.size, photo_size, strict=True))
    most = max(config.max_upsampling, least)
    zoom = math.exp(rng.uniform(0, math.log(min(config.zoom, most / least))))
    scale = math.exp(rng.uniform(math.log(least), math.log(max(most / zoom, least))))
    return scale, scale * zoom


def _orbit(config: HomographyConfig, rng: np.random.Generator) -> Matrix:
    """The plane z = 0 seen by a camera that looks at its origin, tilted and turned; there it keeps the scale, at w = 1.

    A point (X, Y) of the plane lies at R (X, Y, 0) + (0, 0, f) of a camera with focal length f.
    """
    tilt, towards = np.radians(rng.uniform(0, config.tilt_deg)), rng.uniform(0, 360)
    focal = rng.uniform(*_FOCAL) * max(config.size)
    lean = np.array([[1, 0, 0], [0, np.cos(tilt), 0], [0, np.sin(tilt) / focal, 1]])
    return np.asarray(_turn(towards) @ lean @ _turn(rng.uniform(-1, 1) * config.rotation_deg - towards))


def _turn(degrees: float) -> Matrix:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _shift(by: NDArray[np.float64]) -> Matrix:
    return np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1]])


def _rescaling(x: float, y: float) -> Matrix:
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])


def _overlap(first: Matrix, second: Matrix, size: Size, photo_size: Size) -> float:
    """Share of the first view that shows the photograph where the second one shows it too."""
    photo, _ = move(inverse(first), view_pixels(size, _GRID))
    seen, in_front = move(second, photo)
    return float((inside(photo, photo_size) & inside(seen, size) & in_front).mean())


def _largest_step(H: Matrix, size: Size, photo_size: Size) -> float:
    """Pixels of the photo from one pixel of the view to the next, in the direction where that is most.

    The median over the view: with the largest, the near part of a tilted view would be blurred for the far one's sake.
    """
    at, back = view_pixels(size, _GRID), inverse(H)
    photo, _ = move(back, at)
    shown = inside(photo, photo_size)
    at = at[shown] if shown.any() else at
    here = move(back, at)[0]
    jacobians = np.stack([move(back, at + step)[0] - here for step in np.eye(2)], -1)
    return float(np.median(np.linalg.norm(jacobians, ord=2, axis=(1, 2))))
