"""Choosing the mode and the scale of an odometry from what a sequence offers."""

from __future__ import annotations

import logging
from typing import cast, get_args

from slamfeat.data import Sequence
from slamfeat.errors import InputError
from slamfeat.frontend.protocol import FeatureFrontend
from slamfeat.vo.config import Mode, OdometryConfig
from slamfeat.vo.odometry import Odometry
from slamfeat.vo.scale import GroundTruthScale, PropagatedScale, ScaleSource

log = logging.getLogger(__name__)


def choose_mode(mode: str, sequence: Sequence) -> Mode:
    """ "auto" is rgbd where the sequence has depth, else stereo where it has a right camera, else mono.

    Raises:
        InputError: another word.
    """
    if mode == "auto":
        return "rgbd" if "rgbd" in sequence.modes else "stereo" if "stereo" in sequence.modes else "mono"
    if mode in get_args(Mode):
        return cast(Mode, mode)
    raise InputError(f"unknown mode '{mode}'; use mono, rgbd, stereo or auto")


def build_odometry(
    frontend: FeatureFrontend, sequence: Sequence, mode: Mode, scale: str, config: OdometryConfig
) -> Odometry:
    """Odometry for a sequence.

    Args:
        frontend: extracts and matches.
        sequence: gives the camera, the right camera in stereo mode, and the ground truth.
        mode: see `choose_mode`.
        scale: "groundtruth", "propagated", or "auto": ground truth where there is some. Ignored in rgbd and
            stereo mode.
        config: see `OdometryConfig`.

    Raises:
        InputError: no calibration (of the right camera either, in stereo mode), another word for the scale, or no
            ground truth to take it from.
    """
    source: ScaleSource = PropagatedScale()
    if scale not in ("auto", "groundtruth", "propagated"):
        raise InputError(f"unknown scale '{scale}'; use groundtruth, propagated or auto")
    scale = usable_scale(scale, sequence)
    if scale == "groundtruth" and sequence.groundtruth is None:
        raise InputError(f"{sequence.path}: has no ground truth to take the scale from; use --scale propagated")
    if mode == "mono" and scale != "propagated" and sequence.groundtruth is not None:
        source = GroundTruthScale(sequence.groundtruth)
    if mode == "stereo" and sequence.rig is None:
        raise InputError(f"{sequence.path}: has no calibrated right camera for mode stereo; use --mode mono")
    return Odometry(frontend, sequence.camera, mode, config, source, sequence.rig)


def usable_scale(scale: str, sequence: Sequence) -> str:
    """The scale to ask `build_odometry` for: "auto" must not mean ground truth that has no pose near any frame."""
    truth = sequence.groundtruth
    if scale != "auto" or truth is None:
        return scale
    times = sequence.timestamps
    if times[-1] >= truth.timestamps[0] and times[0] <= truth.timestamps[-1]:
        return scale
    log.warning("%s: the ground truth does not overlap the frames in time; it gives no scale", sequence.path)
    return "propagated"
