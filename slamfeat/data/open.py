"""From a path to the loader that fits it."""

from __future__ import annotations

from pathlib import Path

from slamfeat.data.calibration import Calibration, read_calibration
from slamfeat.data.euroc import Euroc
from slamfeat.data.images import Images
from slamfeat.data.kitti import Kitti
from slamfeat.data.scannet import ScanNet
from slamfeat.data.sequence import Sequence
from slamfeat.data.tartanair import TartanAir
from slamfeat.data.tum import Tum
from slamfeat.data.video import Video
from slamfeat.errors import InputError
from slamfeat.types import Camera

Loader = type[Tum | Euroc | Kitti | TartanAir | ScanNet | Video | Images]

# Tried in this order: published layouts before plain files, since they hold image folders too.
LOADERS: dict[str, Loader] = {
    "tum": Tum, "euroc": Euroc, "kitti": Kitti, "tartanair": TartanAir, "scannet": ScanNet, "video": Video,
    "images": Images,
}  # fmt: skip


def open_sequence(
    path: str | Path, *, camera: Camera | str | Path | None = None, fps: float = 30.0, kind: str | None = None
) -> Sequence:
    """Open a sequence, guessing its layout.

    Args:
        path: a TUM RGB-D, EuRoC, KITTI odometry, TartanAir or ScanNet sequence, a folder of images, a video file, or a
            camera index such as "0".
        camera: calibration that overrides the data's own, or the path of a calibration.json.
        fps: frames a second where the data has no times (TartanAir, ScanNet, image folders).
        kind: the loader's name, to skip guessing: one of `LOADERS`.

    Returns:
        The sequence. Image folders and videos may come without calibration; asking for `.camera` is then an error.

    Raises:
        InputError: nothing at `path`, an unknown layout, or data that cannot be used; the message says what to do.
    """
    if kind is not None and kind not in LOADERS:
        raise InputError(f"unknown kind of sequence '{kind}'; use one of {', '.join(LOADERS)}")
    if not fps > 0:
        raise InputError(f"fps must be positive, got {fps}")
    path = Path(path).expanduser()
    calibration = Calibration(camera) if isinstance(camera, Camera) else read_calibration(camera) if camera else None
    try:
        loader = LOADERS[kind] if kind else _guess(path)
        if loader is not Video:
            _check_folder(path)
        return loader(path, calibration, fps)
    except PermissionError as error:
        raise InputError(f"{error.filename or path}: may not be read; check its permissions") from error


def _guess(path: Path) -> Loader:
    if not Video.is_camera(path) and not path.exists():
        raise InputError(f"no such file or folder: {path}; check the path")
    found = _detect(path)
    if found:
        return found
    _check_folder(path)
    looked_for = ", ".join(loader.looks_for for loader in LOADERS.values())
    inside = [child for child in sorted(path.iterdir()) if child.is_dir() and _detect(child)]
    hint = f"did you mean {inside[0]}?" if inside else "give the folder that holds one of these"
    raise InputError(f"{path}: unknown layout; looked for {looked_for}; {hint}")


def _detect(path: Path) -> Loader | None:
    return next((loader for loader in LOADERS.values() if loader.detect(path)), None)


def _check_folder(path: Path) -> None:
    if not path.exists():
        raise InputError(f"no such file or folder: {path}; check the path")
    if not path.is_dir():
        raise InputError(f"{path}: not a video or a folder; give the folder of a sequence, or a video file")
    if not any(path.iterdir()):
        raise InputError(f"{path}: the folder is empty; check the path or the download")
