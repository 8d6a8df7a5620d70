"""Features as OpenCV's keypoints, and the frontend in the place of an ORB or SIFT object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.compat.kornia import patch_diameter
from slamfeat.errors import InputError
from slamfeat.types import Features

if TYPE_CHECKING:
    import cv2

Image = NDArray[np.uint8]
Descriptors = NDArray[np.float32]


class DescribingFrontend(Protocol):
    """What is needed of a frontend; `slamfeat.Frontend` has it."""

    def extract(self, image: Any, num_keypoints: int | None = None, mask: Image | None = None) -> Features:
        """Detect and describe an (H, W, 3) uint8 RGB image."""
        ...

    def describe(self, image: Any, points: torch.Tensor) -> Features:
        """Describe given pixels (B, N, 2)."""
        ...


def features_to_cv2(features: Features, batch: int = 0) -> tuple[list[cv2.KeyPoint], Descriptors]:
    """The valid keypoints of one image, in order, and their descriptors (N, D) float32.

    `size` is the diameter of a patch in original pixels, `response` the score, `angle` -1: there is no orientation.
    OpenCV's pixel convention is the same as slamfeat's.
    """
    import cv2

    keep = features.mask[batch]
    points = features.keypoints[batch][keep].detach().cpu().double().tolist()
    scores = features.scores[batch][keep].detach().cpu().double().tolist()
    size = patch_diameter(features)
    keypoints = [cv2.KeyPoint(x, y, size, -1.0, score) for (x, y), score in zip(points, scores, strict=True)]
    descriptors = features.descriptors[batch][keep].detach().cpu().to(torch.float32).numpy()
    return keypoints, np.ascontiguousarray(descriptors)


class OpenCVFeature2D:
    """A frontend that answers to the methods of `cv2.Feature2D`, for code that holds an ORB or SIFT object.

    Images are BGR or gray, uint8, as `cv2.imread` gives them. As in OpenCV, no keypoints means an empty tuple and
    None for the descriptors. Match descriptors with the L2 norm.

    Example:
        >>> detector = OpenCVFeature2D(frontend)  # doctest: +SKIP
        >>> keypoints, descriptors = detector.detectAndCompute(cv2.imread("a.png"), None)  # doctest: +SKIP
    """

    # Names in OpenCV's style, because that is what callers call.
    def __init__(self, frontend: DescribingFrontend, max_features: int | None = None) -> None:
        """Use `frontend`; at most `max_features` keypoints an image, the frontend's own number when None."""
        self.frontend = frontend
        self._max_features = max_features
        self._descriptor_size: int | None = None

    def detectAndCompute(
        self, image: Image, mask: Image | None = None
    ) -> tuple[Sequence[cv2.KeyPoint], Descriptors | None]:
        """Keypoints and descriptors (N, D) of an image.

        Args:
            image: (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) gray, uint8.
            mask: (H, W) uint8, non-zero where keypoints are allowed; None for everywhere.

        Raises:
            InputError: the image is empty or not of that form, or the mask has another size.
        """
        rgb = _to_rgb(image)
        allowed = _checked_mask(mask, rgb)
        features = self.frontend.extract(rgb, num_keypoints=self._max_features, mask=allowed)
        keypoints, descriptors = features_to_cv2(features)
        self._descriptor_size = descriptors.shape[1]
        if allowed is not None:
            # The frontend decides by its own (fitted, refined) pixels; a caller may rely on the mask's own.
            inside = [i for i, keypoint in enumerate(keypoints) if _allows(allowed, keypoint.pt)]
            keypoints, descriptors = [keypoints[i] for i in inside], descriptors[inside]
        return (keypoints, descriptors) if keypoints else ((), None)

    def detect(self, image: Image, mask: Image | None = None) -> Sequence[cv2.KeyPoint]:
        """Keypoints of an image; arguments as in `detectAndCompute`."""
        return self.detectAndCompute(image, mask)[0]

    def compute(
        self, image: Image, keypoints: Sequence[cv2.KeyPoint]
    ) -> tuple[Sequence[cv2.KeyPoint], Descriptors | None]:
        """Descriptors (N, D) at given keypoints. Keypoints that cannot be described are left out, as in OpenCV."""
        rgb = _to_rgb(image)
        if not len(keypoints):
            return (), None
        points = torch.tensor([keypoint.pt for keypoint in keypoints], dtype=torch.float32)[None]
        features = self.frontend.describe(rgb, points)
        keep = features.mask[0].cpu()
        descriptors = features.descriptors[0].detach().cpu().to(torch.float32)[keep].numpy()
        self._descriptor_size = descriptors.shape[1]
        kept = [keypoint for keypoint, valid in zip(keypoints, keep.tolist(), strict=True) if valid]
        return (kept, np.ascontiguousarray(descriptors)) if kept else ((), None)

    def setMaxFeatures(self, max_features: int) -> None:
        """Set the largest number of keypoints an image.

        Raises:
            InputError: the number is not positive.
        """
        if max_features < 1:
            raise InputError(f"setMaxFeatures needs a positive number, got {max_features}")
        self._max_features = int(max_features)

    def getMaxFeatures(self) -> int:
        """The largest number of keypoints an image; 0 where neither the caller nor the frontend has set one."""
        if self._max_features is not None:
            return self._max_features
        return int(getattr(getattr(self.frontend, "config", None), "num_keypoints", 0))

    def descriptorSize(self) -> int:
        """Length D of a descriptor. Before the first image, a blank one is described to find out."""
        if self._descriptor_size is None:
            blank = np.zeros((224, 224, 3), dtype=np.uint8)
            features = self.frontend.describe(blank, torch.full((1, 1, 2), 112.0))
            self._descriptor_size = int(features.descriptors.shape[-1])
        return self._descriptor_size

    def descriptorType(self) -> int:
        """`cv2.CV_32F`."""
        import cv2

        return int(cv2.CV_32F)

    def defaultNorm(self) -> int:
        """`cv2.NORM_L2`: descriptors have unit length."""
        import cv2

        return int(cv2.NORM_L2)

    def empty(self) -> bool:
        """False: there is a frontend behind it."""
        return False

    def getDefaultName(self) -> str:
        """A name in OpenCV's style."""
        return f"Feature2D.slamfeat.{getattr(self.frontend, 'name', type(self.frontend).__name__)}"


def _to_rgb(image: Image) -> Image:
    """OpenCV's image as (H, W, 3) uint8 RGB."""
    import cv2

    if image is None or np.size(image) == 0:
        raise InputError("the image is empty; cv2.imread returns None when the file is missing or no image")
    array = np.asarray(image)
    codes = {2: cv2.COLOR_GRAY2RGB, 1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    channels = 2 if array.ndim == 2 else array.shape[-1]
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in codes:
        raise InputError(f"the image must be gray, BGR or BGRA in uint8, got {array.dtype} {array.shape}")
    return np.asarray(cv2.cvtColor(array, codes[channels]), dtype=np.uint8)


def _checked_mask(mask: Image | None, image: Image) -> Image | None:
    if mask is None:
        return None
    array = np.asarray(mask)
    if array.shape != image.shape[:2]:
        raise InputError(f"the mask is {array.shape} but the image is {image.shape[:2]} (H, W); make them equal")
    return np.asarray(array != 0, dtype=np.uint8)


def _allows(mask: Image, point: Sequence[float]) -> bool:
    column, row = (int(np.floor(coordinate + 0.5)) for coordinate in point)
    inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
    return inside and bool(mask[row, column])
