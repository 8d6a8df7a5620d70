"""From a name or a file to a backbone with weights."""

from __future__ import annotations

from pathlib import Path

import torch

from slamfeat.backbones import Backbone, list_backbones, load_backbone
from slamfeat.backbones.checkpoints import read_checkpoint, read_metadata
from slamfeat.backbones.own import architecture_in
from slamfeat.errors import WeightsError
from slamfeat.frontend.heads.bundle import FORMAT

DEFAULT_WEIGHTS = Path(__file__).parent.parent / "assets" / "dinov2-vits14-int8.safetensors"
"""DINOv2 ViT-S/14 with its matrices as int8; made by `python -m slamfeat.backbones.packed`, see NOTICE."""


def load_pretrained(name_or_path: str | Path, device: torch.device) -> tuple[Backbone, str]:
    """A frozen backbone in float32 and the name to show for it; arguments as in `Frontend.from_pretrained`.

    Raises:
        ConfigError: an unknown name.
        WeightsError: weights missing, damaged or of another architecture.
    """
    if str(name_or_path) == "default":
        return _load_file(DEFAULT_WEIGHTS, device), "default"
    path = Path(name_or_path).expanduser()
    if path.suffix or path.exists():
        return _load_file(path, device), path.stem
    name = str(name_or_path)
    return load_backbone(name, device=device), name


def backbone_name(name_or_path: str | Path) -> str | None:
    """The backbone's name behind what `load_pretrained` takes; None where a file is missing or does not say."""
    if str(name_or_path) == "default":
        return _name_in_file(DEFAULT_WEIGHTS)
    path = Path(name_or_path).expanduser()
    if path.suffix or path.exists():
        return _name_in_file(path) if path.is_file() else None
    return str(name_or_path)


def imitated_block(name_or_path: str | Path) -> tuple[str, int] | None:
    """Name and block that the backbone behind what `load_pretrained` takes imitates, if it does."""
    path = DEFAULT_WEIGHTS if str(name_or_path) == "default" else Path(name_or_path).expanduser()
    architecture = architecture_in(read_metadata(path), path) if path.is_file() else None
    return architecture.imitated if architecture else None


def _name_in_file(path: Path) -> str | None:
    """What the file says, or its own name begins with."""
    name = read_metadata(path).get("name")
    known = sorted(list_backbones(), key=len, reverse=True)
    return name or next((one for one in known if path.stem.startswith(one)), None)


def _load_file(path: Path, device: torch.device) -> Backbone:
    if not path.exists():
        raise WeightsError(
            f"no weights file {path}; check the path, or use a name: default, {', '.join(list_backbones())}"
        )
    name = _name_in_file(path)
    if read_metadata(path).get("format") == FORMAT:
        raise WeightsError(f"{path}: these are heads, not a backbone; use frontend.heads={path}")
    if name is None:
        read_checkpoint(path)  # a damaged file is called damaged, not nameless
        raise WeightsError(
            f"{path}: does not say which backbone it is; rename it to NAME.safetensors with NAME one of "
            f"{', '.join(list_backbones())}, or use load_backbone(NAME, weights=...)"
        )
    return load_backbone(name, weights=path, device=device)
