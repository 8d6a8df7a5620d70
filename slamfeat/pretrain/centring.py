"""A teacher's logits as targets that keep all prototypes in use, so that the student cannot say the same of all images.

Two ways with the same call: DINO's running centre (arXiv 2104.14294, Sec. 3.1), and the Sinkhorn-Knopp iterations of
SwAV (arXiv 2006.09882, Sec. 3.1) that DINOv2 took up (arXiv 2304.07193, Sec. 4). Targets are float32 and without
gradient whatever the logits are. Under torch.distributed both see the rows of all processes, and all must call them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from slamfeat.errors import ConfigError
from slamfeat.pretrain.collectives import max_over_ranks, sum_over_ranks


class Centring(nn.Module):
    """Softmax of the logits less their running mean.

    Attributes:
        centre: (K,) the mean, zeros at first.
    """

    centre: Tensor

    def __init__(self, prototypes: int, momentum: float = 0.9) -> None:
        """A centre that keeps a share `momentum` of itself at each call.

        Raises:
            ConfigError: a momentum outside 0..1.
        """
        super().__init__()
        if not 0 <= momentum < 1:
            raise ConfigError(f"centring: momentum must be at least 0 and below 1, got {momentum}")
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(prototypes))

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Targets by the centre as it was before these logits; in training mode these then move it.

        Args:
            logits: (N, K) of the teacher; N may be 0.
            temperature: of the softmax, above 0.

        Returns:
            (N, K) float32 that sum to 1 a row.
        """
        rows = logits.float()
        targets = ((rows - self.centre) / temperature).softmax(1)
        if self.training:
            self._follow(rows)
        return targets

    def _follow(self, rows: Tensor) -> None:
        # The count travels with the sum: processes may have different numbers of masked patches, or none.
        everything = sum_over_ranks(torch.cat([rows.sum(0), rows.new_full((1,), len(rows))]))
        mean, seen = everything[:-1] / everything[-1].clamp_min(1), everything[-1] > 0
        self.centre.lerp_(mean, (1 - self.momentum) * seen.to(mean.dtype))


class SinkhornKnopp(nn.Module):
    """Soft assignments with every prototype used alike over the rows, as nearly as a few iterations make it.

    By logarithms: the exponential of a logit over a low temperature is beyond float32 where logits are large.
    """

    def __init__(self, iterations: int = 3) -> None:
        """Scale prototypes and rows `iterations` times in turn; the rows are last, so that theirs are exact.

        Raises:
            ConfigError: no iterations.
        """
        super().__init__()
        if iterations < 1:
            raise ConfigError(f"sinkhorn: iterations must be at least 1, got {iterations}")
        self.iterations = iterations

    @torch.no_grad()
    def forward(self, logits: Tensor, temperature: float) -> Tensor:
        """Targets of these logits together; arguments and result as of `Centring`."""
        scaled = logits.float() / temperature
        of_rows, of_prototypes = scaled.new_zeros(len(scaled)), scaled.new_zeros(scaled.shape[1])
        for _ in range(self.iterations):
            of_prototypes = _log_sum_over_rows(scaled - of_rows[:, None])
            of_rows = (scaled - of_prototypes).logsumexp(1)
        return (scaled - of_prototypes - of_rows[:, None]).exp()


def _log_sum_over_rows(values: Tensor) -> Tensor:
    """log of the sum of exponentials (K,) over the rows (N, K) of all processes."""
    most = max_over_ranks(values.amax(0) if len(values) else values.new_full(values.shape[1:], -math.inf))
    return most + sum_over_ranks((values - most).exp().sum(0)).log()
