"""Fusing an RGB-D run into a coloured mesh with open3d's truncated signed distance volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.data import Sequence
from slamfeat.errors import InputError, MissingDependencyError, OutputError
from slamfeat.files import atomic_path
from slamfeat.geometry.se3 import invert
from slamfeat.types import Camera, Trajectory

_FUSED_FRAMES = 200
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
        InputError, MissingDependencyError: see `check_fusion`.
    """
    check_fusion(sequence, "rgbd", path)
    o3d = import_open3d()
    volume = o3d.pipelines.integration.ScalableTSDFVolume(
        voxel_length=voxel_m, sdf_trunc=4 * voxel_m,
        color_type=o3d.pipelines.integration.TSDFVolumeColorType.RGB8,
    )  # fmt: skip
    poses = dict(zip(trajectory.timestamps.tolist(), trajectory.poses, strict=True))
    for frame in sequence[:: max(1, len(sequence) // _FUSED_FRAMES)]:
        if frame.timestamp in poses and frame.depth is not None:
            rgbd = _rgbd(o3d, frame.image, frame.depth, sequence.camera, max_depth_m)
            volume.integrate(rgbd, _intrinsics(o3d, sequence.camera), invert(poses[frame.timestamp]))
    mesh = volume.extract_triangle_mesh()
    mesh.compute_vertex_normals()
    with atomic_path(path) as temporary:
        if not o3d.io.write_triangle_mesh(str(temporary), mesh):
            raise OutputError(f"cannot write {path}; free space or choose another place")


def _rgbd(o3d: Any, image: Any, depth: Any, camera: Camera, max_depth_m: float) -> Any:
    """open3d knows no distortion, so both images are undistorted first (depth without mixing neighbours)."""
    import cv2

    if camera.dist:
        maps = cv2.initUndistortRectifyMap(
            camera.K, np.array(camera.dist), np.eye(3), camera.K, (camera.width, camera.height), cv2.CV_32FC1
        )
        image = cv2.remap(image, *maps, cv2.INTER_LINEAR)
        depth = cv2.remap(depth, *maps, cv2.INTER_NEAREST)
    return o3d.geometry.RGBDImage.create_from_color_and_depth(
        o3d.geometry.Image(np.ascontiguousarray(image)), o3d.geometry.Image(np.ascontiguousarray(depth)),
        depth_scale=1.0, depth_trunc=max_depth_m, convert_rgb_to_intensity=False,
    )  # fmt: skip


def _intrinsics(o3d: Any, camera: Camera) -> Any:
    return o3d.camera.PinholeCameraIntrinsic(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)
