"""Depth maps from the two images of a calibrated stereo rig, for sequences whose sensors measure none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slamfeat.data.records import StereoRig
from slamfeat.errors import InputError
from slamfeat.geometry.se3 import invert
from slamfeat.train.pairs import Pixels
from slamfeat.types import Camera

if TYPE_CHECKING:
    import cv2

Map = NDArray[Any]  # of float32
_LEAST_DISPARITY = 6.0
"""Pixels. The matching errs by a quarter of a pixel: by 4 % of the depth here, which `DepthConfig.tolerance` bears."""
_BLOCK = 5


@dataclass(frozen=True)
class _Rectified:
    """How a pair is rectified, and the way back.

    Attributes:
        sources: for each image, where (x, y) its rectified pixels are taken from, (H, W) each.
        places: where (x, y) the pixels of the left image are in the rectified one, (H, W) each.
        depth_disparity: (H, W) depth in metres of the left image's pixels, times their disparity in pixels.
    """

    sources: tuple[tuple[Map, Map], tuple[Map, Map]]
    places: tuple[Map, Map]
    depth_disparity: Map


class StereoDepthMaps:
    """Semi-global matching (H. Hirschmueller, PAMI 2008; OpenCV's) of rectified images, checked from right to left.

    The rig may be distorted and turned; the right camera must be to the right of the left one. Up to an eighth of the
    image's width counts as disparity, and nothing is known of as wide a strip at its left.
    """

    def __init__(self, camera: Camera, rig: StereoRig) -> None:
        """`camera` is the left one. Raises InputError where the other is not to the right of it."""
        x, y, z = rig.T_left_right[:3, 3].tolist()
        if not x > max(abs(y), abs(z)):
            raise InputError(
                f"stereo rig: the right camera is at ({x:g}, {y:g}, {z:g}) m, not to the right of the left one: no "
                "depth can be matched; give a sequence with depth"
            )
        self._camera, self._rig = camera, rig

    def depth(self, left: Pixels, right: Pixels) -> NDArray[np.float32]:
        """Depth (H, W) of the left image, metres along z, 0 where unknown or beyond 6 px of disparity.

        Args:
            left, right: (H, W, 3) uint8 RGB, each of its camera's size.
        """
        import cv2

        gray = [
            cv2.remap(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), *source, cv2.INTER_LINEAR)
            for image, source in zip((left, right), self._rectified.sources, strict=True)
        ]
        rectified = self._matcher().compute(*gray).astype(np.float32) / 16
        disparity: Map = np.asarray(cv2.remap(rectified, *self._rectified.places, cv2.INTER_NEAREST), np.float32)
        known = disparity >= _LEAST_DISPARITY
        return np.divide(self._rectified.depth_disparity, disparity, out=np.zeros_like(disparity), where=known)

    def _matcher(self) -> cv2.StereoSGBM:
        import cv2

        return cv2.StereoSGBM.create(
            minDisparity=0, numDisparities=16 * -(-self._camera.width // 128), blockSize=_BLOCK,
            P1=8 * _BLOCK**2, P2=32 * _BLOCK**2, disp12MaxDiff=1, uniquenessRatio=10,
            speckleWindowSize=100, speckleRange=2,
        )  # fmt: skip

    @cached_property
    def _rectified(self) -> _Rectified:
        import cv2

        camera, T = self._camera, invert(self._rig.T_left_right)
        size, cameras = (camera.width, camera.height), (camera, self._rig.camera)
        (K0, dist0), (K1, dist1) = ((one.K, np.array(one.dist or (0.0,) * 4)) for one in cameras)
        R0, R1, P0, P1, *_ = cv2.stereoRectify(K0, dist0, K1, dist1, size, T[:3, :3], T[:3, 3:])
        left = cv2.initUndistortRectifyMap(K0, dist0, R0, P0[:, :3], size, cv2.CV_32FC1)
        right = cv2.initUndistortRectifyMap(K1, dist1, R1, P1[:, :3], size, cv2.CV_32FC1)
        x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
        # `Camera.normalize` takes ten seconds here, to a precision that the nearest pixel does not need.
        pixels = np.stack([x, y], -1).reshape(-1, 1, 2).astype(np.float64)
        plane = np.asarray(cv2.undistortPoints(pixels, K0, dist0), np.float64)[:, 0]
        rays = np.column_stack([plane, np.ones(len(plane))]) @ R0.T
        places = ((rays / rays[:, 2:]) @ P0[:, :3].T)[:, :2].astype(np.float32).reshape(camera.height, camera.width, 2)
        # P1 = K [I | -b]: z of the rectified camera is f b / disparity, and a ray of depth 1 in the image's has rays_z.
        depth_disparity = (-P1[0, 3] / rays[:, 2]).astype(np.float32).reshape(camera.height, camera.width)
        return _Rectified((left, right), (places[..., 0].copy(), places[..., 1].copy()), depth_disparity)
