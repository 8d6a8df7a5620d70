"""The backbone in OpenVINO, compiled once for every size that is met."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from slamfeat.backbones import Backbone
from slamfeat.engines.base import EngineName, Precision, to_grid
from slamfeat.engines.graph import IMAGES, TABLE
from slamfeat.engines.libraries import openvino_core

_KEPT = 4  # compiled sizes; each holds the weights once more
_Size = tuple[int, int, int, int]  # batch, rows, columns, threads


class OpenVinoEngine:
    """See `Engine`. Computes on the CPU with as many threads as torch has when a size is first met.

    Args:
        backbone: whose graph `model` is.
        model: an `openvino.Model` with the inputs of `graph.load_graph`; not changed.
        precision: "int8" for a quantised model, whose other parts then run in bf16 where the processor has it.
        counters: measure every operation, which takes time itself.
    """

    name: EngineName = "openvino"

    def __init__(self, backbone: Backbone, model: Any, precision: Precision, counters: bool = False) -> None:
        self.precision: Precision = precision
        self.patch_size = backbone.patch_size
        self._backbone, self._model, self._counters = backbone, model, counters
        self._requests: dict[_Size, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, images: Tensor) -> list[Tensor]:
        """See `Engine`."""
        self._backbone.check_images(images)
        batch, rows, columns = len(images), *(side // self.patch_size for side in images.shape[-2:])
        array = images.detach().to("cpu", torch.float32).contiguous().numpy()
        with self._lock:  # a request holds one inference; its outputs are copied before the next may start
            request = self._request((batch, rows, columns, torch.get_num_threads()))
            request.infer(array, share_inputs=True)
            outputs = [request.get_output_tensor(i).data.copy() for i in range(len(self._model.outputs))]
        return [to_grid(tokens, rows, columns, images.device) for tokens in outputs]

    def _request(self, size: _Size) -> Any:
        if size not in self._requests:
            while len(self._requests) >= _KEPT:
                self._requests.pop(next(iter(self._requests)))
            self._requests[size] = self._compile(size).create_infer_request()
        else:
            self._requests[size] = self._requests.pop(size)  # the one used last goes last
        return self._requests[size]

    def _compile(self, size: _Size) -> Any:
        """One batch size too: with a free one inference takes about a tenth longer."""
        batch, rows, columns, threads = size
        model = bake_tables(self._model, self._backbone.tables(rows, columns))
        model.reshape([batch, 3, rows * self.patch_size, columns * self.patch_size])
        in_bfloat16 = self.precision != "fp32" and self.has_bfloat16
        options = {**cpu_options(in_bfloat16, threads), "PERF_COUNT": self._counters}
        return openvino_core().compile_model(model, "CPU", options)

    @property
    def has_bfloat16(self) -> bool:
        """Whether the processor computes in it, as OpenVINO sees it."""
        return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def cpu_options(in_bfloat16: bool, threads: int) -> dict[str, Any]:
    """How models are compiled for the processor."""
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if in_bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # several processes would all be pinned to the same first cores
    }


def bake_tables(model: Any, tables: tuple[Tensor, ...]) -> Any:
    """A copy of the model with its table inputs as constants, so that only the images are left as input."""
    from openvino import opset13

    baked = model.clone()
    inputs = {parameter.friendly_name: parameter for parameter in baked.get_parameters()}
    assert IMAGES in inputs
    for i, table in enumerate(tables):
        parameter = inputs[f"{TABLE}{i}"]
        parameter.output(0).replace(opset13.constant(table.cpu().numpy()).output(0))
        baked.remove_parameter(parameter)
    return baked
