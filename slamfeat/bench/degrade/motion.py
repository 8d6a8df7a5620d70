"""Motion blur along the camera's true motion."""

from __future__ import annotations

import numpy as np

from slamfeat.bench.degrade.base import Degradation, Image, Shot, one_channel, three_channels
from slamfeat.bench.degrade.depth import dense_depth
from slamfeat.bench.degrade.light import to_linear, to_srgb
from slamfeat.bench.degrade.warp import Grid, rays, source_pixels
from slamfeat.geometry import poses_at
from slamfeat.geometry.se3 import Array, invert

PLANE_DEPTH = 15.0
"""Metres to the fronto-parallel scene that is assumed where a frame has no depth map."""

_LEAST, _MOST, _SPACING_PX = 9, 49, 2.0
"""Fewest and most pictures that are averaged, and how far apart they lie where that allows."""

_COARSE = 8
"""Every how many pixels the length of the blur is looked at."""


def motion_blur(shot: Shot) -> Image:
    """The mean of pictures seen from the camera's true path while the shutter is open, in linear light.

    The shutter is open for `amount` frame intervals around the frame's time. The path is the ground truth, between its
    samples by Slerp and linearly. Each picture is the frame's, warped through its depth map (holes filled; the depth is
    looked up in the frame, which is exact for planes facing the camera and for rotation) or through a plane at
    `PLANE_DEPTH`. A frame stays sharp without calibration or without ground truth at its time.
    """
    import cv2

    if shot.camera is None:
        return shot.image
    inverse_depth = _inverse_depth(shot)
    count = max(_LEAST, min(_MOST, int(np.ceil(blur_lengths(shot, inverse_depth, 90) / _SPACING_PX)) + 1))
    motions = _motions(shot, (np.arange(count) + 0.5) / count - 0.5)
    if motions is None:
        return shot.image
    light, plane = to_linear(one_channel(shot.image)), rays(shot.camera)
    total = np.zeros_like(light)
    for motion in motions:
        x, y = source_pixels(shot.camera, plane, inverse_depth, motion)
        cv2.accumulate(cv2.remap(light, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), total)
    return three_channels(to_srgb(total / np.float32(count)))


def blur_lengths(shot: Shot, inverse_depth: Grid | None = None, percentile: float | None = None) -> float:
    """Mean over the image, or a percentile, of the way a pixel makes while the shutter is open, in pixels."""
    motions = _motions(shot, np.linspace(-0.5, 0.5, 17))
    if motions is None or shot.camera is None:
        return 0.0
    plane = rays(shot.camera)[:, ::_COARSE, ::_COARSE]
    inverse_depth = (_inverse_depth(shot) if inverse_depth is None else inverse_depth)[::_COARSE, ::_COARSE]
    path = np.array([source_pixels(shot.camera, plane, inverse_depth, motion) for motion in motions])
    lengths = np.hypot(*np.moveaxis(np.diff(path, axis=0), 1, 0)).sum(0)
    return float(lengths.mean() if percentile is None else np.percentile(lengths, percentile))


def _inverse_depth(shot: Shot) -> Grid:
    depth = dense_depth(shot)
    if depth is None:
        return np.full(shot.image.shape[:2], 1 / PLANE_DEPTH, np.float32)
    return np.float32(1) / depth


def _motions(shot: Shot, moments: Array) -> Array | None:
    """From the camera at `moments` (N,) of the exposure, -0.5 to 0.5, to the camera at the frame's time, (N, 4, 4)."""
    truth = shot.groundtruth
    if truth is None or not shot.interval > 0:
        return None
    times = shot.timestamp + np.append(moments, 0.0) * shot.amount * shot.interval
    # The path stops where the ground truth does, so that the first and last frames are blurred too, by half.
    times = np.clip(times, truth.timestamps[0], truth.timestamps[-1])
    poses, known = poses_at(truth, times, max_gap_s=2.5 * shot.interval)
    outside = abs(times[-1] - shot.timestamp) > 1e-4
    if outside or not known.all():
        return None
    eyes = poses @ shot.T_left_eye
    return invert(eyes[-1]) @ eyes[:-1]


MOTION_BLUR = Degradation(
    "motion_blur", (0.5, 1, 2), "frame intervals the shutter is open",
    "Camera shake along the true path: the mean, in linear light, of 9 to 49 warps of the frame along the interpolated "
    "ground truth, through its depth map or a plane 15 m ahead (above 1: as if moving faster); own code, cv2.remap.",
    motion_blur, limits=(0, 20), needs_depth=True,
)  # fmt: skip
