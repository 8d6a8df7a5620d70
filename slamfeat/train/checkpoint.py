"""Checkpoints of a run. Those of step 40, in the folder `checkpoints`:

  step-00000040.safetensors      the trained weights
  step-00000040.ema.safetensors  their running average, where there is one
  step-00000040.pt               the rest of what a resumed run needs: optimizer and generators, loaded weights_only
  step-00000040.rank-0.pt        where parameters are sharded, the optimizer's part of each process
  step-00000040.json             figures, and checksums of the others

Each file is written atomically and the .json last: without it the others do not count. No file is ever replaced by
another step's, so that a kill at any moment leaves the checkpoints before it whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from slamfeat.errors import WeightsError
from slamfeat.files import atomic_path, write_text
from slamfeat.train.weights import Weights

FORMAT = "slamfeat-training-1"
_WEIGHTS, _AVERAGE, _STATE, _FACTS = ".safetensors", ".ema.safetensors", ".pt", ".json"
_NAME = re.compile(r"\.?step-(\d{8,})[.-].+")


@dataclass(frozen=True)
class Facts:
    """Where a run stood.

    Attributes:
        step: steps made.
        best_step, best_score: the best evaluation so far; 0 and None before the first.
        stale: evaluations since the best.
        seconds: wall time of the run, over all its sessions.
        world: processes; size: samples of the training data.
    """

    step: int
    best_step: int
    best_score: float | None
    stale: int
    seconds: float
    world: int
    size: int | None


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on as if it had not stopped.

    Attributes:
        facts: where it stood.
        weights: trained; average: None where the run keeps none.
        state: the rest, of tensors, numbers, strings, lists, tuples and dicts.
    """

    facts: Facts
    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor] | None
    state: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, parts: Mapping[str, str] | None = None) -> Path:
    """Write a checkpoint; returns its .json.

    Args:
        folder: of the checkpoints.
        checkpoint: all tensors whole.
        parts: what `save_part` gave in each process.

    Raises:
        OutputError: no room, or the folder cannot be written.
    """
    stem = _stem(folder, checkpoint.facts.step)
    contents = {_WEIGHTS: _packed(checkpoint.weights), _STATE: torch_bytes(dict(checkpoint.state))}
    if checkpoint.average is not None:
        contents[_AVERAGE] = _packed(checkpoint.average)
    for suffix, content in contents.items():
        with atomic_path(f"{stem}{suffix}") as temporary:
            temporary.write_bytes(content)
    checksums = {suffix: hashlib.sha256(content).hexdigest() for suffix, content in contents.items()} | dict(
        parts or {}
    )
    facts = {"format": FORMAT, **asdict(checkpoint.facts), "sha256": checksums}
    return write_text(f"{stem}{_FACTS}", json.dumps(facts, indent=1) + "\n")


def save_part(folder: Path, step: int, rank: int, state: Mapping[str, Any]) -> tuple[str, str]:
    """Write one process's part of a checkpoint, before the checkpoint itself; returns its ending and checksum.

    Raises:
        OutputError: no room, or the folder cannot be written.
    """
    suffix, content = f".rank-{rank}{_STATE}", torch_bytes(dict(state))
    with atomic_path(f"{_stem(folder, step)}{suffix}") as temporary:
        temporary.write_bytes(content)
    return suffix, hashlib.sha256(content).hexdigest()


def load_part(folder: Path, step: int, rank: int) -> dict[str, Any]:
    """What `save_part` wrote.

    Raises:
        WeightsError: absent or damaged; the message names the file.
    """
    stem, suffix = _stem(folder, step), f".rank-{rank}{_STATE}"
    _, checksums = _read_facts(stem)
    content = _read_checked(Path(f"{stem}{suffix}"), checksums.get(suffix, ""))
    try:
        return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise WeightsError(f"{stem}{suffix}: not a checkpoint of this version of slamfeat ({error})") from error


def load_checkpoint(folder: Path, step: int, rank: int = 0) -> Checkpoint:
    """The checkpoint of a step, on the CPU.

    Args:
        folder: of the checkpoints.
        step: see above.
        rank: process whose own part, if it has one, must be whole too.

    Raises:
        WeightsError: absent or damaged; the message names the file.
    """
    stem = _stem(folder, step)
    facts, checksums = _read_facts(stem)
    others = {suffix for suffix in checksums if suffix.startswith(".rank-") and suffix != f".rank-{rank}{_STATE}"}
    whole = {suffix: checksum for suffix, checksum in checksums.items() if suffix not in others}
    contents = {suffix: _read_checked(Path(f"{stem}{suffix}"), checksum) for suffix, checksum in whole.items()}
    try:
        average = contents.get(_AVERAGE)
        return Checkpoint(
            facts,
            safetensors.torch.load(contents[_WEIGHTS]),
            None if average is None else safetensors.torch.load(average),
            torch.load(io.BytesIO(contents[_STATE]), map_location="cpu", weights_only=True),
        )
    except (KeyError, SafetensorError, pickle.UnpicklingError, RuntimeError) as error:
        raise WeightsError(f"{stem}{_FACTS}: not a checkpoint of this version of slamfeat ({error})") from error


