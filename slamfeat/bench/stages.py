"""Where slamfeat's own time goes, and how much of the machine's arithmetic the backbone reaches."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.frontend import Frontend
from slamfeat.image import fit_to_patch, resize

PREFIX = "slamfeat."
_MATRIX, _REPEATS = 2048, 7


def stage_times(frontend: Frontend, images: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> dict[str, float]:
    """Milliseconds a stage of extracting one image and matching it with another, by torch's profiler.

    Stages are the `record_function` blocks of `slamfeat.frontend`; a stage's time includes all it calls, and "other"
    is what lies in none.
    """
    from torch.profiler import ProfilerActivity, profile

    first = frontend.extract(images[0])
    frontend.match(first, frontend.extract(images[1]))
    rounds = 3
    with _quiet(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        started = time.perf_counter()
        for _ in range(rounds):
            frontend.match(first, frontend.extract(images[1]))
        whole = 1e3 * (time.perf_counter() - started) / rounds
    stages = {
        event.key.removeprefix(PREFIX): event.cpu_time_total / 1e3 / rounds
        for event in profiler.key_averages()
        if event.key.startswith(PREFIX)
    }
    return {**stages, "other": max(0.0, whole - sum(stages.values()))}


@contextmanager
def _quiet() -> Iterator[None]:
    """Some builds of torch's profiler report on themselves, past Python's own standard error."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def backbone_peak(frontend: Frontend, image: NDArray[np.uint8]) -> dict[str, Any]:
    """Multiply-adds a second of the backbone on this image, as a share of what matrix multiplication reaches here.

    The machine's peak is the best of several products of square matrices, in float32 and in bfloat16; the backbone's
    share is of the peak in its own precision. Operations count as two a multiply-add.
    """
    backbone = frontend.backbone
    fitted, _ = fit_to_patch(image, frontend.cell)
    rows, columns = fitted.shape[-2] // frontend.cell, fitted.shape[-1] // frontend.cell
    pixels, _ = resize(fitted, (columns * backbone.patch_size, rows * backbone.patch_size))
    ready = backbone.normalize(pixels)
    seconds = _best(lambda: backbone.intermediate(ready, frontend.layers))
    blocks = max(layer % backbone.depth for layer in frontend.layers) + 1
    achieved = backbone_operations(frontend, rows * columns, blocks) / seconds / 1e9
    peaks = {"fp32_gflops": _matmul_gflops(torch.float32), "bf16_gflops": _matmul_gflops(torch.bfloat16)}
    own = peaks["bf16_gflops" if backbone.dtype == torch.bfloat16 else "fp32_gflops"]
    return {
        **peaks, "tokens": rows * columns, "blocks": blocks, "backbone_ms": 1e3 * seconds, "backbone_gflops": achieved,
        "backbone_dtype": str(backbone.dtype).removeprefix("torch."), "share_percent": 100 * achieved / own,
    }  # fmt: skip


def backbone_operations(frontend: Frontend, cells: int, blocks: int) -> float:
    """Operations of the matrix products: patch embedding, and a block's projections, MLP and attention."""
    backbone = frontend.backbone
    inside = [p.numel() for block in backbone.blocks[:blocks] for p in block.parameters() if p.ndim == 2]
    tokens = cells + 1 + backbone.num_registers
    embed = 2 * cells * 3 * backbone.patch_size**2 * backbone.embed_dim
    return float(embed + 2 * tokens * sum(inside) + blocks * 4 * tokens**2 * backbone.embed_dim)


def _matmul_gflops(dtype: torch.dtype) -> float:
    a, b = (torch.randn(_MATRIX, _MATRIX).to(dtype) for _ in range(2))
    return 2 * _MATRIX**3 / _best(lambda: a @ b) / 1e9


def _best(call: Callable[[], Any]) -> float:
    with torch.inference_mode():
        call()
        times = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
    return min(times)
