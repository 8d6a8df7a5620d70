"""The frontend: one image in, features out; two sets of features in, matches out."""

from __future__ import annotations

from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import record_function

from slamfeat.backbones import Backbone
from slamfeat.backbones.load import parse_device
from slamfeat.backbones.registry import BACKBONES
from slamfeat.errors import ConfigError, InputError
from slamfeat.frontend.config import FrontendConfig
from slamfeat.frontend.descriptor import join, root_sift, token_grid
from slamfeat.frontend.matching import match_features
from slamfeat.frontend.selector import select_keypoints
from slamfeat.image import FitPolicy, ImageLike, fit_to_patch, resize, to_batch, to_gray
from slamfeat.types import Features, Matches, PatchGrid, PixelMap, SampleMode


class Frontend:
    """Keypoints, descriptors and matches on a frozen backbone.

    Example:
        >>> import slamfeat as sf
        >>> frontend = sf.Frontend.from_pretrained("default")
        >>> m = frontend.match(frontend.extract("a.png"), frontend.extract("b.png"))  # doctest: +SKIP
    """

    def __init__(self, backbone: Backbone, config: FrontendConfig | None = None, name: str | None = None) -> None:
        """Use `backbone` with the settings `config`.

        Raises:
            ConfigError: a layer the backbone does not have, or cells that do not fit the settings.
        """
        self.backbone = backbone
        self.config = config or FrontendConfig()
        self.name = name or backbone.name
        self.layers = self.config.layers or [default_layer(backbone)]
        for layer in self.layers:
            if not -backbone.depth <= layer < backbone.depth:
                raise ConfigError(f"layers: {backbone.name} has blocks 0..{backbone.depth - 1}, not {layer}")

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "default",
        *,
        config: FrontendConfig | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | str = "auto",
    ) -> Self:
        """A frontend with trained weights. Downloads nothing.

        Args:
            name_or_path: "default" (shipped with the package), a backbone's name such as "dinov2-vits14" (its weights
                come from the cache, see `slamfeat weights get`), or a weights file.
            config: settings; by default `FrontendConfig()`.
            device: where it runs.
            dtype: of the backbone; "auto" is bfloat16 where the processor computes in it, else float32.

        Raises:
            WeightsError: weights missing, damaged or of another architecture.
        """
        from slamfeat.frontend.pretrained import load_pretrained

        backbone, name = load_pretrained(name_or_path, parse_device(device), dtype)
        return cls(backbone, config, name)

    @property
    def cell(self) -> int:
        """Pixels of the image that one patch covers."""
        return self.config.cell or 2 * self.backbone.patch_size

    def extract(
        self, image: ImageLike, num_keypoints: int | None = None, mask: NDArray[np.uint8] | None = None
    ) -> Features:
        """Keypoints and descriptors of an image, or of a batch.

        Args:
            image: path, (H, W, 3) uint8 RGB array, or (B, 3, H, W) float tensor in [0, 1].
            num_keypoints: slots K; the setting's when None.
            mask: (H, W), non-zero where keypoints may lie.

        Returns:
            Features with K slots an image; an image without texture has none that are valid.

        Raises:
            ImageError: the image cannot be used, see `slamfeat.image.to_batch`.
        """
        batch = to_batch(image).to(self.backbone.device)
        count = self.config.num_keypoints if num_keypoints is None else num_keypoints
        if count < 1:
            raise ConfigError(f"num_keypoints must be at least 1, got {count}")
        policy = cast(FitPolicy, self.config.fit)
        fitted, to_fitted = fit_to_patch(batch, self.cell, policy)
        allowed = _allowed(mask, batch, to_fitted, fitted)
        with record_function("slamfeat.select"):
            points, scores, valid = select_keypoints(to_gray(fitted), self.cell, count, self.config.selector, allowed)
        keypoints = to_fitted.inverse().apply(points)
        grid = self._grid(fitted, to_fitted)
        return self._describe(batch, grid, keypoints * valid[..., None], scores, valid)

    def describe(self, image: ImageLike, points: Tensor) -> Features:
        """Descriptors at given pixels.

        Args:
            image: as in `extract`, a batch of B.
            points: (B, N, 2) pixels.

        Returns:
            Features whose keypoints are `points`, all valid, with score 1.
        """
        batch = to_batch(image).to(self.backbone.device)
        points = points.to(batch)
        if points.ndim != 3 or points.shape[0] != batch.shape[0] or points.shape[2] != 2:
            raise InputError(f"points must be ({batch.shape[0]}, N, 2), got {tuple(points.shape)}")
        grid = self._grid(*fit_to_patch(batch, self.cell, cast(FitPolicy, self.config.fit)))
        scores = torch.ones(points.shape[:2], device=batch.device)
        return self._describe(batch, grid, points, scores, scores.bool())

    def match(self, features0: Features, features1: Features) -> Matches:
        """Correspondences between two sets of features of the same batch size.

        Raises:
            InputError: the batch sizes differ, or features of another frontend lack what the matcher needs.
        """
        return match_features(features0, features1, self.config)

    def _grid(self, fitted: Tensor, to_fitted: PixelMap) -> PatchGrid:
        patch, (height, width) = self.backbone.patch_size, fitted.shape[-2:]
        size = (width // self.cell * patch, height // self.cell * patch)
        with record_function("slamfeat.backbone"):
            image, to_backbone = resize(fitted, size)
            return token_grid(self.backbone, image, self.layers, to_fitted.then(to_backbone), self.config.center)

    def _describe(self, batch: Tensor, grid: PatchGrid, keypoints: Tensor, scores: Tensor, valid: Tensor) -> Features:
        gray = (to_gray(batch) * 255).round().to(torch.uint8)
        descriptors = F.normalize(grid.sample(keypoints, cast(SampleMode, self.config.sampling)), dim=2)
        if self.config.local == "sift":
            with record_function("slamfeat.root_sift"):
                local = root_sift(gray, keypoints, diameter=self.backbone.patch_size / 2)
            descriptors = join(descriptors, local, self.config.local_weight)
        size = torch.tensor([batch.shape[-1], batch.shape[-2]], device=batch.device).expand(len(batch), 2)
        return Features(keypoints, scores, descriptors * valid[..., None], valid, size, grid, gray)


def default_layer(backbone: Backbone) -> int:
    """Index of the block at three quarters of the published depth, or the last one that a shortened backbone has."""
    known = BACKBONES.get(backbone.name)
    depth = known.architecture.depth if known else backbone.depth
    return min(depth * 3 // 4, backbone.depth) - 1


def _allowed(mask: NDArray[np.uint8] | None, batch: Tensor, to_fitted: PixelMap, fitted: Tensor) -> Tensor:
    """(1, 1, H', W') bool: pixels of the fitted image that come from the image, and from inside the mask (H, W)."""
    height, width = batch.shape[-2:]
    if mask is not None and mask.shape != (height, width):
        raise InputError(f"mask is {mask.shape[::-1]} (W, H) but the image is {(width, height)}")
    y, x = (torch.arange(side, device=batch.device, dtype=torch.float32) for side in fitted.shape[-2:])
    source = to_fitted.inverse().apply(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)).round().long()
    inside = ((source >= 0) & (source < source.new_tensor([width, height]))).all(-1)
    if mask is not None:
        wanted = torch.from_numpy(np.asarray(mask) > 0).to(batch.device)
        inside &= wanted[source[..., 1].clamp(0, height - 1), source[..., 0].clamp(0, width - 1)]
    return inside[None, None]
