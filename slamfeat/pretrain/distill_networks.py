"""Students, and the frozen teacher with what must be known of its tokens before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.backbones.base import Backbone
from slamfeat.pretrain.crops import GLOBAL
from slamfeat.pretrain.distill_recipe import DenseConfig, PrototypeConfig
from slamfeat.pretrain.head import ProjectionHead
from slamfeat.pretrain.packed import CropTokens, packable, run_packed


class Teacher:
    """A frozen backbone that sees the same crops on the same grid, at its own patch size.

    Attributes:
        backbone: frozen.
        layers: blocks whose tokens are taught.
    """

    def __init__(self, backbone: Backbone, layers: Sequence[int]) -> None:
        """Freeze and keep `backbone`.

        Raises:
            ConfigError: it has no such block.
        """
        self.backbone = packable(backbone).freeze()
        self.layers = [backbone.block_index(layer) for layer in layers]

    @torch.no_grad()
    def __call__(self, crops: Tensor, patch: int) -> list[CropTokens]:
        """Tokens of its layers.

        Args:
            crops: (B, 3, S, S) normalised.
            patch: of the students, of which the crops are so many.
        """
        if patch != self.backbone.patch_size:
            side = crops.shape[-1] // patch * self.backbone.patch_size
            crops = F.interpolate(crops, (side, side), mode="bicubic", antialias=True, align_corners=False)
        said = run_packed(self.backbone, [crops.to(self.backbone.dtype)], layers=self.layers)
        return [tokens for (tokens,) in said]


class TokenSample:
    """Class tokens, and about so many of the patches, of images by their number; copies, not views of whole batches.

    Zeros stand where nothing was added, so that the samples of several processes add up to one of all images.

    Attributes:
        cls: (N, GLOBAL, C) by image and view; patch: (N, GLOBAL, M, C).
    """

    def __init__(self, images: int, batch: int, most: int, patches: int, dim: int, device: torch.device) -> None:
        """Room for `images` images.

        Args:
            images: N.
            batch: images of a step, among which all places of the grid have their turn.
            most: patches to keep in all, about.
            patches: of a crop.
            dim: of a token.
            device: where they are kept.
        """
        self._images, self._batch, self._count = images, batch, patches
        self._a_crop = min(max(1, most // (GLOBAL * images)), patches)
        self.cls = torch.zeros(images, GLOBAL, dim, device=device)
        self.patch = torch.zeros(images, GLOBAL, self._a_crop, dim, device=device)

    def add(self, numbers: range, tokens: CropTokens) -> None:
        """Take in the crops of some images: the first view of each, then the second."""
        part = slice(numbers.start, numbers.stop)
        both = (tokens.cls, tokens.patch)
        cls, patch = (kind.reshape(GLOBAL, len(numbers), *kind.shape[1:]).transpose(0, 1) for kind in both)
        places = self._places(torch.tensor(numbers)).to(patch.device)[..., None].expand(-1, -1, -1, patch.shape[-1])
        self.cls[part], self.patch[part] = cls, patch.gather(2, places)

    def rows(self, kept: Tensor) -> Tensor:
        """(N', C) of `cls` or `patch`: batch after batch, and in each one view after the other."""
        return torch.cat([part.transpose(0, 1).flatten(0, -2) for part in torch.split(kept, self._batch)])

    def _places(self, numbers: Tensor) -> Tensor:
        """(N, GLOBAL, M) patches that are kept: other ones in every crop, so that all places have their share."""
        step, at = numbers // self._batch, numbers % self._batch
        crops = (self._images - step * self._batch).clamp_max(self._batch)
        first = (torch.arange(GLOBAL) * crops[:, None] + at[:, None]) * 7 + step[:, None]
        return (first[..., None] + torch.arange(self._a_crop) * max(1, self._count // self._a_crop)) % self._count


class Scale(nn.Module):
    """Mean and spread of each channel of the teacher's tokens, so that all channels count alike.

    Attributes:
        mean, spread: (C,) buffers.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))

    def measure(self, tokens: Tensor) -> None:
        """Take mean and spread from (..., C)."""
        rows = tokens.flatten(0, -2).float()
        self.mean.copy_(rows.mean(0))
        self.spread.copy_(rows.std(0).clamp_min(1e-6))

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., C) with mean 0 and spread 1."""
        return (tokens.float() - self.mean) / self.spread

    def undo(self, scaled: Tensor) -> Tensor:
        """The teacher's tokens again."""
        return scaled * self.spread + self.mean


class StudentOutputs(NamedTuple):
    """What a student says of a batch of crops, in its teacher's terms; a tuple, as `Outputs`.

    Attributes:
        patches, classes: (B_0, N, Ct) and (B_0, Ct) the teacher's scaled tokens of global crops, a taught layer each.
        cls_logits: (B, K) scores of all crops' class tokens, the global ones first; None where there is no such loss.
        patch_logits: (B_0 * N, K) scores of the global crops' patches, or None.
        cls: (B_0, C) the student's own class tokens of the global crops.
    """

    patches: list[Tensor]
    classes: list[Tensor]
    cls_logits: Tensor | None
    patch_logits: Tensor | None
    cls: Tensor


class Student(nn.Module):
    """A small backbone with the maps to the teacher's space, and heads for its prototypes.

    Attributes:
        backbone: of `packable`.
        patch_maps, cls_maps: linear, one a pair of layers.
        cls_head, patch_head: None where the recipe has no such loss.
    """

    def __init__(
        self, backbone: Backbone, teacher_dim: int, dense: DenseConfig, prototypes: PrototypeConfig, drop_path: float,
        recompute: bool,
    ) -> None:  # fmt: skip
        """New maps and heads; draws from torch's generator."""
        super().__init__()
        self.backbone = packable(backbone, drop_path)
        dim, self._recompute = backbone.embed_dim, recompute
        self.layers = [backbone.block_index(pair[0]) for pair in dense.layers] if dense.weight else []
        self.patch_maps = nn.ModuleList(nn.Linear(dim, teacher_dim) for _ in self.layers)
        self.cls_maps = nn.ModuleList(nn.Linear(dim, teacher_dim) for _ in self.layers)
        self.cls_head = ProjectionHead(dim, prototypes.head) if prototypes.dino else None
        self.patch_head = ProjectionHead(dim, prototypes.head) if prototypes.ibot else None

    def forward(self, crops: Sequence[Tensor]) -> StudentOutputs:
        """See `StudentOutputs`.

        Args:
            crops: (B_i, 3, s_i, s_i) of each size, normalised; the global ones first.
        """
        wanted = [*self.layers, self.backbone.depth - 1]
        *taught, last = run_packed(self.backbone, crops, recompute=self._recompute and self.training, layers=wanted)
        patches = [mapped(one[0].patch) for mapped, one in zip(self.patch_maps, taught, strict=True)]
        classes = [mapped(one[0].cls) for mapped, one in zip(self.cls_maps, taught, strict=True)]
        cls_logits = None if self.cls_head is None else self.cls_head(torch.cat([one.cls for one in last]))
        patch_logits = None if self.patch_head is None else self.patch_head(last[0].patch.flatten(0, 1))
        return StudentOutputs(patches, classes, cls_logits, patch_logits, last[0].cls)

    @property
    def heads(self) -> list[ProjectionHead]:
        """Those that there are."""
        return [head for head in (self.cls_head, self.patch_head) if head is not None]
