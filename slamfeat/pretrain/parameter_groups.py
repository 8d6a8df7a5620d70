"""Which part of a student learns how fast, and what is kept small: DINOv2's rules for backbone and heads.

Blocks nearer to the pixels learn more slowly (layer-wise decay: Clark et al., "ELECTRA", arXiv 2003.10555; BEiT).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from torch import nn

from slamfeat.backbones.base import Backbone
from slamfeat.errors import ConfigError
from slamfeat.pretrain.head import ProjectionHead

LAST_LAYER = "last_layer"
"""The group of all heads' prototypes, which may stand still at first."""


class _Part(NamedTuple):
    """A parameter, the group that it belongs to, and that group's share of the rate."""

    parameter: nn.Parameter
    group: str
    lr_scale: float


def parameter_groups(
    backbone: Backbone, heads: Iterable[ProjectionHead], layer_decay: float = 1.0, patch_embed_scale: float = 0.2,
    last_layer_from: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """Groups as `slamfeat.train.task.Task.parameter_groups` gives them, always in the same order.

    Block i of n learns at `layer_decay` to the power n - i, tokens and embeddings at that to the power n + 1, the final
    norm and the heads at the full rate. What has one dimension (biases, norms, layer scales) has a group of its own
    with `weight_decay` 0.0, named with "_undecayed" at the end; the other groups follow the schedule's. Parameters
    without `requires_grad` are left out; one that is shared comes once.

    Args:
        backbone: the student's.
        heads: the student's; the same one twice counts once.
        layer_decay: above 0, at most 1.
        patch_embed_scale: of the patch embedding, on top of its decay; above 0.
        last_layer_from: step before which the prototypes stand still.

    Raises:
        ConfigError: values out of range.
    """
    if not 0 < layer_decay <= 1 or patch_embed_scale <= 0:
        raise ConfigError("parameter groups: 0 < layer_decay <= 1 and patch_embed_scale > 0 are needed")
    groups: dict[str, dict[str, Any]] = {}
    seen: set[int] = set()
    for part in (*_of_backbone(backbone, layer_decay, patch_embed_scale), *_of_heads(heads)):
        if part.parameter.requires_grad and id(part.parameter) not in seen:
            seen.add(id(part.parameter))
            _add(groups, part)
    if LAST_LAYER in groups:
        groups[LAST_LAYER]["from_step"] = last_layer_from
    return list(groups.values())


def _add(groups: dict[str, dict[str, Any]], part: _Part) -> None:
    decays = part.parameter.ndim > 1
    name = part.group if decays else f"{part.group}_undecayed"
    fresh = {"params": [], "lr_scale": part.lr_scale, "name": name, **({} if decays else {"weight_decay": 0.0})}
    groups.setdefault(name, fresh)["params"].append(part.parameter)


def _of_backbone(backbone: Backbone, decay: float, patch_embed_scale: float) -> Iterator[_Part]:
    for name, parameter in backbone.named_parameters():
        first, *rest = name.split(".")
        if first == "blocks":
            yield _Part(parameter, f"block{rest[0]}", decay ** (backbone.depth - int(rest[0])))
        elif first == "norm":
            yield _Part(parameter, "norm", 1.0)
        else:
            embedding = decay ** (backbone.depth + 1)
            scale = embedding * patch_embed_scale if first == "patch_embed" else embedding
            yield _Part(parameter, "patch_embed" if first == "patch_embed" else "tokens", scale)


def _of_heads(heads: Iterable[ProjectionHead]) -> Iterator[_Part]:
    for head in heads:
        last = {id(parameter) for parameter in head.last_layer.parameters()}
        for parameter in head.parameters():
            yield _Part(parameter, LAST_LAYER if id(parameter) in last else "heads", 1.0)
