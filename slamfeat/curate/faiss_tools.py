"""faiss, imported when it is needed and kept to one thread: tasks run side by side instead, with the same result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slamfeat.curate.rows import Floats, Ints
from slamfeat.engines.libraries import installed
from slamfeat.errors import MissingDependencyError


def require_faiss() -> None:
    """Check that faiss is there.

    Raises:
        MissingDependencyError: it is not; says what to install.
    """
    if not installed("faiss"):
        raise MissingDependencyError('slamfeat curate needs faiss; install it: pip install "slamfeat[curate]"')


def nearest(queries: Floats, base: Floats, count: int, euclidean: bool = False) -> tuple[Floats, Ints]:
    """The nearest rows of `base` (N, D) to each of `queries` (Q, D), best first: values and rows (Q, min(count, N)).

    Values are inner products, or squared distances.
    """
    faiss = _faiss()
    metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
    count = min(count, len(base))
    values, rows = faiss.knn(_contiguous(queries), _contiguous(base), count, metric=metric)
    return np.asarray(values, np.float32), np.asarray(rows, np.int64)


def _faiss() -> Any:
    require_faiss()
    import faiss

    faiss.omp_set_num_threads(1)  # of the calling thread, so at every call
    return faiss


def _contiguous(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
