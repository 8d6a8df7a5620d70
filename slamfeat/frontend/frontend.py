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
from slamfeat.engines import Engine, make_engine
from slamfeat.engines.torch_engine import TorchEngine
from slamfeat.errors import ConfigError, InputError
from slamfeat.frontend.config import FrontendConfig
from slamfeat.frontend.descriptor import join, token_grid, tokens_at
from slamfeat.frontend.grid_choice import cell_of, layers_of
from slamfeat.frontend.heads.bundle import Heads, load_heads
from slamfeat.frontend.heads.describe import FineView, view_fine
from slamfeat.frontend.heads.detect import select_seen
from slamfeat.frontend.heads.saliency import Judged
from slamfeat.frontend.heads_fit import check_heads, engine_heads
from slamfeat.frontend.local import dense_root_sift
from slamfeat.frontend.matching import match_features
from slamfeat.frontend.pixels import Pixels, allowed_pixels, load_pixels
from slamfeat.frontend.selector import select_keypoints
from slamfeat.image import ImageLike
from slamfeat.types import Features, Matches, PatchGrid, SampleMode

_LEAST_SCORE = 1e-6
"""Of keypoints that the learned saliency thinks nothing of: they are the last ones, but keypoints."""


class Frontend:
    """Keypoints, descriptors and matches on a frozen backbone.

    Example:
        >>> import slamfeat as sf
        >>> frontend = sf.Frontend.from_pretrained("default")
        >>> m = frontend.match(frontend.extract("a.png"), frontend.extract("b.png"))  # doctest: +SKIP
    """

    def __init__(
        self,
        backbone: Backbone,
        config: FrontendConfig | None = None,
        name: str | None = None,
        engine: Engine | None = None,
        heads: Heads | None = None,
    ) -> None:
        """Use `backbone` with the settings `config`.

        Args:
            backbone: frozen.
            config: settings; by default `FrontendConfig()`.
            name: to show; by default the backbone's.
            engine: what computes the tokens of `layers_of(backbone, config)`; by default torch, as the backbone is.
            heads: trained heads; those that `config.heads` names when None.

        Raises:
            ConfigError: a layer the backbone does not have, a cell that `selector.splits` does not divide, or heads
                that lack what the settings use or were trained on other tokens.
            WeightsError: the heads' file is damaged.
        """
        self.backbone = backbone
        self.config = config or FrontendConfig()
        self.name = name or backbone.name
        self.layers = layers_of(backbone, self.config)
        cell_of(backbone, self.config)
        if heads is None and self.config.heads:
            heads = load_heads(self.config.heads)
        plain = None if heads is None else heads.to(backbone.device)
        check_heads(plain, backbone, self.layers, self.config)
        self.engine: Engine = engine or TorchEngine(backbone, self.layers)
        self.plain_heads = plain  # in torch, for what traces them
        self.heads = None if plain is None else engine_heads(plain, self.engine, backbone.device, self.config)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "default",
        *,
        preset: str | None = None,
        config: FrontendConfig | None = None,
        device: str | torch.device = "cpu",
        engine: str = "auto",
        precision: str = "auto",
        calibration: str | Path | None = None,
    ) -> Self:
        """A frontend with trained weights. Downloads nothing.

        Args:
            name_or_path: "default" or "dinov2-vits14-int8", a student and its teacher (shipped with the package); a
                backbone's name such as "dinov2-vits14" (its weights come from the cache, see `slamfeat weights get`);
                or a weights file.
            preset: named settings: "accurate", "balanced" (the default), "fast", or "untrained" (the default with a
                backbone that no shipped heads know).
            config: settings of your own, instead of a preset.
            device: where it runs.
            engine: what computes the backbone: "torch", "openvino", "onnx", or "auto": the fastest that is installed.
                Trained heads follow it, see `engine_heads`.
            precision: of the backbone: "fp32", "bf16", "int8", or "auto": the fastest that the engine has here.
            calibration: a folder of images for int8; the shipped ones by default.

        Raises:
            WeightsError: weights missing, damaged or of another architecture.
            ConfigError: an unknown preset, engine or precision, or one that does not go with the other.
            MissingDependencyError: an engine that was asked for is not installed.
        """
        from slamfeat.frontend.presets import default_preset, find_preset
        from slamfeat.frontend.pretrained import load_pretrained

        if preset is not None and config is not None:
            raise ConfigError(
                "give either a preset or a config; slamfeat.frontend.presets.find_preset has its settings"
            )
        settings = config or find_preset(preset or default_preset(name_or_path))
        backbone, name = load_pretrained(name_or_path, parse_device(device))
        layers = layers_of(backbone, settings)
        cell_of(backbone, settings)  # before an engine is made, which may take a while
        return cls(backbone, settings, name, make_engine(backbone, layers, engine, precision, calibration))

    @property
    def cell(self) -> int:
        """Pixels of the image that one patch covers."""
        return cell_of(self.backbone, self.config)

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
        count = self.config.num_keypoints if num_keypoints is None else num_keypoints
        if count < 1:
            raise ConfigError(f"num_keypoints must be at least 1, got {count}")
        pixels = self._load(image)
        seen = self._see(pixels)
        with record_function("slamfeat.select"):
            keypoints, scores, valid = self._select(pixels, seen, count, mask)
        return self._describe(pixels, seen, keypoints * valid[..., None], scores, valid)

    def describe(self, image: ImageLike, points: Tensor) -> Features:
        """Descriptors at given pixels.

        Args:
            image: as in `extract`, a batch of B.
            points: (B, N, 2) pixels.

        Returns:
            Features whose keypoints are `points`, all valid, with score 1.
        """
        pixels = self._load(image)
        points = points.to(pixels.gray.device, torch.float32)
        batch = len(pixels.gray)
        if points.ndim != 3 or points.shape[0] != batch or points.shape[2] != 2:
            raise InputError(f"points must be ({batch}, N, 2), got {tuple(points.shape)}")
        scores = torch.ones(points.shape[:2], device=points.device)
        return self._describe(pixels, self._see(pixels), points, scores, scores.bool())

    def match(self, features0: Features, features1: Features) -> Matches:
        """Correspondences between two sets of features of the same batch size.

        Raises:
            InputError: the batch sizes differ, or features of another frontend lack what the matcher needs.
        """
        return match_features(features0, features1, self.config, self.heads)

    def _load(self, image: ImageLike) -> Pixels:
        return load_pixels(image, self.backbone.device, self.cell, self.config.fit)

    def _grid(self, pixels: Pixels) -> PatchGrid:
        patch, (height, width) = self.backbone.patch_size, pixels.fitted()[0].shape[-2:]
        size = (width // self.cell * patch, height // self.cell * patch)
        with record_function("slamfeat.backbone"):
            image, to_backbone = pixels.small(size)
            return token_grid(self.engine, image, to_backbone, self.config.center)

    def _select(
        self, pixels: Pixels, seen: FineView | None, count: int, mask: NDArray[np.uint8] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Keypoints (B, K, 2) in pixels of the image, scores (B, K), which are valid (B, K)."""
        settings = self.config.selector
        if settings.saliency == "fine" and seen is not None:
            return select_seen(seen, pixels.gray, self.cell, count, settings, mask)
        fitted, to_fitted = pixels.fitted()
        allowed = allowed_pixels(mask, pixels, self.config.fit)
        if settings.saliency != "learned" or seen is None:
            points, scores, valid = select_keypoints(fitted, self.cell, count, settings, allowed)
            return to_fitted.inverse().apply(points), scores, valid
        to_image = to_fitted.inverse()

        def judge(points: Tensor) -> Tensor:
            return self._judge(seen, to_image.apply(points)).logit.sigmoid().clamp_min(_LEAST_SCORE)

        points, scores, valid = select_keypoints(fitted, self.cell, count, settings, allowed, judge)
        keypoints = to_image.apply(points)
        limits = keypoints.new_tensor([pixels.gray.shape[-1] - 1, pixels.gray.shape[-2] - 1])
        moved = keypoints + self._judge(seen, keypoints).offset
        return torch.minimum(moved.clamp_min(0), limits), scores, valid

    @torch.inference_mode()
    def _see(self, pixels: Pixels) -> FineView | None:
        """The image as the fine branch of the heads sees it; None without heads."""
        if self.heads is None:
            return None
        with record_function("slamfeat.describe"):
            return view_fine(self.heads.fine, pixels.colour(), self.config.selector.saliency == "fine")

    @torch.inference_mode()
    def _judge(self, seen: FineView, keypoints: Tensor) -> Judged:
        assert self.heads is not None and self.heads.saliency is not None, "`check_heads` refuses such heads"
        judged: Judged = self.heads.saliency(seen.describe(keypoints))
        return judged

    def _describe(
        self, pixels: Pixels, seen: FineView | None, keypoints: Tensor, scores: Tensor, valid: Tensor
    ) -> Features:
        grid, gray = self._grid(pixels), pixels.gray
        with record_function("slamfeat.describe"):
            if seen is None:
                descriptors = self._descriptors(grid, gray, keypoints)
            else:
                descriptors = self._learned_descriptors(grid, seen, keypoints)
        size = torch.tensor([gray.shape[-1], gray.shape[-2]], device=gray.device).expand(len(gray), 2)
        return Features(keypoints, scores, descriptors * valid[..., None], valid, size, grid, gray)

    @torch.inference_mode()
    def _learned_descriptors(self, grid: PatchGrid, seen: FineView, keypoints: Tensor) -> Tensor:
        """The heads' descriptors: fine ones, joined with the tokens where the heads have a descriptor for that."""
        fine = seen.describe(keypoints)
        if self.heads is None or self.heads.descriptor is None:
            return fine
        joined: Tensor = self.heads.descriptor(tokens_at(grid, keypoints), fine)
        return joined

    def _descriptors(self, grid: PatchGrid, gray: Tensor, keypoints: Tensor) -> Tensor:
        local = None
        if self.config.local == "sift" and self.config.local_weight > 0:
            local = dense_root_sift(gray, keypoints, self.config.local_diameter)
            if self.config.local_weight == 1:
                return local
        tokens = F.normalize(grid.sample(keypoints, cast(SampleMode, self.config.sampling)), dim=2)
        return tokens if local is None else join(tokens, local, self.config.local_weight)
