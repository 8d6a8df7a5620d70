"""DINOv3's vision transformer (arXiv 2508.10104): rotary positions, storage (register) tokens, no bias on the keys.

Written from the paper and the official checkpoints' key names; none of Meta's DINOv3 code is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from slamfeat.backbones.base import Backbone
from slamfeat.backbones.layers import Block, Ffn, PatchEmbed, Rope, init_weights


class RopeTables(nn.Module):
    """Axial rotary angles for patch centres at [-1, 1] each way; half of the channels turn with y, half with x."""

    periods: Tensor

    def __init__(self, head_dim: int, base: float = 100.0) -> None:
        super().__init__()
        self.register_buffer("periods", rope_periods(head_dim, base))

    def forward(self, rows: int, columns: int, scale: float = 1.0) -> Rope:
        """Sine and cosine, each (rows*columns, head_dim) fp32; `scale` multiplies the coordinates."""
        y, x = (((torch.arange(n, device=self.periods.device) + 0.5) / n * 2 - 1).float() for n in (rows, columns))
        centers = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).reshape(-1, 2, 1)
        angles = (2 * math.pi * scale * centers / self.periods).flatten(1).tile(2)
        return angles.sin(), angles.cos()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Follow the model to its device, but stay fp32: bf16 periods would turn far patches by up to half a degree.
        before = self.periods
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's lack
        if self.periods.dtype != before.dtype:
            self.periods = before.to(self.periods.device)
        return self


def rope_periods(head_dim: int, base: float = 100.0) -> Tensor:
    """Periods of the rotary angles, (head_dim / 4,) fp32, from 1 up to almost `base`."""
    return base ** (torch.arange(head_dim // 4, dtype=torch.float32) / (head_dim // 4))


class RopeVisionTransformer(Backbone):
    """DINOv3's architecture.

    Args:
        embed_dim, depth, num_heads: size of the transformer.
        patch_size: pixels a patch covers.
        registers: number of storage tokens.
        ffn: "mlp", or "swiglu" (S+, H+).
        ffn_ratio: width of the feed-forward part over `embed_dim` (before a gate's 2/3).
        layer_scale: initial value of the layer scales.
        name: for messages.

    Attributes:
        jitter: in training mode coordinates are multiplied by a factor between 1 / jitter and jitter, drawn anew every
            time (even in its logarithm), so that other sizes of images are no surprise; 1 for none.
    """

    jitter: float = 1.0

    def __init__(
        self, embed_dim: int, depth: int, num_heads: int, *, patch_size: int = 16, registers: int = 4,
        ffn: Ffn = "mlp", ffn_ratio: float = 4.0, layer_scale: float = 1.0, name: str = "custom",
    ) -> None:  # fmt: skip
        super().__init__(name, patch_size, embed_dim, depth, num_heads, registers)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim))  # only pretraining uses it; official files hold it
        if registers:
            self.storage_tokens = nn.Parameter(torch.zeros(1, registers, embed_dim))
        self.patch_embed = PatchEmbed(embed_dim, patch_size)
        self.rope_embed = RopeTables(embed_dim // num_heads)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, ffn, ffn_ratio, eps=1e-5, mask_k_bias=True, layer_scale=layer_scale)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-5)

    def init_weights(self) -> None:
        """Random weights to train from."""
        self.apply(init_weights)
        nn.init.normal_(self.cls_token, std=0.02)
        if self.num_registers:
            nn.init.normal_(self.storage_tokens, std=0.02)

    def tables(self, rows: int, columns: int) -> tuple[Tensor, ...]:
        """Sine and cosine of the rotary angles, each (rows, columns, C / heads), fp32 whatever the weights are."""
        scale = self.jitter ** float(torch.rand(()) * 2 - 1) if self.training and self.jitter != 1 else 1.0
        sin, cos = self.rope_embed(rows, columns, scale)
        return sin.view(rows, columns, -1), cos.view(rows, columns, -1)

    def _embed(
        self, images: Tensor, tables: Sequence[Tensor], masks: Tensor | None = None
    ) -> tuple[Tensor, Rope | None]:
        sin, cos = (table.flatten(0, 1) for table in tables)
        patches = self._hide(self.patch_embed(images).permute(0, 2, 3, 1), masks)
        parts = [self.cls_token.expand(images.shape[0], -1, -1), patches.flatten(1, 2)]
        if self.num_registers:
            parts.insert(1, self.storage_tokens.expand(images.shape[0], -1, -1))
        return torch.cat(parts, dim=1), (sin, cos)
