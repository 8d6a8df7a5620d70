"""Every parameter of a student in one group, at the rate and with the decay that DINOv2 gives it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from slamfeat.backbones import Backbone
from slamfeat.backbones.vit import VisionTransformer
from slamfeat.backbones.vit_rope import RopeVisionTransformer
from slamfeat.errors import ConfigError
from slamfeat.pretrain.head import HeadConfig, ProjectionHead
from slamfeat.pretrain.parameter_groups import LAST_LAYER, parameter_groups
from slamfeat.train.config import LoopConfig
from slamfeat.train.schedule import Schedule

DEPTH = 3


def a_head() -> ProjectionHead:
    return ProjectionHead(12, HeadConfig(hidden=8, bottleneck=6, prototypes=5))


def backbones() -> list[Backbone]:
    return [
        VisionTransformer(12, DEPTH, 3, registers=2, ffn="swiglu_fused", grid=4),
        RopeVisionTransformer(12, DEPTH, 3, registers=2),
    ]


def rate_by_name(name: str, decay: float, patch_embed: float) -> float:
    """DINOv2: layer 0 the embeddings, i + 1 block i, then all else; decay to the power of layers above."""
    layer = DEPTH + 1
    if name.startswith("blocks."):
        layer = int(name.split(".")[1]) + 1
    elif name.split(".")[0] in (
        "cls_token", "pos_embed", "mask_token", "register_tokens", "storage_tokens", "patch_embed",
    ):  # fmt: skip
        layer = 0
    return decay ** (DEPTH + 1 - layer) * (patch_embed if name.startswith("patch_embed.") else 1)


def by_parameter(groups: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    found = {id(parameter): group for group in groups for parameter in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in groups), "a parameter in two groups"
    return found


@pytest.mark.parametrize("number", [0, 1])
def test_every_parameter_by_its_name(number: int) -> None:
    backbone, heads = backbones()[number], [a_head(), a_head()]
    groups = parameter_groups(backbone, heads, layer_decay=0.8, patch_embed_scale=0.25)
    found = by_parameter(groups)
    named = [(name, p, True) for name, p in backbone.named_parameters()]
    named += [(name, p, False) for head in heads for name, p in head.named_parameters()]
    assert len(found) == len(named)
    for name, parameter, of_backbone in named:
        group = found[id(parameter)]
        rate = rate_by_name(name, 0.8, 0.25) if of_backbone else 1.0
        assert group["lr_scale"] == pytest.approx(rate, rel=1e-12), name
        plain = name.endswith(".bias") or "norm" in name or "gamma" in name
        assert group.get("weight_decay") == (0.0 if plain else None), name
        assert (group["name"] == LAST_LAYER) == name.startswith("last_layer"), name
    assert len({group["name"] for group in groups}) == len(groups)
    assert all(set(group) <= {"params", "lr_scale", "weight_decay", "from_step", "name"} for group in groups)


def test_the_last_layers_are_one_group_in_a_fixed_order() -> None:
    heads = [a_head(), a_head()]
    groups = parameter_groups(backbones()[0], heads, last_layer_from=7)
    assert [group["name"] for group in groups if group.get("from_step")] == [LAST_LAYER]
    (last,) = [group for group in groups if group["name"] == LAST_LAYER]
    assert [id(p) for p in last["params"]] == [id(head.last_layer.weight) for head in heads]
    assert "weight_decay" not in last
    again = parameter_groups(backbones()[0], heads)
    assert [group["name"] for group in groups] == [group["name"] for group in again]


def test_shared_and_still_parameters() -> None:
    backbone, head = backbones()[0], a_head()
    backbone.patch_embed.requires_grad_(False)
    found = by_parameter(parameter_groups(backbone, [head, head]))
    still = {id(p) for p in backbone.patch_embed.parameters()}
    assert set(found) == {id(p) for p in (*backbone.parameters(), *head.parameters())} - still


def test_an_optimizer_takes_them_as_the_loop_does() -> None:
    """By `Schedule`: a group without decay keeps none, the others get the schedule's; rates are shares."""
    groups = parameter_groups(backbones()[0], [a_head()], layer_decay=0.5)
    ready = [{**g, "lr_scale": g["lr_scale"], "own_weight_decay": g.get("weight_decay")} for g in groups]
    optimizer = torch.optim.AdamW(ready, lr=1.0)
    Schedule.of(LoopConfig(steps=4, lr=0.1, weight_decay=0.3)).apply(optimizer, 0)
    for group, given in zip(optimizer.param_groups, groups, strict=True):
        assert group["lr"] == pytest.approx(0.1 * given["lr_scale"])
        assert group["weight_decay"] == (0.0 if "weight_decay" in given else 0.3)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["block2"] == pytest.approx(0.05) and rates["block0_undecayed"] == pytest.approx(0.0125)
    assert rates["tokens"] == pytest.approx(0.00625) and rates["patch_embed"] == pytest.approx(0.00125)
    assert rates["norm_undecayed"] == rates["heads"] == rates["last_layer"] == pytest.approx(0.1)


@pytest.mark.parametrize("wrong", [{"layer_decay": 0.0}, {"layer_decay": 1.1}, {"patch_embed_scale": 0.0}])
def test_rates_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="layer_decay"):
        parameter_groups(backbones()[0], [], **wrong)
