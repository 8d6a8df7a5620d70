"""The parts of a frontend as modules of plain tensors, which exporters can trace: backbone and frontend.

They compute what `Frontend` computes, at one fixed image size and a fixed number of slots, with any batch size. What
`Frontend` checks or looks up in Python (the image's size, its values, where it is cropped) is settled when they are
built.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.engines.torch_engine import TorchEngine
from slamfeat.errors import ConfigError
from slamfeat.frontend.descriptor import token_grid, tokens_at
from slamfeat.frontend.frontend import Frontend
from slamfeat.frontend.heads.bundle import Heads
from slamfeat.frontend.heads.describe import describe_fine
from slamfeat.frontend.heads.fine import AlikedBranch, FineBranch
from slamfeat.frontend.pixels import interpolation
from slamfeat.frontend.selector import select_keypoints
from slamfeat.image import FitPolicy, plan_fit
from slamfeat.types import PixelMap


class Graph(nn.Module):
    """A traceable module; `inputs` and `outputs` name what goes into and comes out of `forward(*inputs)`, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class BackboneGraph(Graph):
    """Image (B, 3, H, W), RGB in [0, 1], to the normed tokens (B, C, h, w) after each of the frontend's layers.

    Args:
        frontend: whose backbone and layers.
        size: (W, H) in pixels.

    Raises:
        ConfigError: sides that are not whole patches.
    """

    inputs = ("image",)

    def __init__(self, frontend: Frontend, size: tuple[int, int]) -> None:
        super().__init__()
        patch = frontend.backbone.patch_size
        if any(side < patch or side % patch for side in size):
            near = "x".join(str(max(1, round(side / patch)) * patch) for side in size)
            raise ConfigError(
                f"--size {size[0]}x{size[1]}: {frontend.backbone.name} takes whole patches of {patch} pixels; "
                f"use --size {near}, or export the frontend, which takes images of any size"
            )
        self.backbone, self.layers = frontend.backbone, list(frontend.layers)
        self.outputs = ("tokens",) if len(self.layers) == 1 else tuple(f"tokens_{layer}" for layer in self.layers)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        (image,) = inputs
        return tuple(self.backbone.intermediate(self.backbone.normalize(image), self.layers))


class FrontendGraph(Graph):
    """`Frontend.extract` without a mask: image (B, 3, H, W) in [0, 1] to K slots.

    Out come keypoints (B, K, 2) in pixels of the image, scores (B, K), descriptors (B, K, D), mask (B, K) bool, and
    the grid's tokens (B, C, h, w) of unit length.

    Args:
        frontend: backbone and settings.
        size: (W, H) of the images, in pixels.
        num_keypoints: slots K.

    Raises:
        ImageError: an image of this size holds no whole cell.
        ConfigError: heads whose fine branch is ALIKED, or learned saliency.
    """

    inputs = ("image",)
    outputs = ("keypoints", "scores", "descriptors", "mask", "tokens")
    allowed: Tensor | None

    def __init__(self, frontend: Frontend, size: tuple[int, int], num_keypoints: int) -> None:
        super().__init__()
        self.frontend, self.backbone, self.num_keypoints = frontend, frontend.backbone, num_keypoints
        if frontend.config.selector.saliency in ("learned", "fine"):
            raise ConfigError(
                f"frontend.selector.saliency={frontend.config.selector.saliency} cannot be exported yet; "
                "export with frontend.selector.saliency=gradient"
            )
        self.fine = _fine_branch(frontend.plain_heads)
        self.joined = None if frontend.plain_heads is None else frontend.plain_heads.descriptor
        self.engine = TorchEngine(frontend.backbone, frontend.layers)
        self.policy = cast(FitPolicy, frontend.config.fit)
        fitted, self.to_fitted = plan_fit(size, frontend.cell, self.policy)
        small = (
            fitted[0] // frontend.cell * self.backbone.patch_size,
            fitted[1] // frontend.cell * self.backbone.patch_size,
        )
        self.to_small = self.to_fitted.then(PixelMap(scale=(small[0] / fitted[0], small[1] / fitted[1])))
        self.fit = _Fit(size, fitted, self.to_fitted, self.policy)
        self.shrink = _Resample(fitted, small)
        inside = torch.zeros(1, 1, fitted[1], fitted[0], dtype=torch.bool)
        inside[..., : size[1], : size[0]] = True
        self.register_buffer("allowed", inside if self.policy == "pad" else None)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        (image,) = inputs
        # As `slamfeat.frontend.pixels` does with 8-bit images: whole grey levels after every step, held in floats,
        # because TensorRT has no uint8 inside.
        colours = (image * 255).round()
        grey = _grey(colours)
        points, scores, mask = select_keypoints(
            self.fit(grey) / 255, self.frontend.cell, self.num_keypoints, self.frontend.config.selector, self.allowed
        )
        keypoints = self.to_fitted.inverse().apply(points) * mask[..., None]
        small = self.shrink(self.fit(colours)) / 255
        grid = token_grid(self.engine, small, self.to_small, self.frontend.config.center)
        if self.fine is None:
            descriptors = self.frontend._descriptors(grid, grey, keypoints)
        else:
            descriptors = describe_fine(self.fine, colours / 255, keypoints)
            if self.joined is not None:
                descriptors = self.joined(tokens_at(grid, keypoints), descriptors)
        return keypoints, scores, descriptors * mask[..., None], mask, grid.tokens


