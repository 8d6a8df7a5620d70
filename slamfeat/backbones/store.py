"""The folder of weights on this machine: where it is, what is in it, and loading from it. Nothing here downloads."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from slamfeat.backbones.checkpoints import read_metadata, state_digest, write_tensors
from slamfeat.backbones.registry import find_entry
from slamfeat.errors import WeightsError

if TYPE_CHECKING:
    from slamfeat.backbones.base import Backbone


def weights_folder() -> Path:
    """`$SLAMFEAT_HOME/weights`, else `$XDG_CACHE_HOME/slamfeat/weights`, else `~/.cache/slamfeat/weights`."""
    if home := os.environ.get("SLAMFEAT_HOME"):
        return Path(home).expanduser() / "weights"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "slamfeat" / "weights"


def stored_path(name: str) -> Path:
    """Where the weights of a name are kept, whether or not they are there.

    Raises:
        ConfigError: unknown name.
    """
    return weights_folder() / f"{find_entry(name).name}.safetensors"


def stored_metadata(name: str) -> dict[str, str]:
    """What was written beside the stored weights: name, source, source_sha256, sha256, licence, date, note."""
    return read_metadata(stored_path(name))


def load_stored(name: str) -> Backbone:
    """The stored weights as a backbone in fp32 on the CPU.

    Raises:
        WeightsError: they are not there, or damaged; says how to get them.
    """
    from slamfeat.backbones.load import load_file

    path = stored_path(name)
    if not path.exists():
        raise WeightsError(f"no weights of {name} in {path.parent}; {how_to_get(name)}")
    try:
        return load_file(name, path)
    except WeightsError as error:
        raise WeightsError(f"{error}; replace it: slamfeat weights get {name} --force") from error


def how_to_get(name: str) -> str:
    """One sentence: the command, or for gated weights where a person gets them."""
    entry = find_entry(name)
    if not entry.gated:
        return f"get them: slamfeat weights get {name}"
    return (
        f"{entry.licence}: accept it at {entry.url} or https://huggingface.co/{entry.hf_id}, download the file there, "
        f"and pass it: load_backbone('{name}', weights='model.safetensors')"
    )


def save_stored(name: str, state: Mapping[str, Tensor], *, source: str, source_sha256: str, note: str) -> Path:
    """Write a state dict with official names into the folder, atomically, with where it came from.

    Raises:
        OutputError: the folder cannot be written.
    """
    tensors = {key: value.contiguous() for key, value in state.items()}
    metadata = {
        "format": "slamfeat-backbone-1",
        "name": name,
        "source": source,
        "source_sha256": source_sha256,
        "sha256": state_digest(tensors),
        "licence": find_entry(name).licence,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "note": note,
    }
    return write_tensors(stored_path(name), tensors, metadata)


def verify(name: str) -> dict[str, str]:
    """Recompute the checksum of the stored weights, load them strictly, and return their metadata.

    Raises:
        WeightsError: absent, damaged, or changed since they were stored.
    """
    path = stored_path(name)
    load_stored(name)  # compares the checksum where there is one
    metadata = read_metadata(path)
    if "sha256" not in metadata:
        raise WeightsError(f"{path}: carries no checksum; replace it: slamfeat weights get {name} --force")
    return metadata
