"""Reading checkpoint files of any known layout into a state dict with the official key names, and writing one."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from slamfeat.backbones.convert_hf import from_hf, is_hf
from slamfeat.backbones.convert_onnx import read_onnx
from slamfeat.backbones.convert_timm import from_timm, is_timm
from slamfeat.backbones.registry import Architecture
from slamfeat.backbones.vit_rope import rope_periods
from slamfeat.errors import WeightsError
from slamfeat.files import atomic_path

_NESTS = ("teacher", "model_ema", "model", "state_dict", "student")  # where training scripts put the weights
_NOT_WEIGHTS = {b"version https://git-lfs": "a Git LFS pointer; run git lfs pull", b"<": "a web page; fetch it again"}


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file under the names they have there, and the metadata of a safetensors file.

    Args:
        path: .safetensors, .onnx, .whl (with an ONNX file inside), a torch file, or a Hugging Face folder.

    Raises:
        WeightsError: missing, truncated, or not a checkpoint. Nothing is ever unpickled but tensors.
        MissingDependencyError: an ONNX file without the onnx package.
    """
    if path.is_dir():
        path = path / "model.safetensors"
    try:
        with path.open("rb") as file:
            head = file.read(32)
        if reason := next((why for start, why in _NOT_WEIGHTS.items() if head.lstrip().startswith(start)), None):
            raise WeightsError(f"{path}: this is {reason}")
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        return (read_onnx(path) if path.suffix in (".onnx", ".whl") else _read_torch(path)), {}
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; check the path, or run `slamfeat weights list`") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
    """Write a .safetensors file, atomically.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    with atomic_path(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=dict(metadata))
        except SafetensorError as error:  # also what it makes of a full disk
            raise OSError(str(error)) from error
    return Path(path)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty for anything else or a damaged file."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"{path}: truncated, or not a safetensors file ({error}); fetch it again") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error):
            raise WeightsError(
                f"{path}: holds Python objects beside tensors and is not unpickled; save its state dict alone"
            ) from error
        raise WeightsError(f"{path}: not a checkpoint; give a .pth, .safetensors, .onnx or .whl file") from error
    except OSError:
        raise
    except Exception as error:  # from damaged bytes the unpickler raises anything: IndexError, KeyError, struct.error
        raise WeightsError(f"{path}: truncated, or not a torch checkpoint; fetch it again") from error
    return _tensors(loaded, path)


def _tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a possibly nested checkpoint."""
    while isinstance(loaded, Mapping):
        nest = next((key for key in _NESTS if isinstance(loaded.get(key), Mapping)), None)
        if nest is None:
            found = {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}
            if found:
                return found
            break
        loaded = loaded[nest]
    raise WeightsError(f"{path}: holds no tensors; give a file with a state dict")


def to_official(state: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Rename a state dict of any known layout to the official key names.

    Keys outside the backbone (heads, the student beside its teacher) are left out; every key inside it is kept, so
    that strict loading still sees what does not belong. What other layouts leave out is filled in: the mask token
    (zeros, it is only used in pretraining), DINOv3's mask of the keys' bias and its rotary periods.
    """
    plain = _strip_prefix(state)
    foreign = is_hf(plain) or is_timm(plain)
    if foreign:
        plain = from_hf(plain) if is_hf(plain) else from_timm(plain)
    # FSDP training keeps blocks in chunks: blocks.<chunk>.<block>.
    out = {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key): value.contiguous() for key, value in plain.items()}
    dim = architecture.embed_dim
    out["mask_token"] = out["mask_token"].reshape(1, -1) if "mask_token" in out else torch.zeros(1, dim)
    if foreign and architecture.position == "rope":
        out["rope_embed.periods"] = rope_periods(dim // architecture.num_heads)
        mask = torch.ones(3, dim)
        mask[1] = 0
        out |= {f"{key}_mask": mask.flatten().clone() for key in out if key.endswith(".attn.qkv.bias")}
    return out


def _strip_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep the keys that stand beside the class token; among several backbones the teacher's."""
    prefixes = sorted(
        {re.sub(r"(embeddings\.)?cls_token$", "", key) for key in state if re.search(r"(^|\.)cls_token$", key)},
        key=lambda prefix: ("teacher" not in prefix and "ema" not in prefix, len(prefix)),
    )
    prefix = prefixes[0] if prefixes else ""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def state_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes of all tensors; it does not depend on the file format."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_digest(state: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path) -> None:
    """Compare with the checksum that slamfeat's own files carry; files of others have none.

    Raises:
        WeightsError: the weights are not those that were stored.
    """
    stored = metadata.get("sha256")
    if stored is not None and state_digest(state) != stored:
        raise WeightsError(f"{path}: the weights do not match their checksum {stored[:16]}...; the file is damaged")
