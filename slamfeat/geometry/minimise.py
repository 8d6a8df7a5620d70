"""Levenberg-Marquardt on a pose with Cauchy weights, for the refinements of `twoview` and `absolute`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from slamfeat.geometry.se3 import Array


def minimise_cauchy(
    pose: Array,
    linearize: Callable[[Array], tuple[Array, Array]],
    moved: Callable[[Array, Array], Array],
    *,
    scale: float,
    iterations: int,
) -> Array:
    """The pose (4, 4) near `pose` with the least robust error.

    Args:
        pose: (4, 4) where to start.
        linearize: gives the residuals (N, D) of N points at a pose, and their derivatives (N, D, P).
        moved: gives the pose after a step (P,).
        scale: length of a point's residual at which its weight has fallen to a half.
        iterations: upper bound.
    """
    damping = 1e-4
    residual, jacobian = linearize(pose)
    cost = _cauchy(residual, scale)
    for _ in range(iterations):
        candidate = moved(pose, _step(residual, jacobian, scale, damping))
        new_residual, new_jacobian = linearize(candidate)
        new_cost = _cauchy(new_residual, scale)
        if not new_cost < cost:
            damping *= 10
            if damping > 1e6:
                break
            continue
        # A millionth of the cost is a thousandth of the parameters' standard deviation for 1000 points.
        small = cost - new_cost < 1e-6 * cost
        pose, residual, jacobian, cost, damping = candidate, new_residual, new_jacobian, new_cost, damping / 10
        if small:
            break
    return pose


def _squared(residual: Array, scale: float) -> Array:
    squared: Array = ((residual / scale) ** 2).sum(1)
    return squared


def _cauchy(residual: Array, scale: float) -> float:
    return float(np.log1p(_squared(residual, scale)).sum())


def _step(residual: Array, jacobian: Array, scale: float, damping: float) -> Array:
    """The damped Gauss-Newton step (P,) under Cauchy weights."""
    count = jacobian.shape[2]
    weighted = (jacobian / (1 + _squared(residual, scale))[:, None, None]).reshape(-1, count)
    normal = weighted.T @ jacobian.reshape(-1, count)
    diagonal = np.diag(normal)
    # A direction that no point constrains, as the translation of a pure rotation, must not make the system singular.
    normal = normal + np.diag(damping * diagonal + 1e-12 * max(float(diagonal.max()), 1e-300))
    return np.asarray(np.linalg.solve(normal, -weighted.T @ residual.reshape(-1)), dtype=np.float64)
