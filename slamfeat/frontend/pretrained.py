"""From a name or a file to a backbone with weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from slamfeat.backbones import Backbone, list_backbones, load_backbone
from slamfeat.backbones.checkpoints import read_checkpoint, read_metadata
from slamfeat.backbones.own import architecture_in
from slamfeat.backbones.store import stored_path
from slamfeat.errors import WeightsError
from slamfeat.frontend.heads.bundle import FORMAT

ASSETS = Path(__file__).parent.parent / "assets"
SHIPPED = {
    "default": ASSETS / "slamfeat-vits14-2-int8.safetensors",
    "dinov2-vits14-int8": ASSETS / "dinov2-vits14-int8.safetensors",
    "slamfeat-vits14-2": ASSETS / "slamfeat-vits14-2-int8.safetensors",
}
"""Backbones in the package by name, with their matrices as int8; made by `python -m slamfeat.backbones.packed`.

"slamfeat-vits14-2", the default, are two blocks that say what the sixth of DINOv2's ViT-S/14 would
(docs/pretraining.md); "dinov2-vits14-int8" is that ViT-S/14 without its last three blocks. See NOTICE.
"""
_STUDENT = "learnt from images for non-commercial research among others, none of which are in it; see NOTICE"
NOTES = {"default": _STUDENT, "slamfeat-vits14-2": _STUDENT}
"""What to know of weights in the package, by name, where their file does not say it."""


def load_pretrained(name_or_path: str | Path, device: torch.device) -> tuple[Backbone, str]:
    """A frozen backbone in float32 and the name to show for it; arguments as in `Frontend.from_pretrained`.

    Raises:
        ConfigError: an unknown name.
        WeightsError: weights missing, damaged or of another architecture.
    """
    if (shipped := SHIPPED.get(str(name_or_path))) is not None:
        return _load_file(shipped, device), str(name_or_path)
    path = Path(name_or_path).expanduser()
    if path.suffix or path.exists():
        return _load_file(path, device), path.stem
    name = str(name_or_path)
    return load_backbone(name, device=device), name


def backbone_name(name_or_path: str | Path) -> str | None:
    """The backbone's name behind what `load_pretrained` takes; None where a file is missing or does not say."""
    path = SHIPPED.get(str(name_or_path)) or Path(name_or_path).expanduser()
    if path.suffix or path.exists():
        return _name_in_file(path) if path.is_file() else None
    return str(name_or_path)


def imitated_block(name_or_path: str | Path) -> tuple[str, int] | None:
    """Name and block that the backbone behind what `load_pretrained` takes imitates, if it does."""
    path = SHIPPED.get(str(name_or_path)) or Path(name_or_path).expanduser()
    architecture = architecture_in(read_metadata(path), path) if path.is_file() else None
    return architecture.imitated if architecture else None


def weights_digest(name_or_path: str | Path) -> str:
    """sha256 of the weights behind what `load_pretrained` takes, as their file says it, or else of the file.

    Raises:
        ConfigError: an unknown name.
        WeightsError: no such weights.
    """
    path = _file_behind(name_or_path)
    if not path.is_file():
        load_pretrained(name_or_path, torch.device("cpu"))  # says what is missing and how to get it
    if said := read_metadata(path).get("sha256"):  # held against the weights whenever they are loaded
        return said
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_behind(name_or_path: str | Path) -> Path:
    path = SHIPPED.get(str(name_or_path)) or Path(name_or_path).expanduser()
    if not path.suffix and not path.exists():
        return stored_path(str(name_or_path))
    return path / "model.safetensors" if path.is_dir() else path  # as Hugging Face keeps them


def _name_in_file(path: Path) -> str | None:
    """What the file says, or its own name begins with."""
    name = read_metadata(path).get("name")
    known = sorted(list_backbones(), key=len, reverse=True)
    return name or next((one for one in known if path.stem.startswith(one)), None)


def _load_file(path: Path, device: torch.device) -> Backbone:
    if not path.exists():
        raise WeightsError(
            f"no weights file {path}; check the path, or use a name: {', '.join([*SHIPPED, *list_backbones()])}"
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
