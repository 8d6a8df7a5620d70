"""DINOv2's vision transformer (arXiv 2304.07193): learned position embedding, optional registers (arXiv 2309.16588).

Written from the papers and the official checkpoints' key names, so that official files load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.backbones.base import Backbone
from slamfeat.backbones.layers import Block, Ffn, PatchEmbed, Rope, init_weights

PositionMode = Literal["offset", "antialias"]


class VisionTransformer(Backbone):
    """DINOv2's architecture.

    Args:
        embed_dim, depth, num_heads: size of the transformer.
        patch_size: pixels a patch covers.
        registers: number of register tokens.
        ffn: "mlp", or "swiglu_fused" (ViT-g).
        grid: side of the stored position embedding, in patches (37 for the official 518 px).
        position_mode: how checkpoints of this kind were resized to other grids, see `resize_positions`.
        layer_scale: initial value of the layer scales.
        name: for messages.
    """

    def __init__(
        self, embed_dim: int, depth: int, num_heads: int, *, patch_size: int = 14, registers: int = 0,
        ffn: Ffn = "mlp", ffn_ratio: float = 4.0, grid: int = 37, position_mode: PositionMode = "offset",
        layer_scale: float = 1.0, name: str = "custom",
    ) -> None:  # fmt: skip
        super().__init__(name, patch_size, embed_dim, depth, num_heads, registers)
        self.position_mode: PositionMode = position_mode
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, embed_dim))
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim))  # only pretraining uses it; official files hold it
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, embed_dim))
        self.patch_embed = PatchEmbed(embed_dim, patch_size)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, ffn, ffn_ratio, eps=1e-6, layer_scale=layer_scale) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)

    def init_weights(self) -> None:
        """Random weights to train from."""
        self.apply(init_weights)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        if self.num_registers:
            nn.init.normal_(self.register_tokens, std=1e-6)

    def tables(self, rows: int, columns: int) -> tuple[Tensor, ...]:
        """The patches' position embedding, (rows, columns, C)."""
        resized = resize_positions(self.pos_embed, (rows, columns), self.position_mode)
        return (resized[0, 1:].reshape(rows, columns, -1).to(self.dtype),)

    def _embed(
        self, images: Tensor, tables: Sequence[Tensor], masks: Tensor | None = None
    ) -> tuple[Tensor, Rope | None]:
        (positions,) = tables
        patches = self._hide(self.patch_embed(images).permute(0, 2, 3, 1), masks) + positions
        parts = [(self.cls_token + self.pos_embed[:, :1]).expand(images.shape[0], -1, -1), patches.flatten(1, 2)]
        if self.num_registers:
            parts.insert(1, self.register_tokens.expand(images.shape[0], -1, -1))
        return torch.cat(parts, dim=1), None


def resize_positions(pos_embed: Tensor, size: tuple[int, int], mode: PositionMode) -> Tensor:
    """Resize a position embedding to another grid, bicubic in fp32.

    Args:
        pos_embed: (1, 1 + g*g, C), the class token's first.
        size: rows and columns wanted.
        mode: "offset" is how the plain DINOv2 files were trained: scale (n + 0.1) / g, no antialias;
            "antialias" is how the ones with registers were. Mixing them up shifts the features silently.

    Returns:
        (1, 1 + rows*columns, C) fp32.
    """
    wide = pos_embed.float()
    side = round((pos_embed.shape[1] - 1) ** 0.5)
    if size == (side, side):
        return wide
    grid = wide[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if mode == "offset":
        scale = ((size[0] + 0.1) / side, (size[1] + 0.1) / side)
        resized = F.interpolate(grid, scale_factor=scale, mode="bicubic")
    else:
        resized = F.interpolate(grid, size=size, mode="bicubic", antialias=True)
    return torch.cat([wide[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
