"""ScanNet scenes as its SensReader exports them: color, depth, pose and intrinsic, a file a frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slamfeat.data.calibration import Calibration, find_calibration, read_calibration
from slamfeat.data.images import list_images
from slamfeat.data.records import Record, SizeMismatchError, first_size, size_text
from slamfeat.data.sequence import Sequence
from slamfeat.data.tables import check_rotations, read_numbers
from slamfeat.errors import InputError
from slamfeat.geometry.se3 import Array
from slamfeat.types import Camera, PixelMap, Trajectory

COLOUR_SIZE, DEPTH_SIZE = (1296, 968), (640, 480)
"""(W, H) of ScanNet's sensors, which SensReader's intrinsics are for, also where it makes the images smaller."""

_CENTRED = 0.15
"""Share of an image's side that a principal point may lie off its middle."""


class ScanNet(Sequence):
    """A scene, such as scene0000_00: color/0.jpg, depth/0.png, pose/0.txt, intrinsic/intrinsic_{color,depth}.txt.

    `groundtruth` is the colour camera's pose as it stands (BundleFusion, camera to world); frames that were lost, whose
    pose is not finite, have none. The export has no times: they are the frame's number / fps, 30 Hz assumed. Depth is
    brought to the colour image's pixels by both intrinsics alone, the nearest value of each: the two cameras count as
    one place (https://github.com/ScanNet/ScanNet/issues/92). calibration.json in the scene wins over
    intrinsic_color.txt.
    """

    kind = "scannet"
    looks_for = "color with intrinsic (ScanNet)"
    default_depth_scale = 1000.0

    def __init__(self, path: Path, calibration: Calibration | None = None, fps: float = 30.0) -> None:
        """Raises InputError for images, intrinsics or poses that are missing or cannot be used."""
        images = [image for image in list_images(path / "color") if image.stem.isdigit()]
        depths = {depth.stem: depth for depth in (path / "depth").glob("*.png")}
        records = [Record(int(image.stem) / fps, image, depths.get(image.stem)) for image in images]
        calibration = calibration or _calibration(path, images)
        self._depth_camera = _depth_camera(path, records, calibration.camera)
        super().__init__(
            path, records, calibration, name=path.resolve().name, groundtruth=_groundtruth(path / "pose", records)
        )

    @classmethod
    def detect(cls, path: Path) -> bool:
        """Whether `path` holds this layout."""
        return (path / "color").is_dir() and (path / "intrinsic").is_dir()

    def _read_depth(self, path: Path) -> NDArray[np.float32]:
        depth, camera = super()._read_depth(path), self._depth_camera
        assert camera is not None, "there is a depth map"
        if depth.shape != (camera.height, camera.width):
            raise SizeMismatchError(
                f"{path}: depth is {size_text(depth)} but others are {camera.width}x{camera.height}; export it again"
            )
        return registered(depth, camera, self.camera)


def registered(depth: NDArray[np.float32], camera: Camera, target: Camera) -> NDArray[np.float32]:
    """A depth map of `camera` at the pixels of `target`, which is in the same place and looks the same way.

    Args:
        depth: (H, W) metres.
        camera, target: without distortion.

    Returns:
        (target.height, target.width) metres, each the nearest of `depth`, 0 outside it.
    """
    x = np.rint((np.arange(target.width) - target.cx) / target.fx * camera.fx + camera.cx).astype(np.intp)
    y = np.rint((np.arange(target.height) - target.cy) / target.fy * camera.fy + camera.cy).astype(np.intp)
    in_x, in_y = (x >= 0) & (x < camera.width), (y >= 0) & (y < camera.height)
    moved = np.zeros((target.height, target.width), np.float32)
    moved[np.ix_(in_y, in_x)] = depth[np.ix_(y[in_y], x[in_x])]
    return moved


def read_intrinsics(path: Path, size: tuple[int, int], native: tuple[int, int]) -> Camera:
    """A 4x4 intrinsic matrix as the camera of images of `size`.

    The file does not say which size it is for: that whose middle is nearest to the principal point.

    Args:
        path: the file.
        size: (W, H) of the images.
        native: (W, H) of the sensor; intrinsics of it are scaled to `size`.

    Raises:
        InputError: the file is missing, is no such matrix, or is for another size than the two.
    """
    matrix = read_numbers(path, 4)
    if matrix.shape != (4, 4):
        raise InputError(f"{path}: expected 4 lines of 4 numbers, found {len(matrix)} lines; export the scene again")
    fx, fy, cx, cy = (float(matrix[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    off_centre, own = min((max(abs(cx / w - 0.5), abs(cy / h - 0.5)), (w, h)) for w, h in (size, native))
    if off_centre > _CENTRED:
        raise InputError(
            f"{path}: the principal point ({cx:g}, {cy:g}) is near the middle neither of {size[0]}x{size[1]}, the "
            f"images' size, nor of {native[0]}x{native[1]}, ScanNet's; give the intrinsics of these images"
        )
    try:
        camera = Camera(*own, fx, fy, cx, cy)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return camera.mapped(PixelMap(scale=(size[0] / own[0], size[1] / own[1])), size)


def _calibration(path: Path, images: list[Path]) -> Calibration:
    beside = find_calibration(path)
    if beside:
        return read_calibration(beside)
    size = first_size(path / "color", images)
    return Calibration(read_intrinsics(path / "intrinsic" / "intrinsic_color.txt", size, COLOUR_SIZE))


def _depth_camera(path: Path, records: list[Record], colour: Camera) -> Camera | None:
    """Of the depth maps; None where there are none."""
    depths = [record.depth for record in records if record.depth]
    if not depths:
        return None
    if colour.dist:
        raise InputError(
            f"{path}: depth cannot be registered to a camera with distortion; undistort the images and leave out 'dist'"
        )
    return read_intrinsics(path / "intrinsic" / "intrinsic_depth.txt", first_size(path / "depth", depths), DEPTH_SIZE)


def _groundtruth(folder: Path, records: list[Record]) -> Trajectory | None:
    if not folder.is_dir():
        return None
    poses = [(record.timestamp, _read_pose(folder / f"{record.image.stem}.txt")) for record in records]
    known = [(time, pose) for time, pose in poses if pose is not None]
    if not known:
        return None
    return Trajectory(np.array([time for time, _ in known]), np.array([pose for _, pose in known]))


def _read_pose(path: Path) -> Array | None:
    """`T_world_camera` (4, 4), None where the frame was lost."""
    pose = read_numbers(path, 4, finite=False)
    if pose.shape != (4, 4):
        raise InputError(f"{path}: expected 4 lines of 4 numbers, found {len(pose)} lines; export the scene again")
    if not np.isfinite(pose).all():
        return None
    check_rotations(path, pose[None])
    return pose
