"""Crops of several sizes through one transformer at once: all their tokens in one row, attention within each crop.

What works on single tokens (norms, projections, feed-forward) sees one matrix; only attention is done size by size, on
torch's scaled_dot_product_attention or, where that is slow, by products of matrices. Stochastic depth (Huang et al.,
ECCV 2016) drops whole crops from a block's residual, and does not compute what it drops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from slamfeat.backbones.base import Backbone
from slamfeat.backbones.layers import Attention, Block, LayerScale, Rope, apply_rope

Branch = Callable[[Tensor, "Layout", float], Tensor]
"""Residual of a row of tokens, times a number."""
_FEW_TOKENS = 500
"""Up to which the products, which are kept for the gradient, take no more memory than all else does."""


@dataclass(frozen=True)
class Layout:
    """How a row of tokens is made up.

    Attributes:
        shapes: crops and tokens a crop, of each size; the sizes' tokens follow one another.
        ropes: rotary tables of each size; None where the architecture has none.
    """

    shapes: tuple[tuple[int, int], ...]
    ropes: tuple[Rope | None, ...]

    def split(self, tokens: Tensor) -> list[Tensor]:
        """(T, C) to one (B, N, C) a size."""
        parts = torch.split(tokens, [batch * count for batch, count in self.shapes])
        return [part.view(*shape, -1) for part, shape in zip(parts, self.shapes, strict=True)]

    def attend(self, attention: Attention, tokens: Tensor) -> Tensor:
        """(T, C) to (T, C), each crop by itself, before the last projection."""
        qkv = self.split(attention.qkv(tokens))
        parts = zip(qkv, self.ropes, strict=True)
        return torch.cat([attend(attention, part, rope).flatten(0, 1) for part, rope in parts])

    def draw(self, share: float, device: torch.device) -> tuple[Layout, Tensor, list[float]]:
        """Drop about this share of the crops, of each size but for one; draws from torch's generator.

        Returns:
            The layout of what is kept; (T',) where its tokens are in the whole row; by what the residual of each size
            is to be multiplied to have the size that it would have had on average.
        """
        shapes, places, factors, first = [], [], [], 0
        for batch, count in self.shapes:
            kept = max(1, round(batch * (1 - share)))
            crops = torch.randperm(batch)[:kept].sort().values.to(device)
            places.append((first + crops[:, None] * count + torch.arange(count, device=device)).flatten())
            factors.append(batch / kept)
            shapes.append((kept, count))
            first += batch * count
        return Layout(tuple(shapes), self.ropes), torch.cat(places), factors


def attend(attention: Attention, qkv: Tensor, rope: Rope | None) -> Tensor:
    """`Attention.attend`, on torch's kernel or by products, whichever is quicker."""
    if products_are_quicker(qkv):
        return attend_by_products(qkv, attention.num_heads, rope)
    return attention.attend(qkv, rope)


def products_are_quicker(qkv: Tensor) -> bool:
    """Whether torch's kernel is slow at attention within (B, N, 3C): in bfloat16 on a processor, for few tokens a crop.

    Most of all on the way back (torch 2.13).
    """
    return qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16 and qkv.shape[1] <= _FEW_TOKENS


def attend_by_products(qkv: Tensor, heads: int, rope: Rope | None = None) -> Tensor:
    """The same as `Attention.attend`, keeping all products for the gradient; scores are as wide as `qkv`."""
    batch, count, width = qkv.shape
    parts = qkv.view(batch, count, 3, heads, width // 3 // heads).permute(2, 0, 3, 1, 4).contiguous()
    q, k, v = parts.unbind(0)
    if rope is not None:
        q, k = apply_rope(q, rope), apply_rope(k, rope)
    with torch.autocast(qkv.device.type, enabled=False):  # the softmax in single precision would take twice as long
        attended: Tensor = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1) @ v
    return attended.transpose(1, 2).reshape(batch, count, width // 3)


class PackedBlock(Block):
    """A block, with the same weights under the same names, that takes rows of tokens as well."""

    def __init__(self, block: Block, drop_path: float = 0.0) -> None:
        """Take over a block's parts.

        Args:
            block: its parameters become this one's.
            drop_path: share of the crops that each residual leaves out in training mode.
        """
        nn.Module.__init__(self)
        for name, part in block.named_children():
            self.add_module(name, part)
        self.drop_path = drop_path

    def forward(self, tokens: Tensor, rope: Rope | Layout | None = None) -> Tensor:
        """(T, C) with a `Layout`, else as any block."""
        if not isinstance(rope, Layout):
            return super().forward(tokens, rope)
        return self._add(self._add(tokens, rope, self._attended), rope, self._fed_forward)

    def _attended(self, tokens: Tensor, layout: Layout, factor: float) -> Tensor:
        return scaled(self.attn.proj, self.ls1, layout.attend(self.attn, self.norm1(tokens)), factor)

    def _fed_forward(self, tokens: Tensor, _: Layout, factor: float) -> Tensor:
        return scaled(self.mlp.outer, self.ls2, self.mlp.inner(self.norm2(tokens)), factor)

    def _add(self, tokens: Tensor, layout: Layout, branch: Branch) -> Tensor:
        if not self.training or self.drop_path == 0:
            return tokens + branch(tokens, layout, 1.0)
        kept, places, factors = layout.draw(self.drop_path, tokens.device)
        residual = branch(tokens.index_select(0, places), kept, factors[0]).to(tokens.dtype)
        if min(factors) != max(factors):
            parts = zip(kept.split(residual), factors, strict=True)
            residual = torch.cat([(part * (factor / factors[0])).flatten(0, 1) for part, factor in parts])
        return tokens.index_add(0, places, residual)


def scaled(layer: nn.Linear, scale: LayerScale, x: Tensor, factor: float = 1.0) -> Tensor:
    """`scale(layer(x)) * factor`; scales the layer's weights instead, which are fewer numbers than tokens."""
    gamma = scale.gamma * factor
    return F.linear(x, layer.weight * gamma[:, None], layer.bias * gamma)


@dataclass(frozen=True)
class CropTokens:
    """Normed tokens of the crops of one size.

    Attributes:
        cls: (B, C); registers: (B, R, C); patch: (B, h*w, C).
    """

    cls: Tensor
    registers: Tensor
    patch: Tensor


def packable(backbone: Backbone, drop_path: float = 0.0) -> Backbone:
    """The same backbone with blocks that take rows of tokens; stochastic depth is the same in all of them."""
    blocks = (block for block in backbone.blocks if isinstance(block, Block))
    backbone.blocks = nn.ModuleList(PackedBlock(block, drop_path) for block in blocks)
    return backbone


def run_packed(
    backbone: Backbone, crops: Sequence[Tensor], masks: Sequence[Tensor | None] = (), *, recompute: bool = False,
    layers: Sequence[int] = (-1,),
) -> list[list[CropTokens]]:  # fmt: skip
    """Some blocks' tokens of crops of several sizes; deeper blocks are not computed.

    Args:
        backbone: of `packable`.
        crops: (B_i, 3, H_i, W_i) each, normalised.
        masks: (B_i, h_i, w_i) bool of the hidden patches, or None, for each of `crops`; empty for none at all.
        recompute: keep no activations inside blocks and compute them again for the gradient, which takes about a
            third more time and far less memory.
        layers: blocks, negative ones from the end.

    Returns:
        For each of `layers` in the order asked, tokens of each of `crops`.

    Raises:
        ConfigError: no such block.
    """
    embedded = [backbone.embed(images, mask) for images, mask in zip(crops, masks or [None] * len(crops), strict=True)]
    shapes = tuple((tokens.shape[0], tokens.shape[1]) for tokens, _ in embedded)
    layout = Layout(shapes, tuple(rope for _, rope in embedded))
    row = torch.cat([tokens.flatten(0, 1) for tokens, _ in embedded])
    wanted = [backbone.block_index(layer) for layer in layers]
    found: dict[int, list[CropTokens]] = {}
    for index, block in enumerate(backbone.blocks[: max(wanted) + 1]):
        row = checkpoint(block, row, layout, use_reentrant=False) if recompute else block(row, layout)
        if index in wanted:
            found[index] = list(_cut(layout.split(backbone.norm(row)), 1 + backbone.num_registers))
    return [found[index] for index in wanted]


def _cut(parts: Sequence[Tensor], prefix: int) -> Iterator[CropTokens]:
    for tokens in parts:
        yield CropTokens(tokens[:, 0], tokens[:, 1:prefix], tokens[:, prefix:])
