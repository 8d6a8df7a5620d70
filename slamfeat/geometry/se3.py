"""Rigid motions as 4x4 matrices, and THE quaternion conversion (everything else calls it)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]


def pose_from_quaternion(translation: ArrayLike, quaternion_xyzw: ArrayLike) -> Array:
    """Poses from translations (..., 3) and quaternions (..., 4) in the order x y z w.

    Quaternions are normalised first. Returns (..., 4, 4).

    Raises:
        ValueError: a quaternion of zero length.
    """
    t = np.asarray(translation, dtype=np.float64)
    q = np.asarray(quaternion_xyzw, dtype=np.float64)
    pose = np.zeros((*t.shape[:-1], 4, 4))
    pose[..., :3, :3] = Rotation.from_quat(q.reshape(-1, 4)).as_matrix().reshape(*q.shape[:-1], 3, 3)
    pose[..., :3, 3] = t
    pose[..., 3, 3] = 1.0
    return pose


def quaternion_from_pose(pose: ArrayLike) -> Array:
    """Quaternions (..., 4), order x y z w with w >= 0, from poses (..., 4, 4) or rotations (..., 3, 3)."""
    rotation = np.asarray(pose, dtype=np.float64)[..., :3, :3]
    q: Array = Rotation.from_matrix(rotation.reshape(-1, 3, 3)).as_quat()
    q = np.where(q[:, 3:] < 0, -q, q)
    return q.reshape(*rotation.shape[:-2], 4)


def make_pose(rotation: ArrayLike, translation: ArrayLike) -> Array:
    """4x4 pose from a 3x3 rotation and a translation of 3."""
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = np.asarray(translation, dtype=np.float64).reshape(3)
    return pose


def invert(pose: ArrayLike) -> Array:
    """Inverse of rigid motions (..., 4, 4)."""
    pose = np.asarray(pose, dtype=np.float64)
    out = np.zeros_like(pose)
    rotation_t = np.swapaxes(pose[..., :3, :3], -1, -2)
    out[..., :3, :3] = rotation_t
    out[..., :3, 3] = -(rotation_t @ pose[..., :3, 3:])[..., 0]
    out[..., 3, 3] = 1.0
    return out


def rotation_angle_deg(rotation: ArrayLike) -> Array:
    """Angle in degrees of rotations (..., 3, 3) or of the rotation part of poses (..., 4, 4).

    Uses atan2 of the skew part and the trace, which stays accurate near 0 and 180 degrees where acos does not.
    """
    r = np.asarray(rotation, dtype=np.float64)[..., :3, :3]
    skew = np.stack([r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], -1)
    angle: Array = np.degrees(np.arctan2(np.linalg.norm(skew, axis=-1), np.trace(r, axis1=-2, axis2=-1) - 1.0))
    return angle


def transform_points(pose: ArrayLike, points: ArrayLike) -> Array:
    """Apply a pose (4, 4) to points (N, 3)."""
    pose = np.asarray(pose, dtype=np.float64)
    moved: Array = np.asarray(points, dtype=np.float64) @ pose[:3, :3].T + pose[:3, 3]
    return moved
