"""Picture of what backbones see in some images: their patches' main directions as colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slamfeat.viz.figure import fit_inches, saved_figure


def token_colors(tokens: Tensor, like: Tensor | None = None) -> NDArray[np.float64]:
    """The three main directions of an image's tokens (C, h, w) as colours, (h, w, 3) in [0, 1].

    With `like`, tokens of the same kind, their directions and colours: what looks alike then is alike.
    """
    rows, model = _rows(tokens), _rows(tokens if like is None else like)
    mean = model.mean(0)
    # The random start of torch's pca_lowrank would colour the same image differently each time.
    _, _, directions = torch.linalg.svd(model - mean, full_matrices=False)
    main = _signed(directions[:3]).t()
    spread = (model - mean) @ main
    low, high = spread.quantile(0.01, 0), spread.quantile(0.99, 0)
    colors = (((rows - mean) @ main - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    return np.asarray(colors.reshape(*tokens.shape[1:], 3), dtype=np.float64)


def plot_tokens(
    images: Sequence[Tensor], tokens: Mapping[str, Sequence[Tensor]], path: str | Path, alike: bool = False
) -> None:
    """Draw images in the first row, and below them what each backbone sees in them, in colours of its own.

    Args:
        images: (3, S, S) RGB in [0, 1] each, of one size.
        tokens: by the name that is written beside the row; (C, h, w) an image.
        path: picture to write.
        alike: all tokens are of one kind, and have the colours of the first backbone's.
    """
    first = next(iter(tokens.values()), [])
    with saved_figure(path, fit_inches(len(images), 1 + len(tokens))) as figure:
        rows = figure.subplots(1 + len(tokens), len(images), squeeze=False)
        for axes in rows.flat:
            axes.set(xticks=[], yticks=[], frame_on=False)
        for axes, image in zip(rows[0], images, strict=True):
            axes.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy())
        for row, (name, seen) in zip(rows[1:], tokens.items(), strict=True):
            row[0].set_ylabel(name, fontsize=10)
            for axes, grid, model in zip(row, seen, first, strict=True):
                axes.imshow(token_colors(grid, model if alike else None), interpolation="nearest")


def _rows(tokens: Tensor) -> Tensor:
    """(C, h, w) to (h*w, C)."""
    return tokens.detach().float().cpu().flatten(1).t()


def _signed(directions: Tensor) -> Tensor:
    """Each direction with its largest entry positive: a singular vector's sign is arbitrary."""
    largest = directions.abs().argmax(1, keepdim=True)
    return directions * directions.gather(1, largest).sign()
