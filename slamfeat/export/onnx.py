"""Frontends as ONNX files for C++, TensorRT and OpenVINO: traced, checked against torch, then written.

See docs/export.md for the graphs' inputs and outputs.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slamfeat.backbones.checkpoints import state_digest
from slamfeat.backbones.registry import BACKBONES
from slamfeat.config import to_dict
from slamfeat.engines.libraries import EXPORTER, installed, quiet_export, require
from slamfeat.errors import ConfigError, MissingDependencyError
from slamfeat.export.graphs import BackboneGraph, FrontendGraph, Graph
from slamfeat.export.matcher_graph import MatcherGraph
from slamfeat.export.onnx_check import Figures, compare_features, compare_matches, compare_tokens, run
from slamfeat.export.onnx_ops import decompositions
from slamfeat.files import atomic_path
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.heads.bundle import Heads
from slamfeat.frontend.refine import RefineConfig
from slamfeat.types import Features

OPSET = 18
"""ONNX operator set of the files: what TensorRT 8.6, OpenVINO 2023 and ONNX Runtime 1.14 read, and all later ones."""

_LARGEST = 2**31 - 1  # protobuf's limit on one file
_Check = Callable[[dict[str, Tensor]], Figures]


def export_backbone(frontend: Frontend, images: Tensor, out: Path) -> Figures | None:
    """Write the backbone, normalisation inside.

    Args:
        frontend: a float32 backbone on the CPU, and which layers.
        images: (B, 3, H, W) in [0, 1], at least two real ones of the wanted size, on which the graph is checked.
        out: file to write.

    Returns:
        Figures of the check by name, or None where there is no ONNX Runtime to check with.

    Raises:
        ConfigError: a size that the backbone does not take, weights that are not float32, or too large for one file.
        MissingDependencyError: no onnx or onnxscript.
        OutputError: the graph does not agree with torch, or cannot be written.
    """
    graph = BackboneGraph(frontend, _size(images))
    expected = dict(zip(graph.outputs, _eager(graph, images), strict=True))
    return _export(graph, [images], out, _about(frontend, images), lambda found: compare_tokens(found, expected))


def export_frontend(frontend: Frontend, images: Tensor, num_keypoints: int, out: Path) -> Figures | None:
    """Write `Frontend.extract` at `num_keypoints` slots; the rest as in `export_backbone`.

    Raises:
        ImageError: images too small for the frontend's cells.
    """
    graph = FrontendGraph(frontend, _size(images), num_keypoints)
    _eager(graph, images)
    features = _in_torch(frontend, frontend.config).extract(images, num_keypoints)
    assert features.grid is not None  # extract always gives one
    values = (features.keypoints, features.scores, features.descriptors, features.mask, features.grid.tokens)
    expected = dict(zip(graph.outputs, values, strict=True))
    about = {**_about(frontend, images), "keypoints": str(num_keypoints)}
    return _export(graph, [images], out, about, lambda found: compare_features(found, expected))


def export_matcher(frontend: Frontend, features0: Features, features1: Features, out: Path) -> Figures | None:
    """Write the matching, without refinement, for as many slots as the features have.

    Args:
        frontend: whose settings, descriptors and learned matcher.
        features0, features1: batches of at least two, on which the graph is checked.
        out: file to write.

    Returns, raises:
        As `export_backbone`.
    """
    graph = MatcherGraph(frontend, features0, features1)
    inputs = [value for features in (features0, features1) for value in _tensors(features, graph.with_tokens)]
    plain = _in_torch(frontend, replace(frontend.config, refine=RefineConfig(method="none")))
    matches = plain.match(features0, features1)
    expected = {"indices0": matches.indices, "scores": matches.scores}
    sizes = ["x".join(str(int(side)) for side in features.image_size[0]) for features in (features0, features1)]
    slots = [str(features.mask.shape[1]) for features in (features0, features1)]
    about = {"keypoints": " ".join(slots), "size": " ".join(sizes), "config": json.dumps(to_dict(frontend.config))}
    about |= _about_heads(None if graph.matcher is None else frontend.plain_heads)
    return _export(graph, inputs, out, about, lambda found: compare_matches(found, expected))


def _export(graph: Graph, inputs: Sequence[Tensor], out: Path, about: dict[str, str], check: _Check) -> Figures | None:
    from slamfeat import __version__

    _check_possible(graph)
    with quiet_export(), torch.no_grad():
        program = _trace(graph, tuple(inputs))
    kind = type(graph).__name__.removesuffix("Graph").lower()
    facts = {"graph": kind, "version": __version__, **about}
    program.model.metadata_props.update({f"slamfeat.{name}": value for name, value in facts.items()})
    with atomic_path(out) as temporary:
        program.save(str(temporary))
        return check(run(temporary, graph.inputs, inputs)) if installed("onnxruntime") else None


def _trace(graph: Graph, inputs: tuple[Tensor, ...]) -> Any:
    shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs)
    exported = torch.export.export(graph.eval(), inputs, dynamic_shapes=(shapes,), strict=False)
    program = torch.onnx.export(
        exported.run_decompositions(decompositions()), dynamo=True, opset_version=OPSET, verbose=False,
        input_names=list(graph.inputs), output_names=list(graph.outputs),
    )  # fmt: skip
    assert program is not None  # that is what it gives with dynamo=True
    _name_batch(program.model.graph)
    return program


def _name_batch(graph: Any) -> None:
    """Call the first dimension of everything that goes in or out "batch", where the exporter made up a name."""
    for value in (*graph.inputs, *graph.outputs):
        value.shape[0] = "batch"


def _check_possible(graph: Graph) -> None:
    require("exporting", "onnx", *EXPORTER)
    if "dynamo" not in inspect.signature(torch.onnx.export).parameters:
        raise MissingDependencyError(f"exporting needs torch 2.6 or newer, this is {torch.__version__}; upgrade torch")
    weights = list(graph.parameters())
    if any(weight.dtype != torch.float32 for weight in weights):
        raise ConfigError("only float32 backbones are exported; load it with precision fp32 (runtimes convert it then)")
    if sum(4 * weight.numel() for weight in weights) > _LARGEST:
        raise ConfigError("the weights exceed the 2 GB that an ONNX file can hold; export a smaller backbone")


def _in_torch(frontend: Frontend, config: FrontendConfig) -> Frontend:
    """The same frontend with other settings, computed in torch whatever computed it."""
    return Frontend(frontend.backbone, config, heads=frontend.plain_heads)


def _eager(graph: Graph, images: Tensor) -> tuple[Tensor, ...]:
    """Run once in torch: the backbone then keeps its tables for this size, which become constants of the graph."""
    with torch.no_grad():
        values: tuple[Tensor, ...] = graph.eval()(images)
    return values


def _about(frontend: Frontend, images: Tensor) -> dict[str, str]:
    backbone = frontend.backbone
    known = BACKBONES.get(backbone.name)
    width, height = _size(images)
    return {
        "size": f"{width}x{height}",
        "backbone": backbone.name,
        "weights": frontend.name,
        "weights_sha256": state_digest(backbone.state_dict()),
        "weights_licence": known.licence if known else "unknown",
        "layers": json.dumps(frontend.layers),
        "cell": str(frontend.cell),
        "config": json.dumps(to_dict(frontend.config)),
        **_about_heads(frontend.plain_heads),
    }


def _about_heads(heads: Heads | None) -> dict[str, str]:
    if heads is None:
        return {}
    return {"heads_sha256": state_digest(heads.state_dict()), "heads_about": json.dumps(asdict(heads.about))}


def _size(images: Tensor) -> tuple[int, int]:
    return int(images.shape[-1]), int(images.shape[-2])


def _tensors(features: Features, with_tokens: bool) -> list[Tensor]:
    assert features.grid is not None
    tokens = [features.grid.tokens] if with_tokens else []
    return [features.keypoints, features.descriptors, features.mask, *tokens]
