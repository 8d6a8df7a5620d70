"""What every backbone offers: images in, tokens on their patch grid out, frozen unless somebody trains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from slamfeat.backbones.layers import Block, PatchEmbed, Rope
from slamfeat.errors import ConfigError, InputError

T = TypeVar("T")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_CACHED_SIZES = 8  # a sequence has one size; a folder of photographs must not fill the memory


@dataclass(frozen=True)
class Tokens:
    """The normed tokens of the last block.

    Attributes:
        patch: (B, C, h, w), h = H / patch_size.
        cls: (B, C).
        registers: (B, R, C), R = 0 where the architecture has none.
    """

    patch: Tensor
    cls: Tensor
    registers: Tensor


class Backbone(nn.Module):
    """A vision transformer without its training head.

    Frozen is a state: `freeze()` sets eval mode, switches gradients off, and holds both until `unfreeze()`.

    Attributes:
        name: registry name, or "custom".
        patch_size: pixels a token covers, each way.
        embed_dim, depth, num_heads, num_registers: as in the papers.
        output: map of the last block's tokens in `intermediate`, or None; see `Architecture`.
        imitates: whose tokens these are then: a backbone's name and the number of its block.
    """

    blocks: nn.ModuleList
    norm: nn.LayerNorm
    mask_token: nn.Parameter
    patch_embed: PatchEmbed

    def __init__(self, name: str, patch_size: int, embed_dim: int, depth: int, num_heads: int, registers: int) -> None:
        super().__init__()
        self.name, self.patch_size, self.embed_dim = name, patch_size, embed_dim
        self.depth, self.num_heads, self.num_registers = depth, num_heads, registers
        self.output: nn.Linear | None = None
        self.imitates: tuple[str, int] | None = None
        self._frozen = False
        self._size_cache: dict[tuple[Any, ...], Any] = {}
        hook = self.register_load_state_dict_post_hook  # a hook, because a parent's load does not call load_state_dict
        hook(lambda module, _: module._size_cache.clear())  # type: ignore[no-untyped-call]  # torch's lack

    @property
    def frozen(self) -> bool:
        """True after `freeze()`."""
        return self._frozen

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        return self.norm.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.norm.weight.device

    def freeze(self) -> Self:
        """Set eval mode and switch off gradients; `train()` no longer has an effect. Returns self."""
        self._frozen = True
        self._size_cache.clear()
        self.requires_grad_(False)
        return self.eval()

    def unfreeze(self) -> Self:
        """Make all weights trainable again, still in eval mode. Returns self."""
        self._frozen = False
        self._size_cache.clear()
        return self.requires_grad_(True)

    def train(self, mode: bool = True) -> Self:
        """Set training mode, unless frozen."""
        return super().train(mode and not self._frozen)

    def normalize(self, rgb01: Tensor) -> Tensor:
        """RGB in [0, 1], (B, 3, H, W) or (3, H, W), to ImageNet's mean and spread, as the backbones were trained."""
        mean = rgb01.new_tensor(IMAGENET_MEAN).view(3, 1, 1)
        std = rgb01.new_tensor(IMAGENET_STD).view(3, 1, 1)
        return (rgb01 - mean) / std

    def forward(self, images: Tensor) -> Tokens:
        """Run all blocks.

        Args:
            images: (B, 3, H, W), normalised (see `normalize`), H and W multiples of the patch size.

        Raises:
            InputError: another shape, or integers.
        """
        (tokens,) = self._run(images, [self.depth - 1])
        first = 1 + self.num_registers
        return Tokens(self._to_grid(tokens, images), tokens[:, 0], tokens[:, 1:first])

    def intermediate(
        self, images: Tensor, layers: Sequence[int], tables: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Patch tokens after chosen blocks, each passed through the final norm; deeper blocks are not computed.

        Those of the last block pass `output` too, where there is one.

        Args:
            images: as in `forward`.
            layers: block indices 0..depth-1 in any order; negative ones count from the end.
            tables: what `tables` gives for the grid of these images; made (and kept) here when None.

        Returns:
            One (B, C, h, w) for each index, in the order asked; C is `output`'s where tokens passed it.

        Raises:
            InputError: images of another shape.
            ConfigError: an index out of range.
        """
        wanted = [self.block_index(layer) for layer in layers]
        found = zip(wanted, self._run(images, wanted, tables), strict=True)
        return [self._to_grid(self._mapped(tokens, index), images) for index, tokens in found]

    def _mapped(self, tokens: Tensor, index: int) -> Tensor:
        return tokens if self.output is None or index < self.depth - 1 else self.output(tokens)

    def tables(self, rows: int, columns: int) -> tuple[Tensor, ...]:
        """What depends only on the grid's size and the weights, each (rows, columns, D): positions, rotary angles.

        An exported graph takes them as inputs, so that one graph serves every size.
        """
        raise NotImplementedError

    def _run(self, images: Tensor, wanted: list[int], tables: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Normed tokens (B, N, C) after each wanted block."""
        self.check_images(images)
        if tables is None:
            rows, columns = (int(side) // self.patch_size for side in images.shape[-2:])
            tables = self._per_size((rows, columns, self.device, self.dtype), lambda: self.tables(rows, columns))
        found: dict[int, Tensor] = {}
        # no_grad and not inference_mode: the outputs feed heads that are trained
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            tokens, rope = self._embed(images.to(self.device, self.dtype), tables)
            for index in range(max(wanted, default=-1) + 1):
                block = self.blocks[index]
                assert isinstance(block, Block)  # for the type checker
                tokens = block(tokens, rope)
                if index in wanted:
                    found[index] = self.norm(tokens)
        return [found[index] for index in wanted]

    def init_weights(self) -> None:
        """Random weights to train from."""
        raise NotImplementedError

    def embed(self, images: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Rope | None]:
        """The first block's tokens, (B, 1 + R + h*w, C), and rotary tables where the architecture has them.

        Args:
            images: as in `forward`, on the weights' device and of their type.
            masks: (B, h, w) bool; patches that are hidden behind the mask token, as in pretraining.
        """
        rows, columns = (int(side) // self.patch_size for side in images.shape[-2:])
        return self._embed(images, self.tables(rows, columns), masks)

    def _embed(
        self, images: Tensor, tables: Sequence[Tensor], masks: Tensor | None = None
    ) -> tuple[Tensor, Rope | None]:
        """See `embed`; `tables` are those of the images' grid."""
        raise NotImplementedError

    def _hide(self, patches: Tensor, masks: Tensor | None) -> Tensor:
        """(B, h, w, C) patch embeddings with the mask token where `masks` is true."""
        if masks is None:
            return patches
        return torch.where(masks.unsqueeze(-1), self.mask_token.to(patches.dtype), patches)

    def _to_grid(self, tokens: Tensor, images: Tensor) -> Tensor:
        rows, columns = images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size
        patches = tokens[:, 1 + self.num_registers :]
        return patches.transpose(1, 2).reshape(*patches.shape[::2], rows, columns)

    def block_index(self, layer: int) -> int:
        """A block's number from 0; negative ones count from the end.

        Raises:
            ConfigError: no such block.
        """
        if not -self.depth <= layer < self.depth:
            raise ConfigError(f"{self.name} has blocks 0..{self.depth - 1} (or -{self.depth}..-1), not {layer}")
        return layer % self.depth

    def check_images(self, images: Tensor) -> None:
        """Raise InputError unless images are (B, 3, H, W) of floats with sides that are multiples of the patch."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"{self.name} takes images (B, 3, H, W), got {tuple(images.shape)}")
        if not images.is_floating_point():
            kind = str(images.dtype).removeprefix("torch.")
            raise InputError(f"{self.name} takes floats, got {kind}; divide by 255 first")
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size or not height * width:
            raise InputError(
                f"{self.name} takes sides that are multiples of {self.patch_size}, got {width}x{height}; "
                f"bring the image there with slamfeat.image.fit_to_patch(image, {self.patch_size})"
            )

    def _per_size(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """What depends only on the grid's size and the (frozen) weights, made once and kept for a few sizes.

        Several threads may ask at once: another one may drop the key meanwhile, so nothing is looked up twice.
        """
        if not self._frozen:
            return make()
        value: T | None = self._size_cache.get(key)
        if value is None:
            value = make()
            for oldest in list(self._size_cache)[: 1 - _CACHED_SIZES]:
                self._size_cache.pop(oldest, None)
            self._size_cache[key] = value
        return value

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._size_cache.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's lack
        return self
