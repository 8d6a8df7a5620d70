"""Attention between keypoints as LightGlue has it (Lindenberger et al., ICCV 2023, Sec. 3.1).

Within an image, queries and keys are turned by the keypoints' positions (rotary encoding with learned frequencies), so
that attention sees relative positions only. Between the images there is no position, and keys serve as queries too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FourierEncoding(nn.Module):
    """Rotary encoding of positions with learned frequencies (LightGlue eq. 3-5; Li et al., NeurIPS 2021)."""

    def __init__(self, head_dim: int, gamma: float = 1.0) -> None:
        super().__init__()
        self.frequencies = nn.Linear(2, head_dim // 2, bias=False)
        nn.init.normal_(self.frequencies.weight, std=gamma**-2)

    def forward(self, positions: Tensor) -> Tensor:
        """Cosines and sines (2, B, 1, K, head_dim / 2) of positions (B, K, 2) in about -1..1."""
        angles = self.frequencies(positions)
        return torch.stack([angles.cos(), angles.sin()])[:, :, None]


def rotate(encoding: Tensor, values: Tensor) -> Tensor:
    """Turn each pair of neighbouring channels of `values` (B, heads, K, D) by its angle."""
    even, odd = values[..., 0::2], values[..., 1::2]
    cosine, sine = encoding[0], encoding[1]
    return torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], -1).flatten(-2)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v; all (B, heads, K, D), bias broadcastable to (B, heads, K0, K1)."""
    if bias is not None:
        bias = bias.to(query.dtype)  # torch 2.13 misreads a bias of another type without a word
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


class _FeedForward(nn.Module):
    """The update of a state from itself and a message (LightGlue eq. 1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.wide = nn.Linear(2 * dim, 2 * dim)
        self.norm = nn.LayerNorm(2 * dim)
        self.narrow = nn.Linear(2 * dim, dim)

    def forward(self, state: Tensor, message: Tensor) -> Tensor:
        """New state (B, K, dim) from state and message of that shape."""
        hidden = self.norm(self.wide(torch.cat([state, message], -1)))
        updated: Tensor = state + self.narrow(F.gelu(hidden))
        return updated


class SelfBlock(nn.Module):
    """Attention among the keypoints of one image."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.update = _FeedForward(dim)

    def forward(self, state: Tensor, encoding: Tensor, bias: Tensor | None = None) -> Tensor:
        """New state (B, K, dim).

        Args:
            state: (B, K, dim).
            encoding: of `FourierEncoding`.
            bias: (B, 1, 1, K) to add to the logits; large negative for empty slots.
        """
        batch, count, dim = state.shape
        parts: Tensor = self.query_key_value(state).view(batch, count, 3, self.heads, dim // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        context = attend(rotate(encoding, query), rotate(encoding, key), value, bias)
        updated: Tensor = self.update(state, self.out(context.transpose(1, 2).flatten(-2)))
        return updated


class CrossBlock(nn.Module):
    """Attention between the images: one projection serves as query and key (LightGlue eq. 6)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.update = _FeedForward(dim)

    def forward(
        self, state0: Tensor, state1: Tensor, bias01: Tensor | None = None, bias10: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """New states of both images.

        Args:
            state0, state1: (B, K0, dim) and (B, K1, dim).
            bias01: broadcastable to (B, heads, K0, K1), added to the logits; `bias10` likewise for the way back.
        """
        (key0, value0), (key1, value1) = self._project(state0), self._project(state1)
        return (
            self.update(state0, self._message(key0, key1, value1, bias01)),
            self.update(state1, self._message(key1, key0, value0, bias10)),
        )

    def _project(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return self._split(self.key(state)), self._split(self.value(state))

    def _split(self, values: Tensor) -> Tensor:
        batch, count, dim = values.shape
        return values.view(batch, count, self.heads, dim // self.heads).transpose(1, 2)

    def _message(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        message: Tensor = self.out(attend(query, key, value, bias).transpose(1, 2).flatten(-2))
        return message
