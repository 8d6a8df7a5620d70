"""Sums over the processes of a run, inside modules that are not told of them; free where there is only one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of all processes' values, in each of them; without gradient. All must call it, with the same shape."""
    return _reduced(values, dist.ReduceOp.SUM) if _several() else values


def max_over_ranks(values: Tensor) -> Tensor:
    """The largest of all processes' values, entry by entry, likewise."""
    return _reduced(values, dist.ReduceOp.MAX) if _several() else values


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@torch.no_grad()
def _reduced(values: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
    # NCCL sends from CUDA devices, Gloo from memory.
    carrier = values.device if values.device.type == "cuda" else torch.device("cpu")
    sent = values.to(carrier, copy=True).contiguous()
    dist.all_reduce(sent, how)
    return sent.to(values.device)
