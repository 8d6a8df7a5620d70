"""A small form of a backbone's weights to ship with a package: matrices as int8, the rest as fp16, in one file.

A matrix (or convolution) of `weights` is stored as `NAME` int8 and `NAME::scale` fp16, one scale for each output
channel; only the first blocks may be kept. Make one with `python -m slamfeat.backbones.packed NAME OUT --depth N`; NAME
is that of stored weights, or the file of a backbone of one's own.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from slamfeat.backbones.checkpoints import check_digest, read_checkpoint, state_digest, write_tensors
from slamfeat.backbones.own import KEY, architecture_in, architecture_json
from slamfeat.backbones.registry import Architecture, find_entry
from slamfeat.errors import ConfigError, SlamfeatError, WeightsError

FORMAT = "slamfeat-packed-1"
_SCALE = "::scale"


def pack(
    state: Mapping[str, Tensor], out: str | Path, *, name: str, depth: int | None = None, source: str = "",
    note: str = "", architecture: Architecture | None = None, card: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """Write a packed file.

    Args:
        state: a complete state dict with official key names.
        out: file to write, .safetensors.
        name: registry name of the architecture.
        depth: blocks to keep, from the first; all when None. The final norm is always kept.
        source, note: carried in the metadata.
        architecture: of a backbone of one's own; None for that of `name`.
        card: more for the metadata.

    Raises:
        ConfigError: more blocks asked for than there are, or fewer than an imitating backbone needs.
        OutputError: `out` cannot be written.
    """
    full = (architecture or find_entry(name).architecture).depth
    depth = full if depth is None else depth
    if architecture is not None and architecture.imitates and depth < full:
        raise ConfigError(f"{name} imitates {architecture.imitates} with its last block; keep all {full} blocks")
    if not 1 <= depth <= full:
        raise ConfigError(f"{name} has {full} blocks; --depth must be between 1 and {full}, not {depth}")
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        block = re.match(r"blocks\.(\d+)\.", key)
        if block is None or int(block[1]) < depth:
            tensors |= _quantize(key, value.detach().float().cpu())
    metadata = dict(card or {}) | {
        "format": FORMAT, "name": name, "depth": str(depth), "source": source, "note": note,
        "sha256": state_digest(tensors),
    } | ({} if architecture is None else {KEY: architecture_json(architecture)})  # fmt: skip
    return write_tensors(out, tensors, metadata)


def unpack(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The fp32 state dict of a packed file, and its metadata (format, name, depth, source, note).

    Raises:
        WeightsError: damaged, or not a packed file.
    """
    state, metadata = read_checkpoint(Path(path))
    if not is_packed(metadata):
        raise WeightsError(f"{path}: not a packed backbone; make one with python -m slamfeat.backbones.packed")
    check_digest(state, metadata, Path(path))
    return unpack_tensors(state), metadata


def is_packed(metadata: Mapping[str, str]) -> bool:
    """True for the metadata of a packed file of a version this code reads."""
    return metadata.get("format") == FORMAT


def check_metadata(metadata: Mapping[str, str], name: str, path: Path) -> Architecture:
    """The architecture of a packed file, with its depth.

    Raises:
        WeightsError: it is of another backbone than `name`, or its depth makes no sense.
    """
    held, depth = metadata.get("name"), metadata.get("depth", "")
    if held != name:
        raise WeightsError(f"{path}: packed weights of {held}, but {name} was asked for; load it under that name")
    architecture = architecture_in(metadata, path) or find_entry(name).architecture
    if not depth.isdigit() or not 1 <= int(depth) <= architecture.depth:
        raise WeightsError(f"{path}: depth '{depth}' in its metadata is not that of a {name}; make the file again")
    return architecture.with_depth(int(depth))


def unpack_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Packed tensors to fp32 ones."""
    out: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key.endswith(_SCALE):
            continue
        scale = tensors.get(key + _SCALE)
        wide = value.float()
        out[key] = wide if scale is None else wide * scale.float().view(-1, *[1] * (wide.ndim - 1))
    return out


def _quantize(key: str, value: Tensor) -> dict[str, Tensor]:
    if value.ndim not in (2, 4) or not key.endswith(".weight"):
        return {key: value.half().contiguous()}
    scale = (value.flatten(1).abs().amax(1) / 127).clamp_min(1e-7).half()  # int8 is chosen for the rounded scale
    steps = (value / scale.float().view(-1, *[1] * (value.ndim - 1))).round().clamp(-127, 127)
    return {key: steps.to(torch.int8).contiguous(), key + _SCALE: scale}


def pack_own(path: Path, out: Path, depth: int | None = None) -> Path:
    """A packed file of a backbone that pretraining or distillation wrote, with all that it says of its making.

    Raises:
        WeightsError: missing, damaged, or not a backbone of one's own.
        ConfigError, OutputError: as in `pack`.
    """
    state, metadata = read_checkpoint(path)
    architecture = architecture_in(metadata, path)
    if architecture is None or is_packed(metadata):
        raise WeightsError(f"{path}: give the file of a backbone that slamfeat pretrain or slamfeat distill wrote")
    check_digest(state, metadata, path)
    source = f"trained by slamfeat at commit {metadata.get('commit', 'unknown')}"
    return pack(state, out, name=metadata["name"], depth=depth, source=source, architecture=architecture, card=metadata)


def pack_stored(name: str, out: Path, depth: int | None = None) -> Path:
    """A packed file of the stored weights of a backbone; errors as in `load_stored` and `pack`."""
    from slamfeat.backbones import store

    info = store.stored_metadata(name)
    return pack(
        store.load_stored(name).state_dict(), out, name=name, depth=depth, source=info.get("source", ""),
        note=info.get("note", ""),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: pack the weights of a backbone."""
    parser = argparse.ArgumentParser(prog="python -m slamfeat.backbones.packed", description=main.__doc__)
    parser.add_argument("name", help="stored weights (slamfeat weights list), or the .safetensors of your own")
    parser.add_argument("out", type=Path, help="file to write, .safetensors")
    parser.add_argument("--depth", type=int, help="blocks to keep, from the first (default: all)")
    given = parser.parse_args(arguments)
    try:
        if Path(given.name).suffix == ".safetensors":
            pack_own(Path(given.name), given.out, given.depth)
        else:
            pack_stored(given.name, given.out, given.depth)
    except SlamfeatError as error:
        parser.exit(1, f"error: {error}\n")
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
