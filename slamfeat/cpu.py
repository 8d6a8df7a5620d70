"""What the processor offers."""

from __future__ import annotations

import functools

import torch


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively and torch makes use of it.

    torch has no public question for this; builds without oneDNN, as on ARM, answer no.
    """
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch has no stub for it
    if not has_onednn:
        return False
    questions = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(ask()) for ask in questions if ask is not None)
