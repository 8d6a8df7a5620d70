"""Outputs of the official implementations, tensor for tensor (made with random and with real weights)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from slamfeat.backbones import Backbone, load_backbone, store, weights
from slamfeat.backbones.vit import VisionTransformer
from slamfeat.backbones.vit_rope import RopeVisionTransformer
from slamfeat.errors import SlamfeatError

TOLERANCE = 1e-4
pytestmark = pytest.mark.shared


def _build(fixtures: Path, name: str) -> Backbone:
    config = json.loads((fixtures / f"{name.split('_')[0]}_configs.json").read_text())[name]
    size = (config["embed_dim"], config["depth"], config["num_heads"])
    ffn = config.get("ffn_layer", "mlp")
    if name.startswith("dinov3"):
        registers = config["n_storage_tokens"]
        return RopeVisionTransformer(*size, registers=registers, ffn=ffn, ffn_ratio=config["ffn_ratio"])
    return VisionTransformer(
        *size,
        registers=config["num_register_tokens"],
        ffn="swiglu_fused" if ffn == "swiglufused" else "mlp",
        grid=config["img_size"] // config["patch_size"],
        position_mode="antialias" if config["interpolate_antialias"] else "offset",
    )


def _output(backbone: Backbone, what: str, images: Tensor) -> Tensor:
    if what.startswith("layer"):
        return backbone.intermediate(images, [int(what.removeprefix("layer"))])[0]
    tokens = backbone(images)
    return {"cls": tokens.cls, "reg": tokens.registers, "patch": tokens.patch.flatten(2).transpose(1, 2)}[what]


@pytest.mark.parametrize("name", ["dinov2_plain", "dinov2_reg", "dinov2_swiglu", "dinov3_small", "dinov3_plus"])
def test_every_tensor_of_the_official_code(shared: Path, name: str) -> None:
    tensors = load_file(shared / "fixtures" / f"{name}.safetensors")
    backbone = _build(shared / "fixtures", name)
    backbone.load_state_dict({k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")})
    backbone.freeze()
    checked = 0
    for key, expected in tensors.items():
        what, _, size = key.partition(".")
        if what not in ("input", "weights"):
            for _ in range(2):  # the second time from the cache of resized positions
                worst = (_output(backbone, what, tensors[f"input.{size}"]) - expected).abs().max().item()
                assert worst <= TOLERANCE, f"{key}: {worst}"
            checked += 1
    assert checked >= 9


@pytest.fixture
def vits14() -> Backbone:
    if not store.stored_path("dinov2-vits14").exists():
        try:
            weights.get("dinov2-vits14")
        except SlamfeatError as error:
            pytest.skip(f"the real weights cannot be had here: {error}")
    return load_backbone("dinov2-vits14")


def test_real_weights(shared: Path, vits14: Backbone) -> None:
    tensors = load_file(shared / "fixtures" / "dinov2_vits14_real.safetensors")
    tokens = vits14(tensors["input"])
    all_tokens = torch.cat([tokens.cls[:, None], tokens.patch.flatten(2).transpose(1, 2)], dim=1)
    assert (all_tokens - tensors["official.tokens"]).abs().max() <= TOLERANCE
    assert torch.cosine_similarity(all_tokens, tensors["onnx.tokens"], dim=-1).mean() > 0.9998
    other = tensors["input.364x504"]
    patch = vits14(other).patch.flatten(2).transpose(1, 2)
    assert (patch - tensors["official.patch.364x504"]).abs().max() <= TOLERANCE
    layer = vits14.intermediate(other, [8])[0]
    assert (layer - tensors["official.layer8.364x504"]).abs().max() <= TOLERANCE