def _fine_branch(heads: Heads | None) -> FineBranch | None:
    """What describes keypoints in place of tokens and local descriptor; None without heads.

    Raises:
        ConfigError: a branch that is no graph.
    """
    if heads is not None and isinstance(heads.fine, AlikedBranch):
        raise ConfigError(
            "heads with the fine branch aliked cannot be exported, since these ONNX files have no deformable "
            "convolutions; export with heads of another branch, such as xfeat, or with frontend.heads= empty"
        )
    return None if heads is None else heads.fine


def _grey(colours: Tensor) -> Tensor:
    """Luma (B, 1, H, W) of grey levels (B, 3, H, W) in OpenCV's integer arithmetic; floats hold it exactly."""
    weights = colours.new_tensor([9798.0, 19235.0, 3735.0]).view(1, 3, 1, 1) / 2**15
    return ((colours * weights).sum(1, keepdim=True) + 0.5).floor()


class _Fit(nn.Module):
    """`fit_to_patch` for one size; grey levels (B, C, H, W) in and out."""

    def __init__(self, size: tuple[int, int], fitted: tuple[int, int], to_fitted: PixelMap, policy: FitPolicy) -> None:
        super().__init__()
        self.policy, self.fitted = policy, fitted
        self.corner = (round(-to_fitted.shift[0]), round(-to_fitted.shift[1]))
        self.pad = (0, fitted[0] - size[0], 0, fitted[1] - size[1])
        self.resample = _Resample(size, fitted if policy == "resize" else size)

    def forward(self, levels: Tensor) -> Tensor:
        """See the class."""
        if self.policy == "pad":
            return F.pad(levels, self.pad, mode="replicate")
        if self.policy == "resize":
            return cast(Tensor, self.resample(levels))
        (left, top), (width, height) = self.corner, self.fitted
        return levels[..., top : top + height, left : left + width]


class _Resample(nn.Module):
    """OpenCV's resizing of 8-bit images, as two matrix products on grey levels."""

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        super().__init__()
        self.same = source == target
        if not self.same:
            mode = interpolation(source, target)
            self.register_buffer("columns", _weights(source[0], target[0], mode))
            self.register_buffer("rows", _weights(source[1], target[1], mode))

    def forward(self, levels: Tensor) -> Tensor:
        """See the class."""
        if self.same:
            return levels
        # All planes in one dimension: OpenVINO 2026.4 fuses the product of 4-D tensors with the normalisation after it,
        # and then refuses its own result.
        rows, columns = cast(Tensor, self.rows), cast(Tensor, self.columns)
        planes = rows @ (levels.flatten(0, 1) @ columns.T)
        return (planes + 0.5).floor().view(-1, levels.shape[1], rows.shape[0], columns.shape[0])


def _weights(source: int, target: int, mode: int) -> Tensor:
    """(target, source): how much of each pixel goes into each of the result; what resizing makes of the identity."""
    import cv2

    return torch.from_numpy(cv2.resize(np.eye(source, dtype=np.float32), (source, target), interpolation=mode))
