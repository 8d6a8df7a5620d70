"""Two-view epipolar geometry on normalised coordinates (the plane z = 1), float64.

Source of the formulas: Hartley and Zisserman, Multiple View Geometry, 2nd edition, 9.6 and 11.4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from slamfeat.geometry.se3 import Array


def skew(vector: ArrayLike) -> Array:
    """The matrix [v]x with [v]x w = v x w, (3, 3), of a vector (3,)."""
    x, y, z = np.asarray(vector, dtype=np.float64).reshape(3)
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def homogeneous(points: ArrayLike) -> Array:
    """Points (N, 2) with a one appended, (N, 3)."""
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    return np.hstack([points, np.ones((len(points), 1))])


def essential_from_pose(T_1_0: ArrayLike) -> Array:
    """Essential matrix E = [t]x R with x1' E x0 = 0, of a pose (4, 4) from camera 0 to camera 1.

    A pose without translation gives the zero matrix. The scale of E is the length of the translation.
    """
    pose = np.asarray(T_1_0, dtype=np.float64)
    essential: Array = skew(pose[:3, 3]) @ pose[:3, :3]
    return essential


def epipolar_residual(essential: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike) -> Array:
    """The algebraic residual x1' E x0 of points (N, 2) on the planes z = 1; (N,)."""
    x0, x1 = homogeneous(normalized0), homogeneous(normalized1)
    residual: Array = np.einsum("ni,ij,nj->n", x1, np.asarray(essential, dtype=np.float64), x0)
    return residual


def sampson_error(essential: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike) -> Array:
    """Squared Sampson distance (N,): to first order, how far both points must move in total to satisfy E.

    In squared units of the plane z = 1; multiply by the squared focal length for squared pixels. Infinite where a
    point lies on its epipole, or where E is zero, because there the distance is not defined.
    """
    line1, line0 = epipolar_lines(essential, normalized0, normalized1)
    residual = epipolar_residual(essential, normalized0, normalized1)
    return _divide(residual**2, (line1**2).sum(1) + (line0**2).sum(1))


def symmetric_epipolar_error(essential: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike) -> Array:
    """Sum of the squared distances of both points to their epipolar lines (N,), in squared units of the plane z = 1."""
    line1, line0 = epipolar_lines(essential, normalized0, normalized1)
    squared = epipolar_residual(essential, normalized0, normalized1) ** 2
    return _divide(squared, (line1**2).sum(1)) + _divide(squared, (line0**2).sum(1))


def epipolar_lines(essential: ArrayLike, normalized0: ArrayLike, normalized1: ArrayLike) -> tuple[Array, Array]:
    """The normals (N, 2), not of unit length, of the epipolar lines in image 1 and in image 0."""
    matrix = np.asarray(essential, dtype=np.float64)
    return (homogeneous(normalized0) @ matrix.T)[:, :2], (homogeneous(normalized1) @ matrix)[:, :2]


def _divide(numerator: Array, denominator: Array) -> Array:
    out = np.full_like(numerator, np.inf)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out
