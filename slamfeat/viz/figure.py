"""Matplotlib figures without a screen, saved atomically."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slamfeat.errors import OutputError
from slamfeat.files import atomic_path

BLUE, ORANGE, GREEN, GREY = "#2563eb", "#ea580c", "#16a34a", "#6b7280"


@contextmanager
def saved_figure(path: str | Path, size: tuple[float, float], dpi: int = 120) -> Iterator[Any]:
    """A matplotlib Figure of `size` inches that is written to `path` when the block ends without an error.

    Raises:
        OutputError: the picture cannot be written, or its format is unknown.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    known = FigureCanvasAgg(figure).get_supported_filetypes()
    suffix = Path(path).suffix.lstrip(".").lower()
    if suffix not in known:
        raise OutputError(f"cannot write {path}: a picture's name must end in one of {', '.join(sorted(known))}")
    yield figure
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