def load_weights(folder: Path, step: int) -> Weights:
    """What a checkpoint offers for use: the average where there is one, else the trained weights.

    Raises:
        WeightsError: absent or damaged.
    """
    stem = _stem(folder, step)
    _, checksums = _read_facts(stem)
    suffix = _AVERAGE if _AVERAGE in checksums else _WEIGHTS
    content = _read_checked(Path(f"{stem}{suffix}"), checksums.get(suffix, ""))
    return dict(safetensors.torch.load(content))


def load_facts(folder: Path, step: int) -> Facts:
    """Where a run stood.

    Raises:
        WeightsError: absent or damaged.
    """
    return _read_facts(_stem(folder, step))[0]


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps with a checkpoint that was written to its end, damaged since or not; rising."""
    found = (_NAME.fullmatch(path.name) for path in folder.glob(f"step-*{_FACTS}"))
    return sorted(int(name[1]) for name in found if name)


def load_latest(folder: Path, fall_back: bool, rank: int = 0) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint (None if there is none), and what was said about newer, damaged ones.

    Args:
        folder: of the checkpoints.
        fall_back: take the newest that is not damaged, instead of refusing.
        rank: see `load_checkpoint`.

    Raises:
        WeightsError: the newest is damaged and `fall_back` is off, or all are; names the previous usable one.
    """
    remarks: list[str] = []
    for step in reversed(checkpoint_steps(folder)):
        try:
            checkpoint = load_checkpoint(folder, step, rank)
        except WeightsError as error:
            remarks.append(str(error))
            continue
        if remarks and not fall_back:
            raise WeightsError(f"{remarks[0]}; the newest usable one is step {step}: resume=auto goes on from there")
        return checkpoint, remarks
    if remarks:
        raise WeightsError(f"{remarks[0]}; no other one is usable: choose another --out, or remove the folder")
    return None, remarks


def prune_checkpoints(folder: Path, keep: int, best_step: int, keep_every: int) -> None:
    """Delete all but the newest `keep` checkpoints, the best, and multiples of `keep_every` (0: none).

    What was the best for one that stays stays too: a run that falls back to it, since a newer one is damaged, needs it.
    """
    steps = checkpoint_steps(folder)
    kept = {
        *steps[-keep:],
        *_best_steps(folder, steps[-keep:]),
        best_step,
        *(step for step in steps if keep_every and step % keep_every == 0),
    }
    remove_checkpoints(folder, [step for step in steps if step not in kept])


def _best_steps(folder: Path, steps: list[int]) -> list[int]:
    """What each checkpoint calls the best; damaged ones say nothing."""
    found = []
    for step in steps:
        with suppress(WeightsError):
            found.append(load_facts(folder, step).best_step)
    return found


def remove_checkpoints(folder: Path, steps: list[int]) -> None:
    """Delete the checkpoints of some steps."""
    for step in steps:
        for suffix in (_FACTS, _WEIGHTS, _AVERAGE, _STATE):  # in this order: without the first the rest do not count
            Path(f"{_stem(folder, step)}{suffix}").unlink(missing_ok=True)
        for part in folder.glob(f"{_stem(folder, step).name}.rank-*{_STATE}"):
            part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete what kills left: parts of checkpoints that were not written to their end."""
    whole = checkpoint_steps(folder)
    for path in folder.iterdir():
        name = _NAME.fullmatch(path.name)
        if name and (path.name.startswith(".") or int(name[1]) not in whole):
            path.unlink(missing_ok=True)


def torch_bytes(value: Any) -> bytes:
    """The content of a torch file; writing it is then a write like any other, which says why it fails."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _stem(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _packed(weights: Mapping[str, Tensor]) -> bytes:
    # Copies, because safetensors refuses tensors that share memory, as tied weights do.
    return safetensors.torch.save({name: value.detach().cpu().clone().contiguous() for name, value in weights.items()})


def _read_facts(stem: Path) -> tuple[Facts, dict[str, str]]:
    path = Path(f"{stem}{_FACTS}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts.pop("format") != FORMAT:
            raise WeightsError(f"{path}: not a checkpoint of this version of slamfeat")
        checksums = facts.pop("sha256")
        return Facts(**facts), {str(suffix): str(checksum) for suffix, checksum in checksums.items()}
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such checkpoint; check the folder") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: damaged checkpoint ({error})") from error


def _read_checked(path: Path, checksum: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: damaged checkpoint ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != checksum:
        raise WeightsError(f"{path}: damaged checkpoint (truncated or changed: its checksum is another)")
    return content
