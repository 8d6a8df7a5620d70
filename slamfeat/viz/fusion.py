"""Fusing an RGB-D run into a coloured mesh with open3d's truncated signed distance volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slamfeat.data import Sequence
from slamfeat.errors import InputError, MissingDependencyError, OutputError
from slamfeat.files import atomic_path
from slamfeat.geometry.se3 import Array, invert
from slamfeat.types import Camera, Trajectory

_FUSED_FRAMES = 200
_TRUNCATION = 4.0
"""Voxels on either side of a surface that a depth map speaks about."""
_LEAST_VIEWS = 3
_SUFFIXES = (".ply", ".obj", ".glb")


def import_open3d() -> Any:
    """The package open3d.

    Raises:
        MissingDependencyError: it, or the system library it loads, is not installed; says the command.
    """
    try:
        import open3d
    except ImportError as error:
        raise MissingDependencyError(
            f"open3d does not load ({error}): pip install open3d; on Debian and Ubuntu also: "
            "apt-get install libusb-1.0-0 libgl1 libgomp1"
        ) from error
    return open3d


def check_fusion(sequence: Sequence, mode: str, path: Path) -> None:
    """What `fuse_rgbd` would refuse, to be asked before an hour of tracking.

    Raises:
        InputError: the sequence has no depth, or the run does not use it.
        OutputError: a file name that does not end in .ply, .obj or .glb.
        MissingDependencyError: open3d does not load.
    """
    if mode != "rgbd" or "rgbd" not in sequence.modes:
        raise InputError(f"{sequence.path}: a mesh needs a run with depth; use --mode rgbd, or leave out --ply")
    if path.suffix.lower() not in _SUFFIXES:
        raise OutputError(f"cannot write {path}: a mesh's name must end in one of {', '.join(_SUFFIXES)}")
    import_open3d()


def fuse_rgbd(
    sequence: Sequence, trajectory: Trajectory, path: Path, voxel_m: float = 0.01, max_depth_m: float = 4.0
) -> None:
    """Write a coloured mesh (.ply) of an RGB-D sequence along `trajectory`.

    Args:
        sequence: opened for mode "rgbd".
        trajectory: `T_world_camera` of its tracked frames.
        path: file to write.
        voxel_m: edge of a voxel; metres.
        max_depth_m: depth beyond this is not fused.

    Raises:
        OutputError: the file cannot be written.
        InputError: there is no surface to write.
        InputError, MissingDependencyError: see `check_fusion`.
    """
    check_fusion(sequence, "rgbd", path)
    o3d = import_open3d()
    grid, fused = _Grid(o3d, sequence.camera, voxel_m, max_depth_m), 0
    poses = dict(zip(trajectory.timestamps.tolist(), trajectory.poses, strict=True))
    for frame in sequence[:: max(1, len(sequence) // _FUSED_FRAMES)]:
        if frame.timestamp in poses and frame.depth is not None:
            fused += grid.integrate(frame.image, frame.depth, poses[frame.timestamp])
    # A surface that was seen less often is noise, unless there are few frames to see it in.
    mesh = grid.mesh(views=min(_LEAST_VIEWS, fused)) if fused else None
    if mesh is None or not len(mesh.vertices):
        raise InputError(f"{sequence.path}: no tracked frame shows a surface within {max_depth_m:g} m; leave out --ply")
    with atomic_path(path) as temporary:
        if not o3d.io.write_triangle_mesh(str(temporary), mesh):
            raise OutputError(f"cannot write {path}; free space or choose another place")


class _Grid:
    """open3d's voxel blocks. (Its older ScalableTSDFVolume stays empty in the wheel of 0.20.)"""

    def __init__(self, o3d: Any, camera: Camera, voxel_m: float, max_depth_m: float) -> None:
        self._o3d, self._camera, self._max_depth_m = o3d, camera, max_depth_m
        self._intrinsics = o3d.core.Tensor(camera.K, o3d.core.float64)
        kinds = (o3d.core.float32,) * 3
        self._grid = o3d.t.geometry.VoxelBlockGrid(("tsdf", "weight", "color"), kinds, (1, 1, 3), voxel_m, 16, 10_000)

    def integrate(self, image: NDArray[np.uint8], depth: NDArray[np.float32], pose: Array) -> bool:
        """Add a frame at its pose; False where it shows nothing within reach."""
        if not ((depth > 0) & (depth < self._max_depth_m)).any():
            return False
        color, metres = (self._image(array) for array in _undistorted(image, depth, self._camera))
        world_to_camera = self._o3d.core.Tensor(invert(pose), self._o3d.core.float64)
        reach = (1.0, self._max_depth_m, _TRUNCATION)  # depth is in metres already
        blocks = self._grid.compute_unique_block_coordinates(metres, self._intrinsics, world_to_camera, *reach)
        self._grid.integrate(blocks, metres, color, self._intrinsics, self._intrinsics, world_to_camera, *reach)
        return True

    def mesh(self, views: int) -> Any:
        """The surface that at least so many frames saw, as open3d's TriangleMesh with normals."""
        mesh = self._grid.extract_triangle_mesh(views - 0.5).to_legacy()  # open3d keeps what lies above
        mesh.compute_vertex_normals()
        return mesh

    def _image(self, array: NDArray[np.float32]) -> Any:
        return self._o3d.t.geometry.Image(np.ascontiguousarray(array))


def _undistorted(
    image: NDArray[np.uint8], depth: NDArray[np.float32], camera: Camera
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Colours in [0, 1] and metres without lens distortion, which open3d does not know; depth is never averaged."""
    import cv2

    color = np.asarray(image, dtype=np.float32) / np.float32(255)
    if not camera.dist:
        return color, depth
    maps = cv2.initUndistortRectifyMap(
        camera.K, np.array(camera.dist), np.eye(3), camera.K, (camera.width, camera.height), cv2.CV_32FC1
    )
    color = np.asarray(cv2.remap(color, *maps, cv2.INTER_LINEAR), dtype=np.float32)
    return color, np.asarray(cv2.remap(depth, *maps, cv2.INTER_NEAREST), dtype=np.float32)
