"""Generated trajectories."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from slamfeat.geometry.se3 import Array, make_pose
from slamfeat.types import Trajectory


def walk(
    seed: int = 0, count: int = 120, rate: float = 30.0, start: float = 1305031102.0, step: float = 0.05
) -> Trajectory:
    """A smooth random walk in space."""
    rng = np.random.default_rng(seed)
    pose, poses = np.eye(4), []
    turn, move = rng.normal(0, 0.02, 3), np.array([0.0, 0.0, step])
    for _ in range(count):
        poses.append(pose)
        turn = 0.9 * turn + rng.normal(0, 0.01, 3)
        pose = pose @ make_pose(Rotation.from_rotvec(turn).as_matrix(), move + rng.normal(0, 0.1 * step, 3))
    return Trajectory(start + np.arange(count) / rate, np.array(poses))


def disturbed(
    trajectory: Trajectory, seed: int = 1, *, size: float = 0.02, scale: float = 1.0, late: float = 0.0
) -> Trajectory:
    """The trajectory in another world, scaled, with noise on every pose and a delay of its clock in seconds."""
    rng = np.random.default_rng(seed)
    world = make_pose(Rotation.random(random_state=seed).as_matrix(), rng.normal(0, 5, 3))
    poses = []
    for pose in trajectory.poses:
        noise = make_pose(Rotation.from_rotvec(rng.normal(0, size, 3)).as_matrix(), rng.normal(0, size, 3))
        moved = world @ pose @ noise
        moved[:3, 3] *= scale
        poses.append(moved)
    return Trajectory(trajectory.timestamps + late, np.array(poses))


def straight(count: int, step: float, scale: float = 1.0, yaw_deg_per_m: float = 0.0) -> Array:
    """Poses (N, 4, 4) driving along the camera's z, turning about its y."""
    turn = Rotation.from_euler("y", yaw_deg_per_m * step, degrees=True).as_matrix()
    motion, pose, poses = make_pose(turn, [0.0, 0.0, step * scale]), np.eye(4), []
    for _ in range(count):
        poses.append(pose)
        pose = pose @ motion
    return np.array(poses)
