"""From a backbone and two words to an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slamfeat.backbones import Backbone
from slamfeat.engines import cache
from slamfeat.engines.base import Engine
from slamfeat.engines.choose import Choice, Means, choose
from slamfeat.engines.graph import can_export, graph_entry, load_graph
from slamfeat.engines.libraries import installed, openvino_core
from slamfeat.errors import InputError, SlamfeatError


def make_engine(
    backbone: Backbone,
    layers: Sequence[int],
    engine: str = "auto",
    precision: str = "auto",
    calibration: str | Path | None = None,
) -> Engine:
    """What computes a backbone's tokens after some blocks.

    An engine other than torch exports the backbone, once for these weights and blocks, and int8 quantises it, once
    more; both take some seconds and are kept, see `cache.engines_folder`. Where that fails, "auto" warns and takes
    torch, unless int8 was asked for.

    Args:
        backbone: frozen, in float32, on its device.
        layers: block indices, negative ones count from the end.
        engine: "auto", "torch", "openvino" or "onnx".
        precision: "auto", "fp32", "bf16" or "int8".
        calibration: a folder of images to quantise with; None takes the shipped ones.

    Raises:
        ConfigError: an unknown name, or a precision that the engine has not.
        InputError: no images in `calibration`.
        MissingDependencyError: an engine that was asked for is not installed.
    """
    folder = Path(calibration).expanduser() if calibration is not None else None
    choice = plan_engine(backbone, layers, engine, precision, folder)
    if engine == "auto" and choice.engine == "torch" and backbone.device.type == "cpu" and not installed("openvino"):
        cache.logger.info('the backbone runs in torch; pip install "slamfeat[openvino]" makes it faster')
    try:
        return _build(backbone, list(layers), choice, folder)
    except InputError:  # of the images to calibrate with
        raise
    except (SlamfeatError, ImportError, RuntimeError) as error:
        if engine != "auto" or precision == "int8" or choice.engine == "torch":
            raise
        line = " ".join(str(error).split())
        cache.logger.warning("the backbone runs in torch, which is slower: %s failed (%s)", choice.engine, line)
        return make_engine(backbone, layers, "torch", precision)


def _build(backbone: Backbone, wanted: list[int], choice: Choice, folder: Path | None) -> Engine:
    if choice.engine == "torch":
        from slamfeat.engines.torch_engine import TorchEngine, cast

        return TorchEngine(cast(backbone, choice.precision), wanted)
    entry = graph_entry(backbone, wanted)
    if choice.engine == "onnx":
        from slamfeat.engines.onnx_engine import OnnxEngine

        _announce(entry)
        return OnnxEngine(backbone, load_graph(backbone, wanted, entry))
    return _openvino(backbone, wanted, choice, entry, folder)


def plan_engine(
    backbone: Backbone,
    layers: Sequence[int],
    engine: str = "auto",
    precision: str = "auto",
    calibration: Path | None = None,
) -> Choice:
    """What `make_engine` would take, and why; arguments and errors as there."""
    off_cpu = backbone.device.type != "cpu" and engine == "auto"
    if off_cpu or engine == "torch" or not (installed("openvino") or installed("onnxruntime")):
        return choose(engine, precision, Means(backbone.device, graph=False, int8=False))
    exportable = can_export(backbone)
    graph = exportable
    int8 = exportable and installed("nncf")
    if not (graph and int8):
        from slamfeat.engines.quantise import quantised_entry

        entry = graph_entry(backbone, list(layers))
        int8 = int8 or (installed("openvino") and cache.contains(quantised_entry(entry, calibration)))
        graph = graph or cache.contains(entry)
    return choose(engine, precision, Means(backbone.device, graph, int8))


def _openvino(backbone: Backbone, layers: list[int], choice: Choice, entry: cache.Entry, folder: Path | None) -> Engine:
    from slamfeat.engines.openvino_engine import OpenVinoEngine
    from slamfeat.engines.quantise import load_quantised, quantised_entry

    def read_graph() -> Any:
        return openvino_core().read_model(load_graph(backbone, layers, entry))

    if choice.precision != "int8":
        _announce(entry)
        return OpenVinoEngine(backbone, read_graph(), choice.precision)
    quantised = quantised_entry(entry, folder)
    _announce(quantised)
    return OpenVinoEngine(backbone, load_quantised(backbone, read_graph, folder, quantised), "int8")


def _announce(entry: cache.Entry) -> None:
    if not cache.contains(entry):
        cache.logger.info("preparing the backbone for this processor, once; this takes some 20 seconds")
