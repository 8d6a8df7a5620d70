"""The learned peers' networks with exactly their weights: anything missing or left over is an error.

A network that loads in part still matches, only worse, which would flatter slamfeat.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from slamfeat.bench.peer_tools import match_each
from slamfeat.errors import WeightsError
from slamfeat.peer_weights import find_peer, load
from slamfeat.types import Features, Matches


def build_strictly(
    build: Callable[[], Any],
    name: str,
    state: Mapping[str, Tensor] | None = None,
    *,
    derived: Sequence[str] = (),
    leftovers: str = "",
) -> Any:
    """A module with exactly the weights of a name, in evaluation mode.

    Args:
        build: makes the module; its random initialisation leaves the global random state untouched.
        name: of `peer_weights.PEER_WEIGHTS`.
        state: the weights under the module's own names; as stored when None.
        derived: buffers that the module computes itself and the file may lack.
        leftovers: regular expression of whole names that belong to no inference and are left out.

    Raises:
        WeightsError: not stored, damaged, or any other name or shape is missing or left over.
    """
    state = load(name) if state is None else state
    with torch.random.fork_rng(devices=[]):
        module: nn.Module = build()
    wanted = {key: value for key, value in state.items() if not (leftovers and re.fullmatch(leftovers, key))}
    try:
        # Not torch's own strictness: the derived buffers may be missing, and nothing else may, as is checked below.
        missing, unexpected = module.load_state_dict(wanted, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"weights of {name} do not fit {type(module).__name__}: {_first_line(error)}") from error
    missing = [key for key in missing if key not in derived]
    if missing or unexpected:
        kind = type(module).__name__
        raise WeightsError(
            f"weights of {name} do not fit {kind}: missing {missing[:3]}, unexpected {unexpected[:3]}; "
            f"fetch them again (slamfeat weights get {name} --force), or install the kornia of constraints.txt"
        )
    return module.eval()


def build_lightglue(name: str, *, leftovers: str = "", **settings: Any) -> Any:
    """Kornia's LightGlue (Lindenberger et al., ICCV 2023) with the weights of a name.

    Args:
        name: of `peer_weights.PEER_WEIGHTS`.
        leftovers: as in `build_strictly`.
        settings: of `kornia.feature.LightGlue.default_conf`, where they differ.

    Raises:
        WeightsError: as `build_strictly`.
    """
    from kornia.feature import LightGlue

    state = {_lightglue_name(key): value for key, value in load(name).items()}
    derived = ("confidence_thresholds",)
    return build_strictly(lambda: LightGlue(None, **settings), name, state, derived=derived, leftovers=leftovers)


def match_lightglue(model: Any, features0: Features, features1: Features) -> Matches:
    """Matches by a LightGlue that `build_lightglue` made."""

    def pair(image0: dict[str, Tensor], image1: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        found = model({"image0": image0, "image1": image1})
        return *found["matches"][0].unbind(1), found["scores"][0]

    return match_each(features0, features1, pair)


def origin(name: str) -> str:
    """Where a peer's weights come from and under which licence, for its settings."""
    entry = find_peer(name)
    return f"{entry.source} ({entry.licence}, sha256 {entry.sha256[:12]})"


def _lightglue_name(key: str) -> str:
    """The names of older checkpoints in those of today's LightGlue."""
    return re.sub(r"^(self_attn|cross_attn)\.(\d+)\.", r"transformers.\2.\1.", key.removeprefix("matcher."))


def _first_line(error: Exception) -> str:
    """What torch says of the first key that does not fit; its message has one line a key, after a heading."""
    lines = str(error).splitlines()
    return lines[min(1, len(lines) - 1)].strip()
