"""The parts of a frontend as modules of plain tensors, which exporters can trace: backbone, frontend, matcher.

They compute what `Frontend` computes, at one fixed image size and a fixed number of slots, with any batch size. What
`Frontend` checks or looks up in Python (the image's size, its values, where it is cropped) is settled when they are
built.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.engines.torch_engine import TorchEngine
from slamfeat.errors import ConfigError
from slamfeat.frontend.config import FrontendConfig
from slamfeat.frontend.descriptor import token_grid
from slamfeat.frontend.frontend import Frontend
from slamfeat.frontend.matching import descriptor_matches
from slamfeat.frontend.selector import select_keypoints
from slamfeat.image import FitPolicy, plan_fit, resize, to_gray
from slamfeat.types import Features, PixelMap


class Graph(nn.Module):
    """A traceable module with names for what goes in and comes out."""

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

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
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
    """

    inputs = ("image",)
    outputs = ("keypoints", "scores", "descriptors", "mask", "tokens")
    allowed: Tensor | None

    def __init__(self, frontend: Frontend, size: tuple[int, int], num_keypoints: int) -> None:
        super().__init__()
        self.frontend, self.backbone, self.num_keypoints = frontend, frontend.backbone, num_keypoints
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

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        fitted = self.fit(image)
        points, scores, mask = select_keypoints(
            _grey_levels(fitted) / 255,
            self.frontend.cell,
            self.num_keypoints,
            self.frontend.config.selector,
            self.allowed,
        )
        keypoints = self.to_fitted.inverse().apply(points) * mask[..., None]
        grid = token_grid(self.engine, self.shrink(fitted), self.to_small, self.frontend.config.center)
        descriptors = self.frontend._descriptors(grid, _grey_levels(image), keypoints)
        return keypoints, scores, descriptors * mask[..., None], mask, grid.tokens


class MatcherGraph(Graph):
    """Descriptor matching: two sets of K slots in, the index (B, K) of each one's match (-1: none) and a score out.

    The keypoints (B, K, 2) are only looked at where `matcher.radius` is set.

    Args:
        config: how features are described and matched; nothing is refined.

    Raises:
        ConfigError: a method or gate that needs more than descriptors.
    """

    inputs = ("keypoints0", "descriptors0", "mask0", "keypoints1", "descriptors1", "mask1")
    outputs = ("indices0", "scores")

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        matcher = config.matcher
        if matcher.method == "guided":
            raise ConfigError("matcher.method=guided looks at the whole grid; export mutual or dual_softmax")
        if config.local == "none" or config.local_weight == 0:
            # The descriptors are the tokens: whoever is most alike is within the gate.
            matcher = replace(matcher, gate=1.0)
        elif config.local_weight == 1 and matcher.gate < 1:
            raise ConfigError(
                "frontend.local_weight=1 leaves no tokens in the descriptors to gate by; set frontend.matcher.gate=1"
            )
        self.config = replace(config, matcher=matcher)

    def forward(
        self, keypoints0: Tensor, descriptors0: Tensor, mask0: Tensor,
        keypoints1: Tensor, descriptors1: Tensor, mask1: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """See the class."""
        features0, features1 = _features(keypoints0, descriptors0, mask0), _features(keypoints1, descriptors1, mask1)
        indices, scores = descriptor_matches(features0, features1, self.config)
        return indices, scores * (indices >= 0)


def _features(keypoints: Tensor, descriptors: Tensor, mask: Tensor) -> Features:
    unused = mask.new_zeros(mask.shape[0], 2, dtype=torch.long)
    return Features(keypoints, mask.to(keypoints.dtype), descriptors, mask, image_size=unused)


def _grey_levels(image: Tensor) -> Tensor:
    """(B, 1, H, W) whole numbers 0..255 as floats: what uint8 holds, without a type that TensorRT lacks."""
    return (to_gray(image) * 255).round()


class _Fit(nn.Module):
    """`fit_to_patch` for one size."""

    def __init__(self, size: tuple[int, int], fitted: tuple[int, int], to_fitted: PixelMap, policy: FitPolicy) -> None:
        super().__init__()
        self.policy, self.fitted = policy, fitted
        self.corner = (round(-to_fitted.shift[0]), round(-to_fitted.shift[1]))
        self.pad = (0, fitted[0] - size[0], 0, fitted[1] - size[1])
        self.resample = _Resample(size, fitted if policy == "resize" else size)

    def forward(self, image: Tensor) -> Tensor:
        if self.policy == "pad":
            return F.pad(image, self.pad, mode="replicate")
        if self.policy == "resize":
            return cast(Tensor, self.resample(image))
        (left, top), (width, height) = self.corner, self.fitted
        return image[..., top : top + height, left : left + width]


class _Resample(nn.Module):
    """`slamfeat.image.resize` as two matrix products: TensorRT and others know no antialiased resizing."""

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        super().__init__()
        self.same = source == target
        if not self.same:
            # Resizing one side of the identity leaves the weights of that side.
            self.register_buffer("columns", _resized_identity(source[0], target[0]))
            self.register_buffer("rows", _resized_identity(source[1], target[1]))

    def forward(self, image: Tensor) -> Tensor:
        if self.same:
            return image
        # All planes in one dimension: OpenVINO 2026.4 fuses the product of 4-D tensors with the normalisation after it,
        # and then refuses its own result.
        rows, columns = cast(Tensor, self.rows), cast(Tensor, self.columns)
        planes = rows @ (image.flatten(0, 1) @ columns.T)
        return planes.view(-1, image.shape[1], rows.shape[0], columns.shape[0])


def _resized_identity(source: int, target: int) -> Tensor:
    """(target, source): each row the weights of one pixel of the result."""
    return resize(torch.eye(source)[None, None], (source, target))[0][0, 0]
