"""Which engine and precision to take when that is left open, and whether what was asked for can be had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, get_args

import torch

from slamfeat.cpu import cpu_has_bfloat16, cpu_has_int8
from slamfeat.engines.base import EngineName, Precision
from slamfeat.engines.libraries import EXPORTER, installed, require
from slamfeat.errors import ConfigError

_OFFERED: dict[str, tuple[str, ...]] = {
    "torch": ("fp32", "bf16"), "openvino": ("fp32", "bf16", "int8"), "onnx": ("fp32",),
}  # fmt: skip
_INT8 = 'precision: int8 needs engine=openvino (pip install "slamfeat[openvino]"); {engine} offers {offered}'


@dataclass(frozen=True)
class Choice:
    """An engine and a precision, and why in a few words."""

    engine: EngineName
    precision: Precision
    reason: str


@dataclass(frozen=True)
class Means:
    """What there is to choose from.

    Attributes:
        device: of the backbone.
        graph: its ONNX graph is kept or can be made.
        int8: its quantised model is kept or can be made.
    """

    device: torch.device
    graph: bool
    int8: bool


def choose(engine: str, precision: str, means: Means) -> Choice:
    """Settle "auto".

    Raises:
        ConfigError: an unknown name, or a precision that the engine has not.
        MissingDependencyError: the engine asked for is not installed; says what to install.
    """
    _check(engine, EngineName, "engine")
    _check(precision, Precision, "precision")
    if engine == "auto":
        name, reason = _engine(precision, means)
    else:
        name, reason = cast(EngineName, engine), "as asked"
    if precision != "auto" and precision not in _OFFERED[name]:
        offered = " and ".join(_OFFERED[name])
        if precision == "int8":
            raise ConfigError(_INT8.format(engine=name, offered=offered))
        raise ConfigError(f"precision: engine {name} offers {offered}, not {precision}; use engine=torch or openvino")
    taken = cast(Precision, precision) if precision != "auto" else _precision(name, means)
    _require(name, taken, means)
    return Choice(name, taken, reason)


def _engine(precision: str, means: Means) -> tuple[EngineName, str]:
    if means.device.type != "cpu":
        return "torch", f"the device is {means.device.type}"
    quantised = means.int8 and (precision == "int8" or (precision == "auto" and cpu_has_int8()))
    if installed("openvino") and (means.graph or quantised):
        return "openvino", "the fastest on a processor"
    missing = "openvino cannot export the backbone here" if installed("openvino") else "openvino is not installed"
    if precision == "bf16" or (precision in ("auto", "int8") and cpu_has_bfloat16()):
        return "torch", f"{missing}, and the processor computes in bf16"
    if installed("onnxruntime") and means.graph and precision != "int8":
        return "onnx", missing
    return "torch", missing


def _precision(engine: EngineName, means: Means) -> Precision:
    if engine == "openvino" and means.int8 and cpu_has_int8():
        return "int8"
    if engine == "onnx":
        return "fp32"
    # The others compute on the processor, whatever the backbone's device.
    native = native_bfloat16(means.device) if engine == "torch" else cpu_has_bfloat16()
    return "bf16" if native else "fp32"


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 natively."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu_has_bfloat16()


def _require(engine: EngineName, precision: Precision, means: Means) -> None:
    if engine == "openvino":
        require("engine=openvino", "openvino", "openvino")
        if precision == "bf16" and not cpu_has_bfloat16():
            raise ConfigError("precision: this processor does not compute in bf16; use precision=int8 or fp32")
        if precision == "int8" and means.int8:
            return
        if precision == "int8":
            require("precision=int8", "openvino", "nncf", *EXPORTER)
    elif engine == "onnx":
        require("engine=onnx", "onnx", "onnxruntime")
    if engine != "torch" and not means.graph:
        require(f"engine={engine}", engine, *EXPORTER)
        raise ConfigError(
            f"engine: {engine} needs the backbone as one ONNX file, which takes torch 2.6 and weights under 2 GB; "
            "use engine=torch"
        )


def _check(value: str, known: object, key: str) -> None:
    names = ("auto", *get_args(known))
    if value not in names:
        raise ConfigError(f"{key}: unknown '{value}'; use one of {', '.join(names)}")
