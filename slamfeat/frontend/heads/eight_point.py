"""The weighted eight-point algorithm in torch: a relative pose that can be differentiated by matches and weights.

For training through the pose, as in DINO-VO (arXiv 2507.13145, eqs. 2-11); estimates of users' poses come from
`slamfeat.geometry.robust`. Two things decide whether it can be trained through. Points must lie on the planes z = 1
(K^-1 applied): pixels divided by the image size give a fundamental matrix, whose singular values say nothing. And no
derivative may divide by the distance of two singular values, which are equal in every essential matrix: the nearest
essential matrix is a smooth function of a matrix where its singular vectors are not, the translation is a column of
I - E E^T, and the rotation a polynomial in E (Horn, "Recovering baseline and orientation from essential matrix", 1990).

What eight points cannot decide. Points of one plane and cameras that only turn leave a space of solutions; so do fewer
than eight different matches. The result is then finite and arbitrary, and so is its derivative, which does not grow
without bound but does not help either.

Source of the formulas: Hartley and Zisserman, Multiple View Geometry, 2nd edition, 9.6 and 11.2; derivatives of
spectral functions: Lewis and Sendov, "Nonsmooth analysis of singular values", 2005.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from slamfeat.errors import InputError

_LEAST = 8
_EIGEN_GAP = 1e-7  # of conditioned data, whose eigenvalues are 1 on average; noise of a pixel makes gaps of 1e-5
_SINGULAR_GAP = 1e-4  # of matrices with singular values near 1, 1, 0
_LEAST_SPREAD = 1e-8  # variance on the plane z = 1 below which points count as one; a twentieth of a pixel


def weighted_pose(x0: Tensor, x1: Tensor, weights: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Rotation and direction of translation from camera 0 to camera 1.

    Args:
        x0, x1: (B, N, 2) matches on the planes z = 1 (K^-1 applied), N >= 8; finite also where the weight is 0.
        weights: (B, N) >= 0; only their ratios matter.
        dtype: to compute in. float32 costs some hundredths of a degree on exact matches.

    Returns:
        R (B, 3, 3) and t (B, 3) of unit length with x1 ~ R X0 + t, in the dtype of `x0`. Meaningless, but finite, for
        planes and pure rotations (see the module).

    Raises:
        InputError: shapes that do not fit, fewer than eight matches, or numbers that are not finite.
    """
    essential = weighted_essential(x0, x1, weights, dtype)
    return pose_from_essential(essential, x0, x1, weights)


