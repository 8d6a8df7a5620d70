"""Fine branches: networks over the full-resolution image, read at pixels.

Two are warm, with published weights (XFeat, Potje et al., CVPR 2024, Apache-2.0; ALIKED, Zhao et al., TIM 2023, BSD-3),
in kornia's implementations; one is to be trained from scratch (DINO-VO's FinerCNN, arXiv 2507.13145, Fig. 4).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.frontend.local import LOCAL_DIM, dense_root_sift
from slamfeat.image import to_gray

XFEAT_STEP, ALIKED_STEP = 32, 32


class FineMaps(NamedTuple):
    """What a fine branch makes of an image.

    Attributes:
        features: (B, C, h, w) to be read at keypoints.
        saliency: (B, 1, H, W) how good a keypoint each pixel would be, 0..1; None where the branch does not say.
        reliability: (B, 1, h, w) how well matchable the surroundings are, 0..1; None likewise.
    """

    features: Tensor
    saliency: Tensor | None = None
    reliability: Tensor | None = None


class FineBranch(nn.Module, ABC):
    """A network over an image whose features are read at keypoints.

    Attributes:
        dim: channels of what `describe` gives.
        step: sides of the images it takes are multiples of this.
        rounds: whether `features` may be computed in bfloat16.
    """

    dim: int
    step: int
    rounds: bool = True

    @abstractmethod
    def forward(self, image: Tensor) -> FineMaps:
        """Maps of images (B, 3, H, W) or (B, 1, H, W) in [0, 1], sides multiples of `step`."""

    def features(self, image: Tensor) -> Tensor:
        """The features of `forward` alone."""
        maps: FineMaps = self(image)
        return maps.features

    def detect(self, maps: FineMaps) -> Tensor | None:
        """How good a keypoint each pixel would be (B, 1, H, W), 0..1, as the branch was published; None for none."""
        return maps.saliency

    @abstractmethod
    def describe(self, maps: FineMaps, keypoints: Tensor, size: tuple[int, int]) -> Tensor:
        """Descriptors (B, K, dim) of unit length at keypoints (B, K, 2), pixels of the image of `size` (W, H)."""

    def read(self, image: Tensor, keypoints: Tensor) -> Tensor:
        """What `describe` gives at keypoints of an image that is read once, for less where a branch can."""
        return self.describe(FineMaps(self.features(image)), keypoints, (image.shape[-1], image.shape[-2]))


class XFeatBranch(FineBranch):
    """XFeat's network: 64 channels at an eighth of the size, its keypoint and its reliability maps."""

    dim, step = 64, XFEAT_STEP

    def __init__(self) -> None:
        super().__init__()
        from kornia.feature.xfeat import XFeatModel

        self.net = XFeatModel()
        del self.net.fine_matcher  # of the semi-dense mode, which is another way to sub-pixel

    def forward(self, image: Tensor) -> FineMaps:
        """See `FineBranch`."""
        features, logits, reliability = self.net(image)
        cells = logits.softmax(1)[:, :64]
        return FineMaps(F.normalize(features, dim=1), F.pixel_shuffle(cells, 8), reliability)

    def detect(self, maps: FineMaps) -> Tensor | None:
        """See `FineBranch`: keypoints that are matchable as well."""
        if maps.saliency is None or maps.reliability is None:
            return None
        size = maps.saliency.shape[-2:]
        return maps.saliency * F.interpolate(maps.reliability, size, mode="bilinear", align_corners=False)

    def features(self, image: Tensor) -> Tensor:
        """See `FineBranch`; the network without its two heads."""
        net = self.net
        gray = net.norm(image.mean(1, keepdim=True))
        quarter = net.block2(net.block1(gray) + net.skip1(gray))
        eighth = net.block3(quarter)
        sixteenth = net.block4(eighth)
        deep = [
            F.interpolate(x, eighth.shape[-2:], mode="bilinear", align_corners=False)
            for x in (sixteenth, net.block5(sixteenth))
        ]
        return F.normalize(net.block_fusion(eighth + deep[0] + deep[1]), dim=1)

    def describe(self, maps: FineMaps, keypoints: Tensor, size: tuple[int, int]) -> Tensor:
        """See `FineBranch`."""
        # Not this package's convention of pixels but the one that XFeat was trained with: x / (W - 1) over the map's
        # full width, up to half a map's pixel off.
        extent = keypoints.new_tensor([size[0] - 1, size[1] - 1])
        grid = (2 * keypoints / extent - 1)[:, :, None]
        sampled = F.grid_sample(maps.features, grid, mode="bicubic", align_corners=False)
        return F.normalize(sampled[..., 0].mT, dim=2)


