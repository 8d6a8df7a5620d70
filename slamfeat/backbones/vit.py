"""DINOv2's vision transformer (arXiv 2304.07193): learned position embedding, optional registers (arXiv 2309.16588).

Written from the papers and the official checkpoints' key names, so that official files load as they are.
"""

from __future__ import annotations

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

    def _embed(self, images: Tensor) -> tuple[Tensor, Rope | None]:
        patches = self.patch_embed(images)
        size = (int(patches.shape[-2]), int(patches.shape[-1]))
        positions = self._per_size((size, self.device, self.dtype), lambda: self._positions(size))
        cls = self.cls_token.expand(len(images), -1, -1)
        tokens = torch.cat([cls, patches.flatten(2).transpose(1, 2)], dim=1) + positions
        if self.num_registers:
            registers = self.register_tokens.expand(len(images), -1, -1)
            tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)
        return tokens, None

    def _positions(self, size: tuple[int, int]) -> Tensor:
        return resize_positions(self.pos_embed, size, self.position_mode).to(self.dtype)


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
