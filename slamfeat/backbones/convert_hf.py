"""Hugging Face transformers' key names (Dinov2Model, Dinov2WithRegistersModel, DINOv3ViTModel) to the official ones."""

from __future__ import annotations

import re

import torch
from torch import Tensor

_RENAMES = [
    (r"^embeddings\.(cls_token|mask_token)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)$", r"patch_embed.proj.\1"),
    (r"^(?:encoder\.|model\.)?layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.q_proj\.", ".attn.query."),
    (r"\.attention\.k_proj\.", ".attn.key."),
    (r"\.attention\.v_proj\.", ".attn.value."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"^layernorm\.", "norm."),
]
_GATED = [(r"\.mlp\.gate_proj\.", ".mlp.w1."), (r"\.mlp\.up_proj\.", ".mlp.w2."), (r"\.mlp\.down_proj\.", ".mlp.w3.")]
_PLAIN = [(r"\.mlp\.up_proj\.", ".mlp.fc1."), (r"\.mlp\.down_proj\.", ".mlp.fc2.")]


def is_hf(state: dict[str, Tensor]) -> bool:
    """True for a state dict in Hugging Face naming, prefix already removed."""
    return "embeddings.cls_token" in state


def from_hf(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename, and join query, key and value. DINOv3's keys have no bias there: zeros take its place (it is masked)."""
    rope = "embeddings.position_embeddings" not in state
    registers = (r"^embeddings\.register_tokens$", "storage_tokens" if rope else "register_tokens")
    gated = any(".mlp.gate_proj." in key for key in state)
    rules = [registers, *_RENAMES, *(_GATED if gated else _PLAIN)]
    renamed = {_rename(key, rules): value for key, value in state.items() if not key.startswith("rope_embeddings.")}
    return _join_qkv(renamed)


def _rename(key: str, rules: list[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _join_qkv(state: dict[str, Tensor]) -> dict[str, Tensor]:
    joined = {key: value for key, value in state.items() if not re.search(r"\.attn\.(query|key|value)\.", key)}
    for key in [key for key in state if ".attn.query." in key]:
        query = state[key]
        parts = [query]
        for part in ("key", "value"):
            other = key.replace(".query.", f".{part}.")
            if other in state:
                parts.append(state[other])
            elif part == "key" and other.endswith(".bias"):
                parts.append(torch.zeros_like(query))
        joined[key.replace(".query.", ".qkv.")] = torch.cat(parts)
    return joined
