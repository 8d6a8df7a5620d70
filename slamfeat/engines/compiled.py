"""Any network of tensors in OpenVINO: converted once for its weights, compiled for every shape that is met."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from slamfeat.engines import cache
from slamfeat.engines.base import Precision
from slamfeat.engines.libraries import import_openvino, openvino_core, require, without_telemetry
from slamfeat.engines.module_entry import module_entry
from slamfeat.engines.openvino_engine import cpu_options

_KEPT = 4  # compiled shapes; each holds the weights once more
_Key = tuple[int, tuple[torch.Size, ...]]  # threads, shapes of the inputs


class CompiledModule:
    """A network that OpenVINO computes on the CPU, with as many threads as torch has when shapes are first met.

    Calls from several threads are safe. There are no gradients.

    Args:
        model: an `openvino.Model` with free shapes; not changed.
        precision: "fp32", or "bf16" of a processor that has it.
    """

    def __init__(self, model: Any, precision: Precision) -> None:
        self.precision: Precision = precision
        self._model = model
        self._requests: dict[_Key, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the network gives for inputs of the types it was converted with, on the first one's device."""
        arrays = [values.detach().cpu().contiguous().numpy() for values in inputs]
        key = torch.get_num_threads(), tuple(values.shape for values in inputs)
        with self._lock:  # a request holds one inference; its outputs are copied before the next may start
            request = self._request(key)
            request.infer(arrays, share_inputs=True)
            outputs = [request.get_output_tensor(i).data.copy() for i in range(len(self._model.outputs))]
        return tuple(torch.from_numpy(values).to(inputs[0].device) for values in outputs)

    def _request(self, key: _Key) -> Any:
        request = self._requests.pop(key, None)
        if request is None:
            while len(self._requests) >= _KEPT:
                self._requests.pop(next(iter(self._requests)))
            request = self._compile(key)
        self._requests[key] = request  # the one used last goes last
        return request

    def _compile(self, key: _Key) -> Any:
        threads, shapes = key
        model = self._model.clone()
        model.reshape({index: list(shape) for index, shape in enumerate(shapes)})
        options = cpu_options(self.precision != "fp32", threads)
        return openvino_core().compile_model(model, "CPU", options).create_infer_request()


def compile_module(
    module: nn.Module, example: tuple[Tensor, ...], settings: str, precision: Precision
) -> CompiledModule:
    """A network in OpenVINO, converted now (some seconds) or found in the cache, see `cache.engines_folder`.

    Args:
        module: on the CPU, in float32 and evaluation mode, of tensors to a tensor or a tuple of them. Its numbers of
            dimensions are the example's, their lengths are free as far as its code asks tensors for them.
        example: inputs to convert with.
        settings: all that decides what it computes beside its weights and its classes' source.
        precision: "fp32", or "bf16" where the processor has it.

    Raises:
        MissingDependencyError: openvino is not installed.
        RuntimeError: OpenVINO or torch's tracing does not know one of the operations.
    """
    require("a compiled network", "openvino", "openvino")
    openvino = import_openvino()
    model = cache.load_or_build(
        module_entry(module, settings),
        lambda folder: openvino_core().read_model(folder / "model.xml"),
        lambda: _convert(module, example),
        lambda made, folder: openvino.save_model(made, folder / "model.xml", compress_to_fp16=False),
    )
    return CompiledModule(model, precision)


def _convert(module: nn.Module, example: tuple[Tensor, ...]) -> Any:
    """By tracing, which leaves lengths free; torch.export binds them."""
    with without_telemetry(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of shapes that the trace takes as constants, and of tracing itself
        return import_openvino().convert_model(module.eval(), example_input=example)
