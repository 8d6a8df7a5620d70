"""calibration.json: the one calibration file that slamfeat reads and writes beside a sequence."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slamfeat.errors import InputError
from slamfeat.files import write_text
from slamfeat.types import Camera

FILE_NAMES = ("calibration.json", "camera.json")
MODELS = ("pinhole", "pinhole-radtan")
EXAMPLE = '{"width": 640, "height": 480, "fx": 525.0, "fy": 525.0, "cx": 319.5, "cy": 239.5, "dist": []}'
DEPTH_SCALES = (1.0, 100_000.0)


@dataclass(frozen=True)
class Calibration:
    """A camera, and how its depth maps are stored.

    Attributes:
        camera: intrinsics in pixels, distortion k1 k2 p1 p2 [k3 ...].
        depth_scale: stored units a metre (5000 for TUM RGB-D, 1000 for millimetres); None where not given.
    """

    camera: Camera
    depth_scale: float | None = None


def find_calibration(*folders: Path) -> Path | None:
    """The first calibration.json or camera.json in `folders`, or None."""
    candidates = (folder / name for folder in folders for name in FILE_NAMES)
    return next((path for path in candidates if path.is_file()), None)


def read_calibration(path: str | Path) -> Calibration:
    """Read a calibration file: width, height, fx, fy, cx, cy, and optionally dist, model, depth_scale.

    Raises:
        InputError: the file is missing or not JSON, a key is missing, or a value is not a finite number in range.
    """
    path = Path(path)
    values = _read_object(path)
    model = values.get("model", "pinhole")
    if model not in MODELS:
        raise InputError(f"{path}: model {model!r} is not supported; use {' or '.join(MODELS)}, undistort others first")
    distortion = values.get("dist") or []
    if not isinstance(distortion, list):
        raise InputError(f"{path}: 'dist' must be a list k1 k2 p1 p2 [k3 ...], found {distortion!r}")
    numbers = {key: _number(path, key, values) for key in ("width", "height", "fx", "fy", "cx", "cy")}
    dist = tuple(_number(path, f"dist[{i}]", {f"dist[{i}]": value}) for i, value in enumerate(distortion))
    for key in ("width", "height"):
        if not numbers[key].is_integer():
            raise InputError(f"{path}: '{key}' must be a whole number of pixels, found {numbers[key]}")
    width, height = int(numbers.pop("width")), int(numbers.pop("height"))
    try:
        camera = Camera(width=width, height=height, dist=dist, **numbers)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return Calibration(camera, _depth_scale(path, values))


def write_calibration(path: str | Path, camera: Camera, depth_scale: float | None = None, **notes: Any) -> Path:
    """Write `camera` in the format `read_calibration` reads; `notes` are kept as extra keys. Atomic."""
    values: dict[str, Any] = {"model": "pinhole-radtan" if camera.dist else "pinhole"}
    values |= {key: getattr(camera, key) for key in ("width", "height", "fx", "fy", "cx", "cy")}
    values["dist"] = list(camera.dist)
    if depth_scale is not None:
        values["depth_scale"] = depth_scale
    return write_text(path, json.dumps(values | notes, indent=1) + "\n")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; write a calibration file such as {EXAMPLE}") from error
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file ({error}); it should look like {EXAMPLE}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: should hold one JSON object such as {EXAMPLE}")
    return values


def _number(path: Path, key: str, values: dict[str, Any]) -> float:
    if key not in values:
        raise InputError(f"{path}: '{key}' is missing; the file should look like {EXAMPLE}")
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{path}: '{key}' must be a number, found {value!r}")
    if not math.isfinite(value):
        raise InputError(f"{path}: '{key}' is {value}; it must be a finite number")
    return float(value)


def _depth_scale(path: Path, values: dict[str, Any]) -> float | None:
    if values.get("depth_scale") is None:
        return None
    scale = _number(path, "depth_scale", values)
    low, high = DEPTH_SCALES
    if not low <= scale <= high:
        raise InputError(
            f"{path}: 'depth_scale' {scale:g} is implausible; it is stored units a metre, 1000 for millimetres"
        )
    return scale
