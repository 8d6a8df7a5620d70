"""Where an OpenVINO engine's time goes, by type of operation."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from slamfeat.engines import Engine
from slamfeat.engines.openvino_engine import OpenVinoEngine

_RUNS = 5


def operation_times(engine: Engine, image: Tensor) -> list[dict[str, Any]]:
    """Milliseconds, share and number of the operations of each type, the costliest first.

    OpenVINO's own counters, mean of some inferences; they cost time themselves, so that the whole is more than an
    inference without them. `kernel` names the implementation that took most of the type's time.
    """
    assert isinstance(engine, OpenVinoEngine)
    counting = OpenVinoEngine(engine._backbone, engine._model, engine.precision, counters=True)
    for _ in range(2):
        counting(image)
    (request,) = counting._requests.values()
    attention = _attention(request)
    spent: dict[str, float] = defaultdict(float)
    kernels: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    count: dict[str, int] = defaultdict(int)
    for run in range(_RUNS):
        with torch.inference_mode():
            counting(image)
        for node in request.profiling_info:
            ms = 1e3 * node.real_time.total_seconds() / _RUNS
            if ms > 0:
                kind = "attention" if node.node_name in attention else node.node_type
                spent[kind] += ms
                kernels[kind][node.exec_type] += ms
                count[kind] += run == 0
    whole = sum(spent.values())
    return [
        {
            "operation": kind, "ms": ms, "share_percent": 100 * ms / whole, "number": count[kind],
            "kernel": max(kernels[kind], key=lambda name: kernels[kind][name]),
        }
        for kind, ms in sorted(spent.items(), key=lambda item: -item[1])
    ]  # fmt: skip


def _attention(request: Any) -> set[str]:
    """Names of the nodes that hold a softmax: OpenVINO fuses a block's whole attention into one "Subgraph"."""
    names = set()
    for node in request.get_compiled_model().get_runtime_model().get_ops():
        info = node.get_rt_info()
        if "originalLayersNames" in info and "softmax" in info["originalLayersNames"].value.lower():
            names.add(node.get_friendly_name())
    return names
