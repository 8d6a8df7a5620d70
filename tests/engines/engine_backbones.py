"""Small random backbones, and what their tokens should be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from slamfeat.backbones import Backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.cpu import cpu_has_bfloat16
from slamfeat.engines.libraries import installed

TINY = {
    "dinov2": Architecture(48, 2, 3, patch_size=14, registers=0, position="offset", grid=5),
    "dinov2-reg": Architecture(48, 2, 3, patch_size=14, registers=4, position="antialias", grid=5),
    "dinov3": Architecture(48, 2, 3, patch_size=16, registers=4, position="rope"),
}
LAYERS = [1, 0, -1]


def make_backbone(name: str, seed: int = 0) -> Backbone:
    """Every weight random, so that no two can be mixed up unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    backbone = TINY[name].build(name)
    state = backbone.state_dict()
    for key, value in state.items():
        if not key.endswith(("bias_mask", "periods")):
            state[key] = torch.randn(value.shape, generator=generator) * 0.2
    backbone.load_state_dict(state)
    return backbone.freeze()


def random_images(backbone: Backbone, rows: int, columns: int, batch: int = 1, seed: int = 1) -> Tensor:
    sides = rows * backbone.patch_size, columns * backbone.patch_size
    return torch.rand(batch, 3, *sides, generator=torch.Generator().manual_seed(seed))


def reference(backbone: Backbone, images: Tensor, layers: list[int] = LAYERS) -> list[Tensor]:
    return backbone.intermediate(backbone.normalize(images), layers)


def mean_cosine(a: Tensor, b: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(a, b, dim=1).mean().item()


def need(library: str) -> None:
    """Skip without it; `pytest.importorskip` would import it with its telemetry."""
    if not installed(library):
        pytest.skip(f"{library} is not installed")


def need_engine(engine: str, precision: str = "fp32") -> None:
    """Skip where this engine cannot be built."""
    libraries = {
        "torch": (),
        "openvino": ("onnx", "onnxscript", "openvino"),
        "onnx": ("onnx", "onnxscript", "onnxruntime"),
    }
    for name in (*libraries[engine], *(("nncf",) if precision == "int8" else ())):
        need(name)
    if engine == "openvino" and precision == "bf16" and not cpu_has_bfloat16():
        pytest.skip("the processor does not compute in bf16")
