"""A room in TartanAir's layout: pictures, depth and poses that belong together, told in TartanAir's own axes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from data.builders import make_tartanair
from room_scenes import covered, rectangle, room

from slamfeat.image import read_image
from slamfeat.train.room_render import render

K = np.array([[320.0, 0, 320], [0, 320.0, 240], [0, 0, 1]])


def make_tartanair_room(root: Path, photos: list[Path], moves: np.ndarray) -> Path:
    """A trajectory between photographs on boards at several distances.

    Args:
        root: folder of the trajectory.
        photos: of the boards; three.
        moves: (N, 4) north, east, down in metres, and turn to the right in radians: x, y, z and yaw of NED.
    """
    boards = [
        rectangle([-6, -4, 7], [12, 0, 0], [0, 8, 0], covered(read_image(photos[0]))),
        rectangle([-2.5, -1.5, 4], [2, 0, 0.5], [0, 2.5, 0], covered(read_image(photos[1]))),
        rectangle([0.4, -1, 5], [2, 0, -1], [0, 2, 0], covered(read_image(photos[2]))),
    ]
    poses = np.array([[n, e, d, 0, 0, np.sin(turn / 2), np.cos(turn / 2)] for n, e, d, turn in moves])
    make_tartanair(root, poses, np.zeros((480, 640), np.float32))
    for index, (north, east, down, turn) in enumerate(moves):
        pose, (c, s) = np.eye(4), (np.cos(turn), np.sin(turn))
        pose[:3, :3], pose[:3, 3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]], [east, down, north]
        seen = render(room(*boards), K, pose, (640, 480))
        cv2.imwrite(str(root / f"image_left/{index:06d}_left.png"), seen.image[..., ::-1])
        np.save(root / f"depth_left/{index:06d}_left_depth.npy", np.where(seen.depth > 0, seen.depth, 1e4))
    return root
