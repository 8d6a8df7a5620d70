"""What every engine offers."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

EngineName = Literal["torch", "openvino", "onnx"]
Precision = Literal["fp32", "bf16", "int8"]


class Engine(Protocol):
    """Computes patch tokens of images after chosen blocks of one frozen backbone. Calls from several threads are safe.

    Attributes:
        name: of the library that computes.
        precision: of its matrix products; tokens come back as float32 whatever it is.
        patch_size: pixels a token covers, each way.
    """

    name: EngineName
    precision: Precision
    patch_size: int

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Tokens, one (B, C, h, w) float32 a block, on the images' device.

        Args:
            images: (B, 3, H, W) RGB in [0, 1], sides multiples of the patch.

        Raises:
            InputError: images of another shape.
        """
        ...


def to_grid(tokens: NDArray[Any], rows: int, columns: int, device: torch.device) -> Tensor:
    """Tokens (B, rows * columns, C) of a runtime as (B, C, rows, columns), without a copy on the CPU."""
    grid = torch.from_numpy(tokens).view(len(tokens), rows, columns, -1)
    return grid.permute(0, 3, 1, 2).to(device)
