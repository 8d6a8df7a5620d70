"""What is trained, and what teaches it: a backbone with the heads that turn tokens into prototypes' scores."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from slamfeat.backbones.base import Backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.pretrain.packed import PackedBlock, packable, run_packed
from slamfeat.train.sharding import local, whole


class Outputs(NamedTuple):
    """What a network says of a batch of crops; all sizes in one tensor, the global crops first.

    A tuple and not a dataclass, because FSDP2 looks for tensors that want a gradient in tuples, lists and dicts.

    Attributes:
        cls: (B, C) class tokens.
        logits: (B, K) their scores; (B, 0) where nobody asks for them.
        masked_logits: (M, K') scores of the global crops' masked patches, image by image and row by row.
        patches: (B_0, N, C) all patches of the global crops.
    """

    cls: Tensor
    logits: Tensor
    masked_logits: Tensor
    patches: Tensor


class Network(nn.Module):
    """A backbone and its heads.

    Attributes:
        backbone: with blocks that take rows of tokens.
        dino_head: scores class tokens.
        ibot_head: scores patch tokens; None where `dino_head` does that too.
    """

    def __init__(
        self, backbone: Backbone, dino_head: nn.Module, ibot_head: nn.Module | None, drop_path: float = 0.0,
        recompute: bool = False, scores_cls: bool = True,
    ) -> None:  # fmt: skip
        """Take over the parts.

        Args:
            backbone, dino_head, ibot_head: see the class.
            drop_path, recompute: see `slamfeat.pretrain.packed`.
            scores_cls: whether class tokens are scored.
        """
        super().__init__()
        self.backbone = packable(backbone, drop_path)
        self.dino_head, self.ibot_head = dino_head, ibot_head
        self._recompute, self._scores_cls = recompute, scores_cls

    def forward(self, crops: Sequence[Tensor], masks: Tensor, hide: bool) -> Outputs:
        """Scores of all crops.

        Args:
            crops: (B_i, 3, s_i, s_i) of each size, normalised; the global ones first.
            masks: (B_0, h, w) bool, the patches to score.
            hide: whether they are hidden as well: the student guesses what the teacher sees.
        """
        hidden = [masks if hide else None, *[None] * (len(crops) - 1)]
        (tokens,) = run_packed(self.backbone, crops, hidden, recompute=self._recompute and self.training)
        cls = torch.cat([one.cls for one in tokens])
        patch_head = self.dino_head if self.ibot_head is None else self.ibot_head
        patches = tokens[0].patch.contiguous()
        logits = self.dino_head(cls) if self._scores_cls else cls[:, :0]
        return Outputs(cls, logits, patch_head(patches[masks.flatten(1)]), patches)


def make_teacher(student: Network) -> Network:
    """A copy without gradients, dropping and recomputing nothing."""
    teacher = copy.deepcopy(student).requires_grad_(False)
    for block in teacher.backbone.blocks:
        assert isinstance(block, PackedBlock)  # for the type checker
        block.drop_path = 0.0
    return teacher


def whole_copy(backbone: Backbone, architecture: Architecture) -> Backbone:
    """A frozen copy with plain blocks, whole wherever the parameters are; all processes must make it alike."""
    device = backbone.patch_embed.proj.weight.device
    copied = architecture.build(backbone.name).to(device)
    copied.load_state_dict({name: whole(value) for name, value in backbone.state_dict().items()})
    return copied.freeze()


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher's weights a little towards the student's: `momentum` of its own, the rest of the student's."""
    own, new = ([local(parameter) for parameter in network.parameters()] for network in (teacher, student))
    torch._foreach_lerp_(own, new, 1 - momentum)
