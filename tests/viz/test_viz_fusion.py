"""Fusing the sample into a mesh, against depth maps that are back-projected here by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree

from slamfeat.data import open_sequence
from slamfeat.errors import InputError, MissingDependencyError, OutputError
from slamfeat.types import Trajectory
from slamfeat.viz.fusion import check_fusion, fuse_rgbd, import_open3d


def poses_of_frames(sample: Path, frames: int) -> Trajectory:
    """Ground truth at the frames' own times: the nearest pose."""
    sequence = open_sequence(sample)
    truth = sequence.groundtruth
    assert truth is not None
    times = sequence.timestamps[:frames]
    nearest = np.abs(truth.timestamps[:, None] - times).argmin(0)
    return Trajectory(times, truth.poses[nearest])


def back_projected(sample: Path, pose: np.ndarray, index: int) -> np.ndarray:
    """World points of one depth map, by the pinhole formula and OpenCV's undistortion of single points."""
    sequence = open_sequence(sample).for_mode("rgbd")
    camera, depth = sequence.camera, sequence[index].depth
    assert depth is not None
    v, u = np.nonzero((depth > 0.3) & (depth < 3.0))
    v, u = v[::97], u[::97]
    rays = cv2.undistortPoints(np.stack([u, v], 1).astype(np.float64)[:, None], camera.K, np.array(camera.dist))[:, 0]
    z = depth[v, u].astype(np.float64)
    points = np.stack([rays[:, 0] * z, rays[:, 1] * z, z], 1)
    return points @ pose[:3, :3].T + pose[:3, 3]


def test_mesh_lies_where_the_depth_is(sample: Path, tmp_path: Path) -> None:
    o3d = import_open3d()
    trajectory = poses_of_frames(sample, 3)
    sequence = open_sequence(sample).subset(0, 3).for_mode("rgbd")
    fuse_rgbd(sequence, trajectory, tmp_path / "mesh.ply", voxel_m=0.02)
    mesh = o3d.io.read_triangle_mesh(str(tmp_path / "mesh.ply"))
    vertices = np.asarray(mesh.vertices)
    assert len(vertices) > 5000 and mesh.has_vertex_colors() and mesh.has_vertex_normals()
    points = back_projected(sample, trajectory.poses[1], 1)
    distance, _ = cKDTree(vertices).query(points)
    assert len(points) > 500 and np.median(distance) < 0.02 and np.quantile(distance, 0.9) < 0.06
    spread = np.asarray(mesh.vertex_colors).std(0)
    assert spread.min() > 0.05, "the mesh should carry the image's colours"
    assert [path.name for path in tmp_path.iterdir()] == ["mesh.ply"]


def test_nothing_to_fuse_is_said(sample: Path, tmp_path: Path) -> None:
    sequence = open_sequence(sample).subset(0, 2).for_mode("rgbd")
    elsewhere = Trajectory(np.array([0.0, 1.0]), np.tile(np.eye(4), (2, 1, 1)))
    with pytest.raises(InputError, match="no tracked frame shows a surface"):
        fuse_rgbd(sequence, elsewhere, tmp_path / "mesh.ply")
    assert list(tmp_path.iterdir()) == []


def test_without_open3d_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(MissingDependencyError, match=r"pip install open3d.*apt-get install libusb-1\.0-0"):
        import_open3d()


def test_what_is_refused_beforehand(sample: Path, tmp_path: Path) -> None:
    sequence = open_sequence(sample)
    with pytest.raises(InputError, match="use --mode rgbd, or leave out --ply"):
        check_fusion(sequence, "mono", tmp_path / "a.ply")
    with pytest.raises(OutputError, match=r"a\.txt: a mesh's name must end in one of \.ply"):
        check_fusion(sequence, "rgbd", tmp_path / "a.txt")
    check_fusion(sequence, "rgbd", tmp_path / "a.PLY")
