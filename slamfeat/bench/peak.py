"""How fast this machine multiplies matrices, and what share of that a backbone reaches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.backbones import Backbone
from slamfeat.frontend import Frontend

SIZES = (1024, 2048)
PRECISIONS = ("fp32", "bf16", "int8")
_REPEATS = 7


def backbone_peak(frontend: Frontend, image: NDArray[np.uint8]) -> dict[str, Any]:
    """Operations a second of the backbone's engine on an image, as a share of what matrix multiplication reaches here.

    The share is of the peak in the engine's own precision. Operations count as two a multiply-add; memory traffic,
    softmax and what is added or normalised between the products count as nothing, and take their time.
    """
    grid = frontend.extract(image).grid
    assert grid is not None, "slamfeat's features carry their grid"
    rows, columns = grid.tokens.shape[-2:]
    patch = frontend.backbone.patch_size
    pixels = torch.rand(1, 3, rows * patch, columns * patch)
    seconds = best_seconds(lambda: frontend.engine(pixels))
    achieved = backbone_operations(frontend.backbone, frontend.layers, rows, columns) / seconds / 1e9
    peaks, own = matmul_peaks(), frontend.engine.precision
    peak = peaks[own]
    return {
        **{f"{precision}_gflops": value for precision, value in peaks.items()}, "tokens": rows * columns,
        "backbone_ms": 1e3 * seconds, "backbone_gflops": achieved, "backbone_engine": frontend.engine.name,
        "backbone_precision": own, "share_percent": None if peak is None else 100 * achieved / peak,
    }  # fmt: skip


def backbone_operations(backbone: Backbone, layers: list[int], rows: int, columns: int) -> float:
    """Operations of the matrix products for one image: patch embedding, and a block's projections, MLP and attention.

    Args:
        backbone: any.
        layers: the blocks whose tokens are asked for; those behind the last one are not computed.
        rows, columns: patches of the image.
    """
    blocks = max(layer % backbone.depth for layer in layers) + 1
    inside = [p.numel() for block in backbone.blocks[:blocks] for p in block.parameters() if p.ndim == 2]
    tokens = rows * columns + 1 + backbone.num_registers
    embed = 2 * rows * columns * 3 * backbone.patch_size**2 * backbone.embed_dim
    return float(embed + 2 * tokens * sum(inside) + blocks * 4 * tokens**2 * backbone.embed_dim)


def matmul_peaks() -> dict[str, float | None]:
    """Best GFLOP/s of square products by precision: torch's, and OpenVINO's where it is installed.

    None where nothing here multiplies in that precision. int8 is OpenVINO's product of two fake-quantised matrices,
    as in a quantised model; turning the left one to int8 is part of the time.
    """
    found: dict[str, float | None] = dict.fromkeys(PRECISIONS)
    for precision, size, call in _products():
        rate = 2 * size**3 / best_seconds(call) / 1e9
        found[precision] = max(rate, found[precision] or 0.0)
    return found


def best_seconds(call: Callable[[], Any]) -> float:
    """The shortest of several calls, after one that warms up."""
    with torch.inference_mode():
        call()
        times = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
    return min(times)


def _products() -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """Precision, side and product, one after the other so that only one is held."""
    from slamfeat.engines.libraries import installed

    for size in SIZES:
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            yield precision, size, _torch_product(size, dtype)
        if installed("openvino"):
            for precision in PRECISIONS:
                yield precision, size, _openvino_product(size, precision)


def _torch_product(size: int, dtype: torch.dtype) -> Callable[[], Any]:
    first, second = (torch.randn(size, size).to(dtype) for _ in range(2))
    return lambda: first @ second


def _openvino_product(size: int, precision: str) -> Callable[[], Any]:
    from slamfeat.engines.libraries import openvino_core

    generator = np.random.default_rng(0)
    first, second = (generator.uniform(-1, 1, (size, size)).astype(np.float32) for _ in range(2))
    options = {
        "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    model = _product_model(second, quantised=precision == "int8")
    request = openvino_core().compile_model(model, "CPU", options).create_infer_request()
    return lambda: request.infer(first, share_inputs=True, share_outputs=True)


def _product_model(second: NDArray[np.float32], *, quantised: bool) -> Any:
    """An `openvino.Model` of one input times a constant, both rounded to 8 bits or neither."""
    from openvino import Model, opset13

    parameter = opset13.parameter(list(second.shape), np.float32)
    left, right = parameter, opset13.constant(second)
    if quantised:
        left = _rounded(opset13, left, 127 / 128, 256)  # -128..127, what NNCF makes of activations
        right = _rounded(opset13, right, 1.0, 255)  # -127..127, of weights
    return Model([opset13.matmul(left, right, False, False)], [parameter])


def _rounded(opset: Any, node: Any, high: float, levels: int) -> Any:
    bounds = [opset.constant(np.float32(bound)) for bound in (-1.0, high)]
    return opset.fake_quantize(node, *bounds, *bounds, levels)
