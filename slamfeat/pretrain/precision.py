"""Enough digits where half precision has too few, with autocast or without."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def wide(values: Tensor) -> Tensor:
    """Half-precision numbers as float32; float32 and float64 as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def unit(vectors: Tensor, eps: float = 1e-6) -> Tensor:
    """Vectors (..., C) at unit length, float32 or better; those shorter than `eps` are divided by `eps` instead."""
    return F.normalize(wide(vectors), dim=-1, eps=eps)


def full_precision(like: Tensor) -> torch.autocast:
    """A block on this tensor's device in which autocast does not turn products to half precision."""
    return torch.autocast(like.device.type, enabled=False)
