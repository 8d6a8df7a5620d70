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
        """Cosines and sines (2, B, 1, K, head_dim) of positions (B, K, 2) in about -1..1; channels in equal pairs."""
        angles = self.frequencies(positions)
        return torch.stack([angles.cos(), angles.sin()])[:, :, None].repeat_interleave(2, -1)


def quarter_turn(rows: Tensor) -> Tensor:
    """Rows of a matrix (2 N, ...), such that each pair of what it gives is turned by 90 degrees: (-odd, even)."""
    pairs = rows.reshape(-1, 2, *rows.shape[1:])
    return torch.stack([-pairs[:, 1], pairs[:, 0]], 1).flatten(0, 1)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v; all (B, heads, K, D), bias broadcastable to (B, heads, K0, K1)."""
    if bias is not None:
        bias = bias.to(query.dtype)  # torch 2.13 misreads a bias of another type without a word
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def halves(stacked: Tensor) -> tuple[Tensor, Tensor]:
    """First and second images (B, ...) of a batch (2 B, ...), all first ones before all second ones."""
    first, second = torch.unflatten(stacked, 0, (2, -1)).unbind()  # chunk(2) would bind B in an exported graph
    return first, second


def swap(stacked: Tensor) -> Tensor:
    """The partners of images stacked along the batch (2 B, ...), all first ones before all second ones."""
    first, second = halves(stacked)
    return torch.cat([second, first])


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
        parts = self._project(state).view(batch, count, 5, self.heads, dim // self.heads)
        query, key, value, query_turned, key_turned = parts.permute(2, 0, 3, 1, 4).unbind(0)
        cosine, sine = encoding[0], encoding[1]
        context = attend(query * cosine + query_turned * sine, key * cosine + key_turned * sine, value, bias)
        updated: Tensor = self.update(state, self.out(context.transpose(1, 2).flatten(-2)))
        return updated

    def _project(self, state: Tensor) -> Tensor:
        """Queries, keys, values, and the first two turned by 90 degrees (B, K, 5 dim), from which any angle is a sum.

        Turned by the weights, because taking channels apart and together takes longer than a larger product.
        """
        rows = 2 * self.query_key_value.in_features
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        turned = torch.cat([weight, quarter_turn(weight[:rows])]), torch.cat([bias, quarter_turn(bias[:rows])])
        return F.linear(state, *turned)


class CrossBlock(nn.Module):
    """Attention between the images: one projection serves as query and key (LightGlue eq. 6)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.update = _FeedForward(dim)

    def forward(self, states: Tensor, bias: Tensor | None = None) -> Tensor:
        """New states.

        Args:
            states: (2 B, K, dim), all first images before all second ones.
            bias: broadcastable to (2 B, heads, K, K), added to the logits of each image's keypoints (rows) with those
                of its partner.
        """
        key, value = self._split(self.key(states)), self._split(self.value(states))
        message = attend(key, swap(key), swap(value), bias)
        updated: Tensor = self.update(states, self.out(message.transpose(1, 2).flatten(-2)))
        return updated

    def _split(self, values: Tensor) -> Tensor:
        batch, count, dim = values.shape
        return values.view(batch, count, self.heads, dim // self.heads).transpose(1, 2)
