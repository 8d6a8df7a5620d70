"""What is trained, and what teaches it: a backbone with the heads that turn tokens into prototypes' scores."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slamfeat.backbones.base import Backbone
from slamfeat.pretrain.packed import PackedBlock, packable, run_packed


@dataclass(frozen=True)
class Outputs:
    """What a network says of a batch of crops.

    Attributes:
        cls: (B_i, C) class tokens of each size of crops.
        logits: (B_i, K) their scores.
        patches: (B_0, N, C) patch tokens of the first size, the global crops.
        masked_logits: (M, K') scores of their masked patches, image by image and row by row.
    """

    cls: list[Tensor]
    logits: list[Tensor]
    patches: Tensor
    masked_logits: Tensor


class Network(nn.Module):
    """A backbone and its heads.

    Attributes:
        backbone: with blocks that take rows of tokens.
        dino_head: scores class tokens.
        ibot_head: scores patch tokens; None where `dino_head` does that too.
    """

    def __init__(
        self, backbone: Backbone, dino_head: nn.Module, ibot_head: nn.Module | None, drop_path: float = 0.0,
        recompute: bool = False,
    ) -> None:  # fmt: skip
        """Take over the parts; `drop_path` and `recompute`: see `slamfeat.pretrain.packed`."""
        super().__init__()
        self.backbone = packable(backbone, drop_path)
        self.dino_head, self.ibot_head = dino_head, ibot_head
        self._recompute = recompute

    def forward(self, crops: Sequence[Tensor], masks: Tensor, hide: bool) -> Outputs:
        """Scores of all crops.

        Args:
            crops: (B_i, 3, s_i, s_i) of each size, normalised; the global ones first.
            masks: (B_0, h, w) bool, the patches to score.
            hide: whether they are hidden as well: the student guesses what the teacher sees.
        """
        hidden = [masks if hide else None, *[None] * (len(crops) - 1)]
        (tokens,) = run_packed(self.backbone, crops, hidden, recompute=self._recompute and self.training)
        cls = [one.cls for one in tokens]
        scores = torch.split(self.dino_head(torch.cat(cls)), [len(one) for one in cls])
        patch_head = self.dino_head if self.ibot_head is None else self.ibot_head
        masked = patch_head(tokens[0].patch[masks.flatten(1)])
        return Outputs(cls, list(scores), tokens[0].patch, masked)


def make_teacher(student: Network) -> Network:
    """A copy without gradients, dropping and recomputing nothing."""
    teacher = copy.deepcopy(student).requires_grad_(False)
    for block in teacher.backbone.blocks:
        assert isinstance(block, PackedBlock)  # for the type checker
        block.drop_path = 0.0
    return teacher


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher's weights a little towards the student's: `momentum` of its own, the rest of the student's."""
    own: list[Tensor] = list(teacher.parameters())
    new: list[Tensor] = list(student.parameters())
    torch._foreach_lerp_(own, new, 1 - momentum)
