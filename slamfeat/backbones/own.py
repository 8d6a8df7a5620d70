"""Backbones of one's own: a file that says how it is built, so that no registry has to know it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from slamfeat.backbones.checkpoints import state_digest, write_tensors
from slamfeat.backbones.registry import BACKBONES, Architecture
from slamfeat.errors import ConfigError, WeightsError

KEY = "architecture"


def save_backbone(
    state: Mapping[str, Tensor], architecture: Architecture, path: str | Path, *, name: str,
    notes: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """Write weights in official key names to a .safetensors file that `load_backbone(path)` loads.

    Args:
        state: of a backbone of this architecture.
        architecture: how it is built.
        path: file to write, atomically.
        name: to show, and to keep its heads apart from those of others; not that of a published backbone.
        notes: more for the metadata: recipe, commit, data.

    Raises:
        ConfigError: a name that published weights have.
        OutputError: the file cannot be written.
    """
    if name in BACKBONES or not name:
        raise ConfigError(f"a backbone of your own needs a name that no published one has, not '{name}'")
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    metadata = {
        **(notes or {}), "format": "slamfeat-backbone-1", "name": name, KEY: architecture_json(architecture),
        "sha256": state_digest(tensors), "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }  # fmt: skip
    return write_tensors(path, tensors, metadata)


def architecture_json(architecture: Architecture) -> str:
    """For a file's metadata."""
    return json.dumps(asdict(architecture), sort_keys=True)


def architecture_in(metadata: Mapping[str, str], path: Path) -> Architecture | None:
    """How the backbone in a file is built; None for files of published ones, which do not say.

    Raises:
        WeightsError: it says something that this version does not know.
    """
    if KEY not in metadata:
        return None
    try:
        architecture = Architecture(**json.loads(metadata[KEY]))
        _ = architecture.imitated
        return architecture
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: its metadata describe no backbone that this version builds ({error})") from error