class AlikedBranch(FineBranch):
    """ALIKED-N16's network: 128 channels at full size, its score map, descriptors by deformable sampling (SDDH)."""

    dim, step = 128, ALIKED_STEP
    rounds = False  # its deformable convolutions read at positions, which bfloat16 knows to two pixels

    def __init__(self) -> None:
        super().__init__()
        from kornia.feature import ALIKED

        self.net = ALIKED("aliked-n16")

    def forward(self, image: Tensor) -> FineMaps:
        """See `FineBranch`."""
        colours = image if image.shape[1] == 3 else image.expand(-1, 3, -1, -1)
        features, saliency = self.net.extract_dense_map(colours)
        return FineMaps(features, saliency)

    def describe(self, maps: FineMaps, keypoints: Tensor, size: tuple[int, int]) -> Tensor:
        """See `FineBranch`."""
        extent = keypoints.new_tensor([size[0] - 1, size[1] - 1])
        descriptors, _ = self.net.desc_head(maps.features, list(2 * keypoints / extent - 1))
        return torch.stack(descriptors)


class SiftBranch(FineBranch):
    """Upright RootSIFT, which has no weights: for a matcher that is trained without anybody's weights."""

    dim, step = LOCAL_DIM, 1
    _DIAMETER_PX = 6.0

    def forward(self, image: Tensor) -> FineMaps:
        """See `FineBranch`; the "map" is the grey image, of which each descriptor reads its own surroundings."""
        return FineMaps(to_gray(image))

    def describe(self, maps: FineMaps, keypoints: Tensor, size: tuple[int, int]) -> Tensor:
        """See `FineBranch`."""
        gray = (maps.features * 255).round().to(torch.uint8)
        return dense_root_sift(gray, keypoints, self._DIAMETER_PX)


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class FinerCNN(FineBranch):
    """DINO-VO's fine branch: a strided pyramid to 1/16, fused at 1/4 and again at full size; 64 channels everywhere.

    For training from scratch. Features are read at the pixel, bilinearly (the paper indexes whole pixels).
    """

    dim, step = 64, 16

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.dim = channels
        self.at_full = _layer(1, 8)
        self.at_half = _layer(8, channels, 2)
        self.at_quarter = nn.Sequential(_layer(channels, channels, 2), _layer(channels, channels))
        self.at_eighth = nn.Sequential(_layer(channels, channels, 2), _layer(channels, channels))
        self.at_sixteenth = nn.Sequential(_layer(channels, channels, 2), _layer(channels, channels))
        self.fuse = nn.Conv2d(channels, channels, 1)
        self.fine = nn.Conv2d(8, channels, 1)

    def forward(self, image: Tensor) -> FineMaps:
        """See `FineBranch`."""
        full, fused = self._pyramid(image)
        up = F.interpolate(fused, full.shape[-2:], mode="bilinear", align_corners=False)
        return FineMaps(up + self.fine(full))

    def describe(self, maps: FineMaps, keypoints: Tensor, size: tuple[int, int]) -> Tensor:
        """See `FineBranch`."""
        return F.normalize(_sample(maps.features, keypoints, size)[..., 0].mT, dim=2)

    def read(self, image: Tensor, keypoints: Tensor) -> Tensor:
        """See `FineBranch`; the same numbers without the map of full size, whose making takes a third of a step.

        That map is bilinear between the fused one's pixels, and is read bilinearly between its own: the fused one is
        read at the four pixels around each keypoint.
        """
        full, fused = self._pyramid(image)
        size = image.shape[-1], image.shape[-2]
        last = keypoints.new_tensor([size[0] - 1, size[1] - 1])
        at = torch.minimum(keypoints.clamp_min(0), last)
        corner = at.floor()
        right, below = (at - corner).unbind(2)
        around = torch.stack([corner + corner.new_tensor([x, y]) for y in (0, 1) for x in (0, 1)], 2)
        near = _sample(fused, torch.minimum(around, last).flatten(1, 2), size).view(*fused.shape[:2], -1, 4)
        weights = [(1 - right) * (1 - below), right * (1 - below), (1 - right) * below, right * below]
        up = (near * torch.stack(weights, 2)[:, None]).sum(3)
        detail = self.fine(_sample(full, at, size))[..., 0]
        return F.normalize((up + detail).mT, dim=2)

    def _pyramid(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Eight channels at full size, and all levels below fused at a quarter of it."""
        full = self.at_full(F.instance_norm(image.mean(1, keepdim=True)))
        quarter = self.at_quarter(self.at_half(full))
        eighth = self.at_eighth(quarter)
        sixteenth = self.at_sixteenth(eighth)
        size = quarter.shape[-2:]
        deep = [F.interpolate(x, size, mode="bilinear", align_corners=False) for x in (eighth, sixteenth)]
        return full, self.fuse(quarter + deep[0] + deep[1])


def _sample(maps: Tensor, points: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, h, w) of an image of `size` (W, H) read bilinearly at its pixels (B, K, 2): (B, C, K, 1)."""
    grid = ((points + 0.5) / points.new_tensor([size[0], size[1]]) * 2 - 1)[:, :, None]
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
