"""The parts that DINOv2's and DINOv3's transformers share. Names of parameters follow the official checkpoints.

Tokens are (B, N, C) throughout: class token first, registers next, patches last, row by row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Ffn = Literal["mlp", "swiglu_fused", "swiglu"]
Rope = tuple[Tensor, Tensor]


class PatchEmbed(nn.Module):
    """Non-overlapping patches to vectors: (B, 3, H, W) -> (B, C, H/p, W/p)."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images whose sides are multiples of the patch."""
        out: Tensor = self.proj(images)
        return out


class MaskedBiasLinear(nn.Linear):
    """A linear layer of which a part of the bias is switched off (DINOv3: the keys' part).

    `bias_mask` is 1 where the bias counts and 0 where it does not; it is a buffer because official files carry it.
    """

    bias_mask: Tensor

    def __init__(self, in_features: int, out_features: int, masked: slice) -> None:
        super().__init__(in_features, out_features)
        mask = torch.ones(out_features)
        mask[masked] = 0
        self.register_buffer("bias_mask", mask)

    def forward(self, input: Tensor) -> Tensor:
        """`x W^T + b` with the masked part of b as zero, whatever is stored there (it may be NaN)."""
        return F.linear(input, self.weight, self.bias.masked_fill(self.bias_mask == 0, 0))


class Attention(nn.Module):
    """Multi-head self-attention on torch's scaled_dot_product_attention."""

    def __init__(self, dim: int, num_heads: int, mask_k_bias: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = MaskedBiasLinear(dim, 3 * dim, slice(dim, 2 * dim)) if mask_k_bias else nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, rope: Rope | None = None) -> Tensor:
        """Attend over all tokens; `rope` turns the queries and keys of the last tokens (the patches)."""
        out: Tensor = self.proj(self.attend(self.qkv(tokens), rope))
        return out

    def attend(self, qkv: Tensor, rope: Rope | None = None) -> Tensor:
        """(B, N, 3C) queries, keys and values to (B, N, C), before the last projection."""
        batch, count, width = qkv.shape
        heads = qkv.view(batch, count, 3, self.num_heads, width // 3 // self.num_heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        if rope is not None:
            q, k = apply_rope(q, rope), apply_rope(k, rope)
        attended = F.scaled_dot_product_attention(q, k, v)
        return attended.transpose(1, 2).reshape(batch, count, width // 3)


def apply_rope(x: Tensor, rope: Rope) -> Tensor:
    """Turn the last tokens of `x` (B, heads, N, d) by the angles in `rope`, a pair of (n, d) sine and cosine, n <= N.

    Channel i is paired with channel i + d/2. Done in the tables' fp32 also for bf16 tokens, as DINOv3 was trained.
    """
    sin, cos = rope
    first_patch = x.shape[-2] - sin.shape[-2]
    prefix, wide = x[..., :first_patch, :], x[..., first_patch:, :].to(sin.dtype)
    first, second = wide.chunk(2, dim=-1)
    turned = wide * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([prefix, turned.to(x.dtype)], dim=-2)


class FeedForward(nn.Module, ABC):
    """What a token goes through by itself: to the hidden units, and by a linear layer back."""

    @property
    @abstractmethod
    def outer(self) -> nn.Linear:
        """The layer back."""

    @abstractmethod
    def inner(self, x: Tensor) -> Tensor:
        """Hidden units: (..., C) -> (..., H)."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        out: Tensor = self.outer(self.inner(x))
        return out


class Mlp(FeedForward):
    """Two layers with GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    @property
    def outer(self) -> nn.Linear:
        """See `FeedForward`."""
        return self.fc2

    def inner(self, x: Tensor) -> Tensor:
        """See `FeedForward`."""
        return F.gelu(self.fc1(x))


class SwiGluFused(FeedForward):
    """Gated feed-forward as DINOv2 ViT-g stores it: gate and value in one matrix `w12`."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, dim)

    @property
    def outer(self) -> nn.Linear:
        """See `FeedForward`."""
        return self.w3

    def inner(self, x: Tensor) -> Tensor:
        """See `FeedForward`."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        out: Tensor = F.silu(gate) * value
        return out


class SwiGlu(FeedForward):
    """Gated feed-forward as DINOv3 S+ and H+ store it: gate `w1`, value `w2`."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden)
        self.w2 = nn.Linear(dim, hidden)
        self.w3 = nn.Linear(hidden, dim)

    @property
    def outer(self) -> nn.Linear:
        """See `FeedForward`."""
        return self.w3

    def inner(self, x: Tensor) -> Tensor:
        """See `FeedForward`."""
        out: Tensor = F.silu(self.w1(x)) * self.w2(x)
        return out


def make_ffn(kind: Ffn, dim: int, ratio: float) -> FeedForward:
    """The feed-forward part; gated ones have 2/3 of the width, rounded up to a multiple of 8, as official files."""
    hidden = int(dim * ratio)
    if kind == "mlp":
        return Mlp(dim, hidden)
    gated = (int(hidden * 2 / 3) + 7) // 8 * 8
    return SwiGluFused(dim, gated) if kind == "swiglu_fused" else SwiGlu(dim, gated)


class LayerScale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, dim: int, init: float = 1.0) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block with layer scale."""

    def __init__(
        self, dim: int, num_heads: int, ffn: Ffn, ffn_ratio: float, *,
        eps: float, mask_k_bias: bool = False, layer_scale: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, num_heads, mask_k_bias)
        self.ls1 = LayerScale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = make_ffn(ffn, dim, ffn_ratio)
        self.ls2 = LayerScale(dim, layer_scale)

    def forward(self, tokens: Tensor, rope: Rope | None = None) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens), rope))
        out: Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens)))
        return out


def init_weights(module: nn.Module) -> None:
    """Initial weights for training from nothing: linear layers truncated normal 0.02, biases 0. Use with `apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
