"""What the tests of exported graphs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from slamfeat.backbones import Backbone
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.engines.libraries import openvino_core
from slamfeat.image import resize, to_batch
from slamfeat.types import Features

ARCHITECTURES = {
    "dinov2": Architecture(48, 2, 3, patch_size=14, registers=0, position="offset", grid=9),
    "dinov2-registers": Architecture(48, 2, 3, patch_size=14, registers=4, position="antialias", grid=9),
    "dinov3": Architecture(48, 2, 3, patch_size=16, registers=4, position="rope", ffn="swiglu", ffn_ratio=6.0),
}
SLOTS = 256
MATCHER_INPUTS = [f"{part}{image}" for image in (0, 1) for part in ("keypoints", "descriptors", "mask", "tokens")]


def backbone(name: str = "dinov2") -> Backbone:
    made = random_backbone(ARCHITECTURES[name])
    # As initialised, tokens hardly depend on the image.
    generator = torch.Generator().manual_seed(3)
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return made.freeze()


def frames(sample: Path, size: tuple[int, int], *numbers: int) -> Tensor:
    files = sorted((sample / "rgb").iterdir())
    return torch.cat([resize(to_batch(files[n]), size)[0].clamp(0, 1) for n in numbers])


def matcher_inputs(*sets: Features) -> list[Tensor]:
    return [value for f in sets if f.grid for value in (f.keypoints, f.descriptors, f.mask, f.grid.tokens)]


def run_openvino(path: Path, names: Sequence[str], inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """As `slamfeat.export.onnx_check.run`, with what OpenVINO calls the outputs beside their names."""
    model = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    values = model({name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    found = {name: torch.from_numpy(values[output].copy()) for output in model.outputs for name in output.names}
    return {name: value.bool() if name == "mask" else value for name, value in found.items()}


def assert_same_features(found: dict[str, Tensor], expected: Features) -> None:
    assert expected.grid is not None
    assert torch.equal(found["mask"], expected.mask)
    close = ((found["keypoints"] - expected.keypoints).abs() < 0.01).all(-1)
    assert close.float().mean() > 0.98  # peaks equal up to rounding may change places
    torch.testing.assert_close(found["scores"], expected.scores, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(found["descriptors"][close], expected.descriptors[close], atol=2e-3, rtol=0)
    torch.testing.assert_close(found["tokens"], expected.grid.tokens, atol=1e-4, rtol=0)
