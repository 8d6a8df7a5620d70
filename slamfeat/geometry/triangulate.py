"""Points in space from two views or from a depth image. A row of NaN means that there is no point."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slamfeat.errors import InputError
from slamfeat.geometry.epipolar import essential_from_pose, homogeneous
from slamfeat.geometry.se3 import Array
from slamfeat.types import Camera


def triangulate(
    T_1_0: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike, *, min_parallax_deg: float = 0.0
) -> Array:
    """Points seen by two cameras, from their coordinates on the planes z = 1.

    The coordinates are first moved by the least amount onto their epipolar lines (Lindstrom, "Triangulation made
    easy", CVPR 2010: two iterations, optimal to far below the noise); then the rays meet exactly.

    Args:
        T_1_0: (4, 4) pose mapping coordinates of camera 0 to camera 1.
        normalized0, normalized1: (N, 2) undistorted coordinates, as `Camera.normalize` gives them.
        min_parallax_deg: reject points whose rays meet at a smaller angle.

    Returns:
        (N, 3) in camera 0, in units of the translation; NaN where the point does not lie in front of both cameras.
    """
    n0, n1 = _closest_on_epipolar_lines(T_1_0, normalized0, normalized1)
    depth0, depth1 = ray_depths(T_1_0, n0, n1)
    with np.errstate(invalid="ignore"):
        good = (depth0 > 0) & (depth1 > 0) & np.isfinite(depth0)
        good &= parallax_deg(T_1_0, n0, n1) >= min_parallax_deg
        points = homogeneous(n0) * depth0[:, None]
    points[~good] = np.nan
    return points


def ray_depths(T_1_0: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike) -> tuple[Array, Array]:
    """Depths (N,), (N,) along z in cameras 0 and 1 at which the two rays come closest; inf or NaN if parallel."""
    determinant, numerator0, numerator1 = _ray_equations(T_1_0, normalized0, normalized1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return numerator0 / determinant, numerator1 / determinant


def in_front(T_1_0: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike) -> NDArray[np.bool_]:
    """Which points (N,) lie in front of both cameras. Needs no division, so it holds for far points too."""
    _, numerator0, numerator1 = _ray_equations(T_1_0, normalized0, normalized1)
    return (numerator0 > 0) & (numerator1 > 0)


def parallax_deg(T_1_0: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike) -> Array:
    """Angle in degrees between the two rays of each point, (N,): the apex angle of its triangulation."""
    rotated, observed = _rays(T_1_0, normalized0, normalized1)
    sine = np.linalg.norm(np.cross(rotated, observed), axis=1)
    angle: Array = np.degrees(np.arctan2(sine, np.einsum("ni,ni->n", rotated, observed)))
    return angle


def depth_at(points: ArrayLike, depth: ArrayLike, *, max_jump: float = 0.05) -> Array:
    """Depth in metres at pixels, from the nearest valid pixel of a 3x3 window.

    Args:
        points: (N, 2) pixels.
        depth: (H, W) metres, 0 or NaN where unknown.
        max_jump: largest relative spread of depth in the window. Beyond it the pixel lies on the border of an object,
            where the depth belongs to either side.

    Returns:
        (N,), NaN where the depth is unknown, jumps, or the point lies outside the picture.
    """
    grid, pixels = _as_depth(depth), np.asarray(points, dtype=np.float64).reshape(-1, 2)
    height, width = grid.shape
    low, high = np.array([-0.5, -0.5]), np.array([width - 0.5, height - 0.5])
    with np.errstate(invalid="ignore"):
        inside: NDArray[np.bool_] = np.all((pixels >= low) & (pixels < high), axis=1)
    pixels = np.where(inside[:, None], pixels, 0.0)
    window, distance = _window(grid, pixels)
    valid = np.isfinite(window)
    nearest = np.take_along_axis(window, np.where(valid, distance, np.inf).argmin(1)[:, None], 1)[:, 0]
    highest, lowest = np.where(valid, window, -np.inf).max(1), np.where(valid, window, np.inf).min(1)
    with np.errstate(invalid="ignore"):
        smooth = highest - lowest <= max_jump * lowest
    return np.where(inside & smooth, nearest, np.nan)


def backproject(points: ArrayLike, depth: ArrayLike, camera: Camera, *, max_jump: float = 0.05) -> Array:
    """Points in camera coordinates (N, 3), metres, of distorted pixels (N, 2) with a depth image.

    Arguments as in `depth_at`; `depth` has the size of `camera`. NaN where `depth_at` gives none.

    Raises:
        InputError: the depth image is not of the camera's size.
    """
    grid = _as_depth(depth)
    if grid.shape != (camera.height, camera.width):
        raise InputError(
            f"depth image is {grid.shape[1]}x{grid.shape[0]} but the camera is {camera.width}x{camera.height}; "
            "register the depth to the colour camera"
        )
    return homogeneous(camera.normalize(points)) * depth_at(points, grid, max_jump=max_jump)[:, None]


def _as_depth(depth: ArrayLike) -> Array:
    """Float64 depth with NaN where unknown."""
    grid = np.asarray(depth, dtype=np.float64)
    if grid.ndim != 2:
        raise InputError(f"depth must be an image of one channel (H, W), got the shape {grid.shape}")
    with np.errstate(invalid="ignore"):
        return np.where((grid > 0) & np.isfinite(grid), grid, np.nan)


def _window(grid: Array, pixels: Array) -> tuple[Array, Array]:
    """Depths and squared distances (N, 9) of the 3x3 pixels around each point; NaN beyond the border."""
    dy, dx = (offset.reshape(-1) for offset in np.mgrid[-1:2, -1:2])
    column = np.floor(pixels[:, :1] + 0.5).astype(int) + dx
    row = np.floor(pixels[:, 1:] + 0.5).astype(int) + dy
    distance = (column - pixels[:, :1]) ** 2 + (row - pixels[:, 1:]) ** 2
    return np.pad(grid, 1, constant_values=np.nan)[row + 1, column + 1], distance


def _rays(T_1_0: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike) -> tuple[Array, Array]:
    """Both rays (N, 3) of each point in the axes of camera 1, not of unit length."""
    rotation = np.asarray(T_1_0, dtype=np.float64)[:3, :3]
    return homogeneous(normalized0) @ rotation.T, homogeneous(normalized1)


def _ray_equations(T_1_0: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike) -> tuple[Array, Array, Array]:
    """Least squares of `depth1 * b = depth0 * a + t`: the determinant and both numerators by Cramer's rule, (N,)."""
    a, b = _rays(T_1_0, normalized0, normalized1)
    t = np.asarray(T_1_0, dtype=np.float64)[:3, 3]
    normal, a_t, b_t = np.cross(a, b), np.cross(a, t), np.cross(b, t)
    # Cross products instead of differences of dot products: these cancel badly at small parallax.
    determinant = np.einsum("ni,ni->n", normal, normal)
    return determinant, np.einsum("ni,ni->n", b_t, normal), np.einsum("ni,ni->n", a_t, normal)


def _closest_on_epipolar_lines(T_1_0: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike) -> tuple[Array, Array]:
    """Lindstrom's `niter2`: the least move of both coordinates (N, 2) that satisfies the epipolar constraint."""
    essential = essential_from_pose(T_1_0)
    x0, x1 = homogeneous(normalized0), homogeneous(normalized1)
    upper = essential[:2, :2]
    line1, line0 = (x0 @ essential.T)[:, :2], (x1 @ essential)[:, :2]
    a = np.einsum("ni,ij,nj->n", line1, upper, line0)
    b = 0.5 * ((line1**2).sum(1) + (line0**2).sum(1))
    c = np.einsum("ni,ij,nj->n", x1, essential, x0)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = c / (b + np.sqrt(np.maximum(b**2 - a * c, 0.0)))
        move0, move1 = step[:, None] * line0, step[:, None] * line1
        line1, line0 = line1 - move0 @ upper.T, line0 - move1 @ upper
        step = step * 2 * b / ((line1**2).sum(1) + (line0**2).sum(1))
        return x0[:, :2] - step[:, None] * line0, x1[:, :2] - step[:, None] * line1
