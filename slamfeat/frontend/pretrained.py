"""From a name or a file to a backbone with weights."""

from __future__ import annotations

from pathlib import Path

import torch

from slamfeat.backbones import Backbone, list_backbones, load_backbone
from slamfeat.backbones.checkpoints import read_checkpoint, read_metadata
from slamfeat.errors import ConfigError, WeightsError

DEFAULT_WEIGHTS = Path(__file__).parent.parent / "assets" / "dinov2-vits14-int8.safetensors"
"""DINOv2 ViT-S/14 with its matrices as int8; made by `python -m slamfeat.backbones.packed`, see NOTICE."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_pretrained(
    name_or_path: str | Path, device: torch.device, dtype: torch.dtype | str = "auto"
) -> tuple[Backbone, str]:
    """A frozen backbone and the name to show for it; arguments as in `Frontend.from_pretrained`.

    Raises:
        ConfigError: an unknown name or dtype.
        WeightsError: weights missing, damaged or of another architecture.
    """
    chosen = choose_dtype(dtype, device)
    if str(name_or_path) == "default":
        return _load_file(DEFAULT_WEIGHTS, device, chosen), "default"
    path = Path(name_or_path).expanduser()
    if path.suffix or path.exists():
        return _load_file(path, device, chosen), path.stem
    name = str(name_or_path)
    return load_backbone(name, device=device, dtype=chosen), name


def choose_dtype(dtype: torch.dtype | str, device: torch.device) -> torch.dtype:
    """The dtype asked for; "auto" is bfloat16 where the device computes in it natively, else float32."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype != "auto":
        if dtype not in _DTYPES:
            raise ConfigError(f"unknown dtype '{dtype}'; use auto, {', '.join(_DTYPES)}")
        return _DTYPES[dtype]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and _cpu_has_bfloat16()
    return torch.bfloat16 if native else torch.float32


def _cpu_has_bfloat16() -> bool:
    """torch has no public question for this; builds without oneDNN, as on ARM, answer no."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch has no stub for it
    if not has_onednn:
        return False
    questions = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(ask()) for ask in questions if ask is not None)


def _load_file(path: Path, device: torch.device, dtype: torch.dtype) -> Backbone:
    if not path.exists():
        raise WeightsError(
            f"no weights file {path}; check the path, or use a name: default, {', '.join(list_backbones())}"
        )
    metadata = read_metadata(path)
    name = metadata.get("name")
    if name is None:
        name = next(
            (known for known in sorted(list_backbones(), key=len, reverse=True) if path.stem.startswith(known)), None
        )
    if name is None:
        read_checkpoint(path)  # a damaged file is called damaged, not nameless
        raise WeightsError(
            f"{path}: does not say which backbone it is; rename it to NAME.safetensors with NAME one of "
            f"{', '.join(list_backbones())}, or use load_backbone(NAME, weights=...)"
        )
    return load_backbone(name, weights=path, device=device, dtype=dtype)