def weighted_essential(x0: Tensor, x1: Tensor, weights: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """The essential matrix that minimises the weighted algebraic error, sum of w (x1^T E x0)^2, made essential.

    Coordinates are conditioned with the weighted mean and deviation (Hartley's normalisation), the minimum is the
    eigenvector of A^T diag(w) A with the smallest eigenvalue, and the result is the nearest essential matrix.

    Args:
        x0, x1, weights, dtype: see `weighted_pose`.

    Returns:
        E (B, 3, 3) with singular values 1, 1, 0, in the dtype of `x0`; its sign means nothing.

    Raises:
        InputError: see `weighted_pose`.
    """
    _check(x0, x1, weights)
    share = weights.to(dtype)
    share = share / share.sum(1, keepdim=True).clamp_min(torch.finfo(dtype).tiny)
    y0, T0 = _conditioned(x0.to(dtype), share)
    y1, T1 = _conditioned(x1.to(dtype), share)
    rows = (y1[..., :, None] * y0[..., None, :]).flatten(2)
    normal = (rows * share[..., None]).mT @ rows
    if not bool(torch.isfinite(normal).all()):
        raise InputError(
            "eight points: a point or weight is not finite; give unused matches finite points and weight 0"
        )
    least = _smallest_eigenvector(normal).view(-1, 3, 3)
    return nearest_essential(T1.mT @ least @ T0).to(x0.dtype)


def nearest_essential(matrix: Tensor) -> Tensor:
    """The essential matrix U diag(1, 1, 0) V^T of matrices U S V^T (B, 3, 3) of any scale.

    Its derivative is exact and finite also where two singular values are equal; only where the last two nearly are,
    below 1e-4 of the matrix's norm, it is damped.
    """
    norm = torch.linalg.matrix_norm(matrix, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)
    essential: Tensor = _NearestEssential.apply(matrix / norm)  # type: ignore[no-untyped-call]
    return essential


def pose_from_essential(essential: Tensor, x0: Tensor, x1: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The one of the four poses of an essential matrix with most weight in front of both cameras.

    Args:
        essential: (B, 3, 3), made essential first if it is not.
        x0, x1: (B, N, 2) matches on the planes z = 1.
        weights: (B, N).

    Returns:
        R (B, 3, 3) and t (B, 3) of unit length, differentiable by `essential`; the choice has no derivative.
    """
    rotations, translations = decompose(essential)
    with torch.no_grad():
        votes = _votes(rotations, translations, homogeneous(x0), homogeneous(x1), weights)
        # Where no match has parallax none of the four has a vote: a camera turns little between two frames.
        upright = rotations.diagonal(dim1=2, dim2=3).sum(2)
        best = (votes + 1e-6 * weights.sum(1, keepdim=True).clamp_min(1e-6) * upright).argmax(1)
    pair = torch.arange(len(best), device=best.device)
    return rotations[pair, best], translations[pair, best]


def decompose(essential: Tensor) -> tuple[Tensor, Tensor]:
    """The four poses of essential matrices (B, 3, 3): rotations (B, 4, 3, 3), unit translations (B, 4, 3)."""
    exact = nearest_essential(essential)
    translation = _left_null_vector(exact)
    cofactors = _cofactors(exact)
    turned = torch.linalg.cross(translation[:, :, None], exact, dim=1)
    first, second = cofactors - turned, cofactors + turned
    rotations = torch.stack([first, first, second, second], 1)
    return rotations, torch.stack([translation, -translation, translation, -translation], 1)


def homogeneous(points: Tensor) -> Tensor:
    """Points (..., 2) with a one appended, (..., 3)."""
    return torch.cat([points, torch.ones_like(points[..., :1])], -1)


def _check(x0: Tensor, x1: Tensor, weights: Tensor) -> None:
    if x0.dim() != 3 or x0.shape[2] != 2 or x1.shape != x0.shape or weights.shape != x0.shape[:2]:
        raise InputError(
            f"eight points: x0 {tuple(x0.shape)}, x1 {tuple(x1.shape)} and weights {tuple(weights.shape)} do not fit; "
            "give (B, N, 2), (B, N, 2) and (B, N)"
        )
    if x0.shape[1] < _LEAST:
        raise InputError(f"eight points: {x0.shape[1]} matches are too few; give at least {_LEAST}")


def _conditioned(points: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Homogeneous points (B, N, 3) with weighted mean 0 and mean square 2, and the matrix (B, 3, 3) that made them."""
    mean = (share[..., None] * points).sum(1)
    spread = (share * (points - mean[:, None]).square().sum(2)).sum(1)
    scale = (2 / (spread + 2 * _LEAST_SPREAD)).sqrt()
    zero = torch.zeros_like(scale)
    rows = [scale, zero, -scale * mean[:, 0], zero, scale, -scale * mean[:, 1], zero, zero, torch.ones_like(scale)]
    matrix = torch.stack(rows, 1).view(-1, 3, 3)
    return homogeneous((points - mean[:, None]) * scale[:, None, None]), matrix


def _left_null_vector(exact: Tensor) -> Tensor:
    """Unit vector t (B, 3) with t^T E = 0: I - E E^T is t t^T, and its longest column the best known multiple of t."""
    outer = torch.eye(3, device=exact.device, dtype=exact.dtype) - exact @ exact.mT
    longest = outer.diagonal(dim1=1, dim2=2).argmax(1)
    column = outer.gather(2, longest[:, None, None].expand(-1, 3, 1))[..., 0]
    return torch.nn.functional.normalize(column, dim=1)


def _cofactors(matrix: Tensor) -> Tensor:
    """Of (B, 3, 3)."""
    rows = matrix.unbind(1)
    crossed = [torch.linalg.cross(rows[(i + 1) % 3], rows[(i + 2) % 3], dim=1) for i in range(3)]
    return torch.stack(crossed, 1)


def _votes(rotations: Tensor, translations: Tensor, x0: Tensor, x1: Tensor, weights: Tensor) -> Tensor:
    """Weight (B, 4) of the matches whose rays meet in front of both cameras.

    Only signs of depths are needed: of l0 and l1 in l1 x1 = l0 R x0 + t, each from the cross product with the other's
    ray.
    """
    turned = x0[:, None] @ rotations.mT
    other = x1[:, None].expand_as(turned)
    moved = translations[:, :, None].expand_as(turned)
    normal = torch.linalg.cross(turned, other)
    depth0 = (torch.linalg.cross(other, moved) * normal).sum(3)
    depth1 = (torch.linalg.cross(turned, moved) * normal).sum(3)
    in_front = (depth0 > 0) & (depth1 > 0)
    return torch.where(in_front, weights[:, None], 0.0).sum(2)


def _damped_inverse(gap: Tensor, least: float) -> Tensor:
    """1 / gap where it is large against `least`; never above 1 / (2 least), and 0 at 0."""
    return gap / (gap.square() + least**2)


def _smallest_eigenvector(matrix: Tensor) -> Tensor:
    """Unit eigenvectors (B, n) of symmetric matrices (B, n, n), the largest entry positive."""
    vector: Tensor = _SmallestEigenvector.apply(matrix)  # type: ignore[no-untyped-call]
    return vector


class _SmallestEigenvector(torch.autograd.Function):
    """Differentiates one eigenvector only; torch's `eigh` would divide by the gaps among all the others too."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        """Unit eigenvectors (B, n) of (B, n, n)."""
        values, vectors = torch.linalg.eigh(matrix)
        vector = vectors[..., 0]
        largest = vector.gather(1, vector.abs().argmax(1, keepdim=True))
        vector = torch.where(largest < 0, -vector, vector)
        ctx.save_for_backward(values, vectors, vector)
        return vector

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Derivative (B, n, n), symmetric, of one (B, n) by the eigenvector."""
        values, vectors, vector = ctx.saved_tensors
        others = vectors[..., 1:]
        inverse = _damped_inverse(values[:, 1:] - values[:, :1], _EIGEN_GAP)
        along = -inverse * (others.mT @ grad[..., None])[..., 0]
        outer: Tensor = (others @ along[..., None]) * vector[:, None]
        return 0.5 * (outer + outer.mT)


class _NearestEssential(torch.autograd.Function):
    """U f(S) V^T with f = (1, 1, 0), and its derivative by Lewis and Sendov.

    In the bases U and V the symmetric part of a change is multiplied by (f_i - f_j) / (s_i - s_j) and the antisymmetric
    one by (f_i + f_j) / (s_i + s_j): the first is 0 for the two equal values, whatever their distance.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        """U diag(1, 1, 0) V^T of (B, 3, 3)."""
        u, s, vt = torch.linalg.svd(matrix)
        ctx.save_for_backward(u, s, vt)
        nearest: Tensor = u[..., :2] @ vt[..., :2, :]
        return nearest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Derivative (B, 3, 3) of one by the result."""
        u, s, vt = ctx.saved_tensors
        f = s.new_tensor([1.0, 1.0, 0.0])
        of_symmetric = (f[:, None] - f) * _damped_inverse(s[:, :, None] - s[:, None], _SINGULAR_GAP)
        of_antisymmetric = (f[:, None] + f) * _damped_inverse(s[:, :, None] + s[:, None], _SINGULAR_GAP)
        inner = u.mT @ grad @ vt.mT
        symmetric, antisymmetric = 0.5 * (inner + inner.mT), 0.5 * (inner - inner.mT)
        outer: Tensor = u @ (of_symmetric * symmetric + of_antisymmetric * antisymmetric) @ vt
        return outer
