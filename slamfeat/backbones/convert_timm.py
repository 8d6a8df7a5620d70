"""timm's key names to the official ones: vision_transformer.py for DINOv2, eva.py for DINOv3."""

from __future__ import annotations

import re

import torch
from torch import Tensor


def is_timm(state: dict[str, Tensor]) -> bool:
    """True for a state dict that timm names differently; its plain DINOv2 with MLP is named as the official one."""
    gated = "blocks.0.mlp.fc1.weight" in state and _is_gated(state)
    return "reg_token" in state or "blocks.0.gamma_1" in state or gated


def from_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename and undo what timm folds together."""
    return _from_eva(state) if "blocks.0.gamma_1" in state else _from_vision_transformer(state)


def _is_gated(state: dict[str, Tensor]) -> bool:
    """fc1 twice as high as fc2 is wide: gate and value packed in one matrix."""
    first, second = state.get("blocks.0.mlp.fc1.weight"), state.get("blocks.0.mlp.fc2.weight")
    return first is not None and second is not None and first.shape[0] == 2 * second.shape[-1]


def _from_vision_transformer(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2. With registers, timm adds the class token's position to that token and keeps only the patches' ones."""
    out = dict(state)
    if "reg_token" in out:
        out["register_tokens"] = out.pop("reg_token")
        positions = out.get("pos_embed")
        if positions is not None:
            out["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    if _is_gated(state):
        out = {key.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3."): v for key, v in out.items()}
    return out


def _from_eva(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv3. Biases of query and value may be absent (the distilled ones turned out zero); the key has none."""
    gated = any(".mlp.fc1_g." in key for key in state)
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        key = re.sub(r"\.gamma_(\d)$", r".ls\1.gamma", key)
        key = "storage_tokens" if key == "reg_token" else key
        if gated:
            key = key.replace(".fc1_g.", ".w1.").replace(".fc1_x.", ".w2.").replace(".fc2.", ".w3.")
        if not key.endswith((".q_bias", ".v_bias", ".k_bias")):
            out[key] = value
    for key in [key for key in state if key.endswith(".attn.qkv.weight")]:
        block = key.removesuffix("qkv.weight")
        zero = state[key].new_zeros(state[key].shape[0] // 3)
        query, value = state.get(block + "q_bias", zero), state.get(block + "v_bias", zero)
        out[block + "qkv.bias"] = torch.cat([query, zero, value])
    return out
