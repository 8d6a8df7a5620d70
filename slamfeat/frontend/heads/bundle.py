"""Trained heads in one file: the fine branch and the parts that belong to it, and what they fit."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slamfeat.backbones.checkpoints import check_digest, read_checkpoint, state_digest, write_tensors
from slamfeat.errors import ConfigError, WeightsError
from slamfeat.frontend.heads.describe import freeze
from slamfeat.frontend.heads.descriptor import DescriptorConfig, JoinedDescriptor
from slamfeat.frontend.heads.fine import AlikedBranch, FineBranch, FinerCNN, SiftBranch, XFeatBranch
from slamfeat.frontend.heads.matcher import AttentionConfig, AttentionMatcher
from slamfeat.frontend.heads.refiner import PatchRefiner, RefinerConfig
from slamfeat.frontend.heads.saliency import SaliencyConfig, SaliencyHead

FORMAT = "slamfeat-heads-1"
FINE_BRANCHES: dict[str, type[FineBranch]] = {
    "xfeat": XFeatBranch, "aliked": AlikedBranch, "finer": FinerCNN, "sift": SiftBranch,
}  # fmt: skip
PARTS: dict[str, Any] = {
    "matcher": AttentionConfig, "refiner": RefinerConfig, "descriptor": DescriptorConfig, "saliency": SaliencyConfig,
}  # fmt: skip
"""The parts that heads may lack, with the classes of their settings."""
_LATER = ("descriptor", "saliency")
"""Parts that older packages do not know; without them a file is as they write it."""
SHIPPED = Path(__file__).parent.parent.parent / "assets"


@dataclass(frozen=True)
class HeadsAbout:
    """What heads were trained on.

    Attributes:
        backbone: name of the architecture whose tokens they know.
        layer: block of the backbone, from 0.
        fine: name of the fine branch, of `FINE_BRANCHES`.
        matcher, refiner: their settings; None where there is none.
        descriptor: of tokens and fine feature joined; None where the fine descriptor is used by itself.
        saliency: of the learned saliency; None where there is none.
        notes: recipe, commit, date, hours, licences; for the model card.
    """

    backbone: str
    layer: int
    fine: str
    matcher: AttentionConfig | None = None
    refiner: RefinerConfig | None = None
    descriptor: DescriptorConfig | None = None
    saliency: SaliencyConfig | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


class Heads(nn.Module):
    """The heads of a frontend, frozen.

    Attributes:
        about: what they were trained on.
        fine, matcher, refiner, descriptor, saliency: the parts; None where there is none.
    """

    def __init__(self, about: HeadsAbout) -> None:
        super().__init__()
        if about.fine not in FINE_BRANCHES:
            raise ConfigError(f"unknown fine branch '{about.fine}'; use one of {', '.join(FINE_BRANCHES)}")
        self.about = about
        self.fine = FINE_BRANCHES[about.fine]()
        self.matcher = None if about.matcher is None else AttentionMatcher(about.matcher)
        self.refiner = None if about.refiner is None else PatchRefiner(about.refiner)
        self.descriptor = None if about.descriptor is None else JoinedDescriptor(about.descriptor)
        self.saliency = None if about.saliency is None else SaliencyHead(about.saliency)
        freeze(self)


def save_heads(heads: Heads, out: str | Path) -> Path:
    """Write heads as fp16 safetensors with a checksum.

    Raises:
        OutputError: `out` cannot be written.
    """
    tensors = {
        key: value.detach().cpu().half().contiguous() if value.is_floating_point() else value.cpu()
        for key, value in heads.state_dict().items()
    }
    about = dataclasses.asdict(heads.about)
    about = {name: value for name, value in about.items() if name not in _LATER or value is not None}
    metadata = {"format": FORMAT, "about": json.dumps(about, sort_keys=True), "sha256": state_digest(tensors)}
    return write_tensors(out, tensors, metadata)


def shipped_heads() -> dict[str, Path]:
    """Names of the heads in the package."""
    return {path.stem.removeprefix("heads-"): path for path in sorted(SHIPPED.glob("heads-*.safetensors"))}


def load_heads(name_or_path: str | Path) -> Heads:
    """Heads by the name of shipped ones, or from a file; in float32 on the CPU.

    Raises:
        ConfigError: an unknown name.
        WeightsError: damaged, or not a file of heads.
    """
    path = _find(name_or_path)
    state, metadata = read_checkpoint(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path}: not a file of heads ({FORMAT}); make one with slamfeat train")
    check_digest(state, metadata, path)
    heads = _build(metadata.get("about", ""), path)
    _load(heads, {key: value.float() if value.is_floating_point() else value for key, value in state.items()}, path)
    return heads


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path).expanduser()
    known = shipped_heads()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    if path.suffix == ".safetensors" or path.exists():
        if not path.is_file():
            raise WeightsError(f"no heads file {path}; check the path, or use a name: {', '.join(known)}")
        return path
    close = difflib.get_close_matches(str(name_or_path), known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"use {', '.join(known) or 'none'}, or a .safetensors file"
    raise ConfigError(f"unknown heads '{name_or_path}'; {hint}")


def _build(about: str, path: Path) -> Heads:
    try:
        values: dict[str, Any] = json.loads(about)
        for name, settings in PARTS.items():
            given = values.pop(name, None) if name in _LATER else values.pop(name)
            values[name] = None if given is None else settings(**given)
        described = HeadsAbout(**values)
        with torch.random.fork_rng(devices=[]):
            return Heads(described)
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise WeightsError(f"{path}: these heads are of a version this package does not know ({error})") from error


def _load(heads: Heads, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        heads.load_state_dict(dict(state))
    except RuntimeError as error:
        raise WeightsError(f"{path}: its weights do not fit the heads it describes: {error}") from error
