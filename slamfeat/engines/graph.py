"""A backbone as an ONNX graph that serves every batch and image size."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slamfeat import backbones
from slamfeat.backbones import Backbone
from slamfeat.backbones.checkpoints import state_digest
from slamfeat.engines import cache
from slamfeat.engines.libraries import EXPORTER, installed, quiet_export, require
from slamfeat.errors import MissingDependencyError

IMAGES, TABLE = "images", "table"
Source = Path | bytes
"""An ONNX file, or what one would hold where it could not be kept."""
_MAX_BYTES = 2**31 - 2**24  # one protobuf message
_MIN_TORCH = (2, 6)  # older ones cannot export dynamic sizes through torch.export
_ROWS = _COLUMNS = 512


def can_export(backbone: Backbone) -> bool:
    """Whether this installation can make the graph, and the graph fits one file."""
    return installed(*EXPORTER) and can_trace() and fits(backbone)


def can_trace() -> bool:
    """Whether this torch can export a graph with free sizes."""
    return tuple(int(part) for part in torch.__version__.split(".")[:2]) >= _MIN_TORCH


def fits(backbone: Backbone) -> bool:
    """Whether the weights fit an ONNX file (2 GB)."""
    return sum(p.numel() for p in backbone.parameters()) * 4 < _MAX_BYTES


def graph_entry(backbone: Backbone, layers: list[int]) -> cache.Entry:
    """Where the graph is kept: by weights, blocks, and the source that computes."""
    places = (*Path(backbones.__file__).parent.glob("*.py"), Path(__file__))
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(places))).hexdigest()
    wanted = [layer % backbone.depth for layer in layers]
    identity = json.dumps([state_digest(backbone.state_dict()), backbone.num_heads, wanted, source])
    return cache.Entry("graph", identity, ("torch", *EXPORTER))


def load_graph(backbone: Backbone, layers: list[int], entry: cache.Entry) -> Source:
    """The graph from the cache, or exported now.

    Inputs are "images" (B, 3, H, W) in [0, 1] and "table0", "table1" ... (see `Backbone.tables`); outputs are the
    patch tokens (B, h * w, C) a block, in the order of `layers`.

    Raises:
        MissingDependencyError: it must be exported, and the exporter is not installed.
    """

    def build() -> Source:
        require("exporting the backbone", "openvino", *EXPORTER)
        return export_graph(backbone, layers)

    def save(source: Source, folder: Path) -> None:
        (folder / "graph.onnx").write_bytes(source if isinstance(source, bytes) else source.read_bytes())

    return cache.load_or_build(entry, lambda folder: folder / "graph.onnx", build, save)


def export_graph(backbone: Backbone, layers: list[int]) -> bytes:
    """The bytes of an ONNX file, see `load_graph`; the backbone stays where it is.

    Raises:
        MissingDependencyError: onnxscript is too old for this torch.
    """
    patch, rows, columns = backbone.patch_size, 5, 7  # an example; what is traced holds for every size
    dim_rows, dim_columns = torch.export.Dim("rows", min=1, max=_ROWS), torch.export.Dim("columns", min=1, max=_COLUMNS)
    on_cpu = backbone if backbone.device.type == "cpu" else copy.deepcopy(backbone).cpu()
    tables = tuple(table.cpu() for table in backbone.tables(rows, columns))
    example = torch.zeros(2, 3, rows * patch, columns * patch)
    shapes: Any = (
        {0: torch.export.Dim("batch", min=1, max=4096), 2: patch * dim_rows, 3: patch * dim_columns},
        tuple({0: dim_rows, 1: dim_columns} for _ in tables),
    )
    try:
        with quiet_export(), torch.no_grad():
            program: Any = torch.onnx.export(
                _Graph(on_cpu, layers).eval(), (example, tables), dynamo=True, verbose=False, dynamic_shapes=shapes,
                input_names=[IMAGES, *(f"{TABLE}{i}" for i in range(len(tables)))],
                output_names=[f"tokens{i}" for i in range(len(layers))],
            )  # fmt: skip
    except ImportError as error:  # torch asks for a part that an older onnxscript lacks
        raise MissingDependencyError(
            f"this torch needs a newer onnxscript ({error}): pip install -U onnxscript, or use engine=torch"
        ) from error
    held = io.BytesIO()
    program.save(held)
    return held.getvalue()


class _Graph(nn.Module):
    def __init__(self, backbone: Backbone, layers: list[int]) -> None:
        super().__init__()
        self.backbone, self.layers = backbone, layers

    def forward(self, images: Tensor, tables: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See `load_graph`."""
        grids = self.backbone.intermediate(self.backbone.normalize(images), self.layers, tables)
        return tuple(grid.flatten(2).transpose(1, 2) for grid in grids)
