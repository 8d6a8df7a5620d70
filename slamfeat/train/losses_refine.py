"""The refiner's loss: likelihood of the true offset under the predicted normal distribution.

The covariance is L L^T with L = [[exp(a), 0], [c, exp(b)]], given as (a, b, c), so that any three numbers are a proper
covariance; RoMa v2 (arXiv 2511.15706, Sec. 3.4) predicts precisions alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from slamfeat.errors import ConfigError

_LOG_2PI = math.log(2 * math.pi)


def offset_log_density(residual: Tensor, cholesky: Tensor) -> Tensor:
    """Log density of a two-dimensional normal distribution with mean 0.

    Args:
        residual: (..., 2) true offset minus predicted one, pixels.
        cholesky: (..., 3) a, b, c: logarithms of the diagonal of L, and its lower entry; see the module. Single
            precision bears a and b between -15 and 15 at residuals of up to a thousand pixels.

    Returns:
        (...), per squared pixel.
    """
    log_first, log_second, lower = cholesky.unbind(-1)
    first = residual[..., 0] * (-log_first).exp()
    second = (residual[..., 1] - lower * first) * (-log_second).exp()
    return -0.5 * (first.square() + second.square()) - log_first - log_second - _LOG_2PI


def offset_nll(residual: Tensor, cholesky: Tensor, outlier: float = 0.02, area: float = 100.0) -> Tensor:
    """Negative log-likelihood of a mixture: the predicted normal, and a uniform part for labels that are wrong.

    An error that the normal cannot explain costs at most log(area / outlier), and pulls at nothing.

    Args:
        residual, cholesky: see `offset_log_density`.
        outlier: share of the uniform part, 0 <= outlier < 1; 0 for the normal alone.
        area: over which it is uniform, squared pixels.

    Returns:
        (...), not averaged.

    Raises:
        ConfigError: an outlier share or area out of range.
    """
    if not 0 <= outlier < 1 or not 0 < area < math.inf:
        raise ConfigError(f"offset likelihood needs 0 <= outlier < 1 and area > 0, got {outlier} and {area}")
    inlier = offset_log_density(residual, cholesky)
    if outlier == 0:
        return -inlier
    uniform = torch.full_like(inlier, math.log(outlier / area))
    return -torch.logaddexp(inlier + math.log1p(-outlier), uniform)
