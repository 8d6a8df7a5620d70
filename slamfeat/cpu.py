"""What the processor offers."""

from __future__ import annotations

import functools
import platform

import torch

_X86 = {"x86_64", "amd64", "x86", "i386", "i686"}
_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8")


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


@functools.cache
def cpu_has_int8() -> bool:
    """Whether the processor sums 8-bit products in 32 bits.

    x86 before VNNI adds pairs of them in 16 bits, which saturates, and gains little by them. torch names these
    instructions from 2.10 on; older ones know of AVX-512's alone.
    """
    if platform.machine().lower() not in _X86:
        return True
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        found = capabilities()
        return any(bool(found.get(name)) for name in _INT8)
    ask = getattr(torch.cpu, "_is_vnni_supported", None)
    return ask is not None and bool(ask())
