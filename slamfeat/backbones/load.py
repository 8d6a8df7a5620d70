"""`load_backbone`: a name and a file to a ready module, or an error that says what is wrong with the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from slamfeat.backbones import store
from slamfeat.backbones.base import Backbone
from slamfeat.backbones.checkpoints import check_digest, read_checkpoint, read_metadata, to_official
from slamfeat.backbones.own import architecture_in
from slamfeat.backbones.registry import BACKBONES, Architecture, find_entry
from slamfeat.errors import ConfigError, WeightsError


def load_backbone(
    name: str,
    weights: str | Path | Literal["random"] | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    frozen: bool = True,
) -> Backbone:
    """A backbone with its weights. Never touches the network.

    Args:
        name: see `list_backbones`; or a file that says itself how its backbone is built, such as pretraining writes.
        weights: None takes the file that `slamfeat weights get NAME` has stored; a path takes that file, in official,
            Hugging Face, timm or ONNX naming, or packed (which may hold fewer blocks); "random" initialises from a
            fixed seed, for tests.
        device: where to put it.
        dtype: torch.float32 or torch.bfloat16.
        frozen: set it frozen (see `Backbone.freeze`).

    Raises:
        ConfigError: unknown name, or a device this machine does not have.
        WeightsError: no weights stored, or a file that is damaged or belongs to another architecture.
        MissingDependencyError: an ONNX file without the onnx package.
    """
    place = parse_device(device)
    own = weights is None and Path(name).suffix == ".safetensors"
    if weights == "random":
        backbone = random_backbone(find_entry(name).architecture, name)
    elif own:
        backbone = load_own(Path(name))
    elif weights is None:
        backbone = store.load_stored(name)
    else:
        backbone = load_file(name, Path(weights))
    backbone = backbone.to(place, dtype).eval()
    return backbone.freeze() if frozen else backbone


def load_file(name: str, path: Path) -> Backbone:
    """A backbone in fp32 on the CPU from a checkpoint file; errors as in `load_backbone`."""
    from slamfeat.backbones import packed  # here, because it is also run as `python -m`

    state, metadata = read_checkpoint(path)
    own = architecture_in(metadata, path)
    if own is not None and metadata.get("name") != name:
        raise WeightsError(f"{path}: holds {metadata.get('name')}, not {name}; load it with load_backbone('{path}')")
    architecture = own or find_entry(name).architecture
    check_digest(state, metadata, path)
    if packed.is_packed(metadata):
        architecture = packed.check_metadata(metadata, name, path)
        state = packed.unpack_tensors(state)
    return build_strict(architecture, state, name, path)


def load_own(path: Path) -> Backbone:
    """A backbone from a file that says how it is built; errors as in `load_backbone`."""
    metadata = read_metadata(path)
    if architecture_in(metadata, path) is None:
        read_checkpoint(path)  # a missing or damaged file is called that
        raise WeightsError(f"{path}: does not say how its backbone is built; load_backbone(NAME, weights='{path}')")
    return load_file(metadata.get("name", path.stem), path)


def random_backbone(architecture: Architecture, name: str = "custom", seed: int = 0) -> Backbone:
    """Weights to train from or to test with: the same for the same seed, the global random state untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = architecture.build(name)
        backbone.init_weights()
    return backbone


def build_strict(architecture: Architecture, state: Mapping[str, Tensor], name: str, path: Path) -> Backbone:
    """A backbone of an architecture with exactly the weights of a state dict of any layout.

    Raises:
        WeightsError: a key is missing, unexpected or of another shape; names `path` and the likely reason.
    """
    official = to_official(state, architecture)
    with torch.device("meta"):
        backbone = architecture.build(name)
    expected = backbone.state_dict()
    problems = _compare(expected, official)
    if problems:
        raise WeightsError(f"{path}: not the weights of {name}: {_reason(official, name)} ({'; '.join(problems)})")
    backbone.load_state_dict({key: value.float() for key, value in official.items()}, assign=True)
    return backbone


def _compare(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    missing = [key for key in expected if key not in given]
    unexpected = [key for key in given if key not in expected]
    wrong = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in given and given[key].shape != value.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "wrong shape": wrong}
    return [f"{len(keys)} {kind}: {', '.join(keys[:3])}" for kind, keys in kinds.items() if keys]


def _reason(given: Mapping[str, Tensor], name: str) -> str:
    """The most likely cause of a mismatch, and what to do."""
    traits = _traits(given)
    if traits is None:
        return "it holds no vision transformer in official, Hugging Face, timm or ONNX naming"
    likely = [entry.name for entry in BACKBONES.values() if _entry_traits(entry.architecture) == traits]
    dim, depth, patch, registers, *_ = traits
    look = f"embed {dim}, {depth} blocks, patch {patch}, {registers} registers"
    if name in likely:
        return f"it is of that architecture ({look}), but incomplete or altered; fetch it again"
    if likely:
        return f"this looks like {likely[0]} ({look}); load it under that name"
    return f"it is another architecture ({look}); give the file of {name}"


def _traits(state: Mapping[str, Tensor]) -> tuple[object, ...] | None:
    """Embedding, depth, patch, registers, rotary?, gated? of a state dict in official naming."""
    patch = state.get("patch_embed.proj.weight")
    blocks = {match[1] for key in state if (match := re.match(r"blocks\.(\d+)\.", key))}
    if patch is None or patch.ndim != 4 or not blocks:
        return None
    registers = next((len(state[k][0]) for k in ("register_tokens", "storage_tokens") if k in state), 0)
    gated = any(".mlp.w3." in key for key in state)
    return (patch.shape[0], len(blocks), patch.shape[-1], registers, "pos_embed" not in state, gated)


def _entry_traits(architecture: Architecture) -> tuple[object, ...]:
    a = architecture
    return (a.embed_dim, a.depth, a.patch_size, a.registers, a.position == "rope", a.ffn != "mlp")


def parse_device(device: str | torch.device) -> torch.device:
    """A torch device that is there.

    Raises:
        ConfigError: an unknown word, or CUDA without a GPU.
    """
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"unknown device '{device}'; use cpu, cuda, cuda:0 or mps") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device '{device}' asked for, but torch sees no CUDA GPU here; use cpu")
    return place
