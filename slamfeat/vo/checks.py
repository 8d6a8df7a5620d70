"""What an odometry refuses: modes without their sensors, and frames that do not fit the calibration."""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from slamfeat.data.records import StereoRig
from slamfeat.errors import InputError
from slamfeat.types import Camera, Frame
from slamfeat.vo.config import Mode

_NEEDS = {"rgbd": ("depth", "depth"), "stereo": ("right", "right image")}


def check_mode(mode: str, rig: StereoRig | None) -> None:
    """Raise InputError for an unknown mode, and for stereo without a rig or with both cameras in one place."""
    if mode not in get_args(Mode):
        raise InputError(f"unknown mode '{mode}'; use mono, rgbd or stereo")
    if mode != "stereo":
        return
    if rig is None:
        raise InputError("mode stereo needs the calibration of the right camera: pass rig=sequence.rig, or use mono")
    if not np.linalg.norm(rig.T_left_right[:3, 3]) > 0:
        raise InputError("stereo rig: both cameras are in the same place; T_left_right must hold the baseline, metres")


def check_frame(frame: Frame, mode: Mode, camera: Camera, rig: StereoRig | None) -> None:
    """Raise InputError when an image of the frame is not of its camera's size."""
    name = str(frame.path or f"frame {frame.index}")
    _check_size(frame.image, camera, name)
    if mode == "stereo" and rig is not None and frame.right is not None:
        _check_size(frame.right, rig.camera, f"right image of {name}")


def check_time(frame: Frame, last: float) -> None:
    """Raise InputError unless the frame is later than `last` seconds."""
    if frame.timestamp <= last:
        raise InputError(
            f"frame {frame.index}: time {frame.timestamp} s does not follow {last} s; give frames in order of time"
        )


def check_first(frame: Frame, mode: Mode) -> None:
    """Raise InputError when a frame without depth or right image is to be the first keyframe of a mode that needs it.

    Called until there is a keyframe; later frames may lack them.
    """
    if mode in _NEEDS and getattr(frame, _NEEDS[mode][0]) is None:
        raise InputError(f"frame {frame.index} has no {_NEEDS[mode][1]}; start with a frame that has, or use mode mono")


def _check_size(image: NDArray[np.uint8], camera: Camera, name: str) -> None:
    height, width = image.shape[:2]
    if (width, height) != (camera.width, camera.height):
        raise InputError(
            f"{name} is {width}x{height} but the calibration is for {camera.width}x{camera.height}; "
            "give the calibration of these images with --camera"
        )
