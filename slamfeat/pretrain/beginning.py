"""The backbone that a training begins with: weights from a seed, or another backbone's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from slamfeat.backbones.base import Backbone
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.vit_rope import RopeVisionTransformer
from slamfeat.errors import WeightsError
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.pretrain.recipe import ModelConfig


def build_backbone(model: ModelConfig, global_size: int, seed: int, init: str = "") -> Backbone:
    """A backbone to train, with weights from a seed or, where `init` is given, of `take_weights`.

    Raises:
        ConfigError, WeightsError: see `take_weights`.
    """
    backbone = random_backbone(model.architecture(global_size), model.name, seed)
    if isinstance(backbone, RopeVisionTransformer):
        backbone.jitter = model.rope_jitter
    if init:
        take_weights(backbone, init)
    return backbone


def take_weights(backbone: Backbone, init: str) -> None:
    """Give a backbone the weights of another one, or of the first blocks of a deeper one.

    Where its feed-forward parts are narrower (`ffn_ratio`, for "mlp"), it has the hidden units that say most, in their
    order: those with the largest product of the norms of what comes in and goes out.

    Args:
        backbone: changed in place.
        init: a backbone's name or file.

    Raises:
        ConfigError: an unknown name.
        WeightsError: weights missing, damaged or of another architecture.
    """
    start, _ = load_pretrained(init, torch.device("cpu"))
    own = backbone.state_dict()
    deeper = (f"blocks.{number}." for number in range(backbone.depth, start.depth))
    left_out = ("output.", *deeper)  # what an imitating one is like is not its own weights' business
    given = {name: value for name, value in start.state_dict().items() if not name.startswith(left_out)}
    given = _narrowed(given, own)
    wrong = [name for name in {**own, **given} if name not in own or name not in given]
    wrong += [f"{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}" for name, value in own.items()
              if name in given and given[name].shape != value.shape]  # fmt: skip
    if wrong:
        more = f" and {len(wrong) - 2} more" if len(wrong) > 2 else ""
        raise WeightsError(
            f"init={init}: does not fit {backbone.name} in {', '.join(wrong[:2])}{more}; give the model that"
            " backbone's architecture and grid (model.like, model.grid), or leave init out"
        )
    backbone.load_state_dict(given)


def _narrowed(given: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With only as many hidden units in feed-forward parts as `own` has, where it has fewer."""
    made = dict(given)
    for name in [name for name in given if name.endswith("mlp.fc1.weight") and name in own]:
        part, width = name.removesuffix("fc1.weight"), len(own[name])
        if width < len(given[name]):
            said = given[name].norm(dim=1) * given[part + "fc2.weight"].norm(dim=0)
            kept = said.topk(width).indices.sort().values
            made[name], made[part + "fc1.bias"] = given[name][kept], given[part + "fc1.bias"][kept]
            made[part + "fc2.weight"] = given[part + "fc2.weight"][:, kept]
    return made
