"""The backbone in ONNX Runtime."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slamfeat.backbones import Backbone
from slamfeat.engines.base import EngineName, Precision, to_grid
from slamfeat.engines.graph import IMAGES, TABLE, Source
from slamfeat.engines.libraries import import_onnxruntime


class OnnxEngine:
    """See `Engine`. Computes on the CPU in fp32 with as many threads as torch has; one session serves every size.

    Args:
        backbone: whose graph it is.
        source: the graph, see `graph.load_graph`.
    """

    name: EngineName = "onnx"
    precision: Precision = "fp32"

    def __init__(self, backbone: Backbone, source: Source) -> None:
        self.patch_size = backbone.patch_size
        self._backbone, self._source = backbone, source
        self._session: tuple[int, Any] | None = None
        self._tables: tuple[tuple[int, int], dict[str, Any]] | None = None
        self._lock = threading.Lock()
        self._open(torch.get_num_threads())

    def __call__(self, images: Tensor) -> list[Tensor]:
        """See `Engine`."""
        self._backbone.check_images(images)
        rows, columns = (side // self.patch_size for side in images.shape[-2:])
        array = images.detach().to("cpu", torch.float32).contiguous().numpy()
        with self._lock:
            session, tables = self._open(torch.get_num_threads()), self._feed(rows, columns)
        # A session may be run from several threads; its outputs are the caller's own.
        outputs = session.run(None, {IMAGES: array, **tables})
        return [to_grid(tokens, rows, columns, images.device) for tokens in outputs]

    def _open(self, threads: int) -> Any:
        if self._session is None or self._session[0] != threads:
            runtime = import_onnxruntime()
            options = runtime.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 3
            source = str(self._source) if isinstance(self._source, Path) else self._source
            self._session = threads, runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return self._session[1]

    def _feed(self, rows: int, columns: int) -> dict[str, Any]:
        if self._tables is None or self._tables[0] != (rows, columns):
            tables = enumerate(self._backbone.tables(rows, columns))
            self._tables = (rows, columns), {f"{TABLE}{i}": table.cpu().numpy() for i, table in tables}
        return self._tables[1]
