"""Small random backbones for the tests of this folder."""

from __future__ import annotations

import torch
from torch import Tensor

from slamfeat.backbones.base import Backbone
from slamfeat.backbones.registry import Architecture, Entry

TINY = {
    "tiny2": Architecture(48, 3, 3, patch_size=14, registers=0, position="offset", grid=5),
    "tiny2-reg4": Architecture(48, 3, 3, patch_size=14, registers=4, position="antialias", grid=5),
    "tiny2-swiglu": Architecture(48, 3, 3, patch_size=14, registers=0, position="offset", ffn="swiglu_fused", grid=5),
    "tiny3": Architecture(48, 3, 3, patch_size=16, registers=4, position="rope"),
    "tiny3-plus": Architecture(48, 3, 3, patch_size=16, registers=4, position="rope", ffn="swiglu", ffn_ratio=6.0),
}


def make_entry(name: str, url: str = "http://127.0.0.1:9/none.pth", sha256: str | None = None) -> Entry:
    return Entry(name, TINY[name], 0, "Apache-2.0", url, sha256, "nobody/none")


def random_state(name: str, seed: int = 0) -> dict[str, Tensor]:
    """An official state dict with every weight random, so that no key can be mixed up unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    state = TINY[name].build().state_dict()
    for key, value in state.items():
        if not key.endswith(("bias_mask", "periods")):
            state[key] = torch.randn(value.shape, generator=generator) * 0.2
    return state


def make_backbone(name: str, seed: int = 0) -> Backbone:
    backbone = TINY[name].build(name)
    backbone.load_state_dict(random_state(name, seed))
    return backbone.eval()


def random_images(patch: int, rows: int = 4, columns: int = 7, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, rows * patch, columns * patch, generator=torch.Generator().manual_seed(1))
