"""Operations that ONNX, or a runtime that reads it, lacks, in terms of others. Results are the same, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def decompositions() -> dict[Any, Callable[..., Any]]:
    """A table for `ExportedProgram.run_decompositions`."""
    aten = torch.ops.aten
    return {
        aten.argsort.stable: stable_argsort,
        aten.kthvalue.default: kth_smallest,
        aten.max_pool2d_with_indices.default: max_of_cells,
    }


def stable_argsort(values: Tensor, *, stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
    """Sort by `topk`: ONNX promises that of equal values the one that comes first stays first (torch does not)."""
    return torch.topk(values, values.shape[dim], dim, largest=descending, sorted=True).indices


def kth_smallest(values: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """`torch.kthvalue` by the largest values: the share that is asked for is a small one at that end."""
    top = torch.topk(values, values.shape[dim] - k + 1, dim, largest=True, sorted=True)
    last = (one.narrow(dim, values.shape[dim] - k, 1) for one in (top.values, top.indices))
    return tuple(last) if keepdim else tuple(one.squeeze(dim) for one in last)


def max_of_cells(
    image: Tensor, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1), ceil_mode: bool = False,
) -> Any:  # fmt: skip
    """Largest value of each cell and where it is: TensorRT's MaxPool gives no indices."""
    (tall, wide), (height, width) = kernel, image.shape[-2:]
    plain = list(stride) in ([], list(kernel)) and not any(padding) and set(dilation) == {1} and not ceil_mode
    if not plain or height % tall or width % wide:
        return NotImplemented
    rows, columns = height // tall, width // wide
    cells = image.reshape(-1, image.shape[1], rows, tall, columns, wide).transpose(3, 4).flatten(4)
    best, inner = cells.max(dim=4)
    row = torch.arange(rows, device=image.device)[:, None] * tall + inner // wide
    column = torch.arange(columns, device=image.device) * wide + inner % wide
    return best, row * width + column
