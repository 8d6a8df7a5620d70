"""Miniature sequences in the published layouts, written with plain text and OpenCV."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

SIZE = (64, 48)
EYE = np.eye(3, 4)


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A blurred random picture (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image):
        raise OSError(path)


def truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def calibration(size: tuple[int, int] = SIZE, **changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "model": "pinhole", "width": size[0], "height": size[1], "fx": 50.0, "fy": 51.0, "cx": 31.5, "cy": 23.5,
        "dist": [], "depth_scale": 5000,
    }  # fmt: skip
    return values | changes


def make_tum(root: Path, frames: int = 5, depth_shift: float = 0.004, depth: bool = True) -> Path:
    """A TUM sequence at 10 Hz; the depth of frame i is i + 1 metres; the camera moves 0.1 m a frame along x."""
    colour_lines, depth_lines, poses = ["# color images"], ["# depth maps"], ["# timestamp tx ty tz qx qy qz qw"]
    for i in range(frames):
        time = 100 + 0.1 * i
        write_png(root / f"rgb/{time:.6f}.png", picture(i))
        colour_lines.append(f"{time:.6f} rgb/{time:.6f}.png")
        poses.append(f"{time:.4f} {0.1 * i:.4f} 0 0 0 0 0 1")
        if depth:
            write_png(root / f"depth/{time:.6f}.png", np.full((SIZE[1], SIZE[0]), 5000 * (i + 1), np.uint16))
            depth_lines.append(f"{time + depth_shift:.6f} depth/{time:.6f}.png")
    (root / "rgb.txt").write_text("\n".join(colour_lines) + "\n")
    if depth:
        (root / "depth.txt").write_text("\n".join(depth_lines) + "\n")
    (root / "groundtruth.txt").write_text("\n".join(poses) + "\n")
    (root / "calibration.json").write_text(json.dumps(calibration()))
    return root


SENSOR = """%YAML:1.0
# General sensor definitions.
sensor_type: camera
comment: a miniature

# Sensor extrinsics wrt. the body-frame.
T_BS:
  cols: 4
  rows: 4
  data: [{pose}]

# Camera specific definitions.
rate_hz: 20
resolution: [{width}, {height}]
camera_model: pinhole
intrinsics: [50.5, 51.5, 31.0, 24.0] #fu, fv, cu, cv
distortion_model: radial-tangential
distortion_coefficients: [-0.28, 0.07, 0.0002, 1.8e-05]
"""


def sensor_yaml(T_BS: np.ndarray) -> str:
    rows = ",\n         ".join(", ".join(repr(float(value)) for value in row) for row in T_BS)
    return SENSOR.format(pose=rows, width=SIZE[0], height=SIZE[1])


def make_euroc(root: Path, T_BS: tuple[np.ndarray, np.ndarray], body: np.ndarray, frames: int = 4) -> Path:
    """EuRoC with two cameras at 20 Hz; `body` (frames, 7) is tx ty tz qw qx qy qz of the body."""
    start = 1403715273262142976
    stamps = [start + 50_000_000 * i for i in range(frames)]
    for camera in (0, 1):
        folder = root / "mav0" / f"cam{camera}"
        for i, stamp in enumerate(stamps):
            write_png(folder / "data" / f"{stamp}.png", picture(10 * camera + i)[..., 0])
        listed = "".join(f"{stamp},{stamp}.png\r\n" for stamp in stamps)
        (folder / "data.csv").write_text("#timestamp [ns],filename\r\n" + listed)
        (folder / "sensor.yaml").write_text(sensor_yaml(T_BS[camera]))
    truth = root / "mav0" / "state_groundtruth_estimate0"
    truth.mkdir(parents=True)
    poses = (",".join(repr(float(value)) for value in row) for row in body)
    rows = (f"{stamp},{pose},0.1,0.2,0.3\n" for stamp, pose in zip(stamps, poses, strict=True))
    (truth / "data.csv").write_text("#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w []\n" + "".join(rows))
    return root


def projection(fx: float, x: float, y: float = 0.0, z: float = 0.0) -> str:
    return f"{fx:.12e} 0 31.0 {x:.12e} 0 {fx:.12e} 23.0 {y:.12e} 0 0 1 {z:.12e}"


CALIB = (
    f"P0: {projection(60, 0)}\nP1: {projection(60, -30)}\n"
    f"P2: {projection(60, 4.5, -0.1, 0.003)}\nP3: {projection(60, -25.5, 0.2, 0.005)}\n"
    "Tr: 1 0 0 0 0 1 0 0 0 0 1 0\n"
)


def make_kitti(root: Path, poses: np.ndarray, cameras: tuple[int, ...] = (0, 1), official: bool = False) -> Path:
    """KITTI with `poses` (N, 3, 4); flat in `root`, or as sequences/00 and poses/00.txt below it."""
    sequence = root / "sequences" / "00" if official else root
    for camera in cameras:
        for i in range(len(poses)):
            image = picture(10 * camera + i)
            write_png(sequence / f"image_{camera}" / f"{i:06d}.png", image if camera > 1 else image[..., 0])
    (sequence / "calib.txt").write_text(CALIB)
    (sequence / "times.txt").write_text("".join(f"{0.1 * i:e}\n" for i in range(len(poses))))
    truth = root / "poses" / "00.txt" if official else root / "poses.txt"
    truth.parent.mkdir(parents=True, exist_ok=True)
    truth.write_text("".join(" ".join(f"{v:e}" for v in pose.reshape(-1)) + "\n" for pose in poses))
    return sequence


def make_tartanair(root: Path, poses: np.ndarray, depth: np.ndarray, version: int = 1) -> Path:
    """TartanAir with `poses` (N, 7) in NED and one `depth` (H, W) for all frames."""
    left, right, depths, pose = {
        1: ("image_left", "image_right", "depth_left", "pose_left.txt"),
        2: ("image_lcam_front", "image_rcam_front", "depth_lcam_front", "pose_lcam_front.txt"),
    }[version]
    ends = ("left", "right") if version == 1 else ("lcam_front", "rcam_front")
    image = picture(0, depth.shape[::-1])
    for i in range(len(poses)):
        write_png(root / left / f"{i:06d}_{ends[0]}.png", image)
        write_png(root / right / f"{i:06d}_{ends[1]}.png", image)
        (root / depths).mkdir(exist_ok=True)
        if version == 1:
            np.save(root / depths / f"{i:06d}_left_depth.npy", depth.astype(np.float32))
        else:
            stored = depth.astype("<f4")[..., None].view(np.uint8)
            write_png(root / depths / f"{i:06d}_lcam_front_depth.png", stored)
    (root / pose).write_text("".join(" ".join(f"{v:.9e}" for v in row) + "\n" for row in poses))
    return root


def make_scannet(root: Path, poses: np.ndarray, depths: np.ndarray, size: tuple[int, int], K: np.ndarray) -> Path:
    """A ScanNet scene as SensReader exports it.

    Args:
        root: the scene's folder.
        poses: (N, 4, 4) camera to world; not finite where the frame was lost.
        depths: (N, h, w) metres, of a camera with `K` scaled from 1296x968 to 640x480.
        size: (W, H) of the colour images.
        K: (3, 3) of colour at 1296x968.
    """
    (root / "pose").mkdir(parents=True)
    (root / "intrinsic").mkdir()
    for i, (pose, depth) in enumerate(zip(poses, depths, strict=True)):
        write_png(root / "color" / f"{i}.jpg", picture(i, size))
        write_png(root / "depth" / f"{i}.png", np.round(depth * 1000).astype(np.uint16))
        np.savetxt(root / "pose" / f"{i}.txt", pose, fmt="%f")
    for name, scale in (("color", np.eye(3)), ("depth", scannet_scaling((640, 480)))):
        matrix = np.eye(4)
        matrix[:3, :3] = scale @ K
        np.savetxt(root / "intrinsic" / f"intrinsic_{name}.txt", matrix, fmt="%f")
        np.savetxt(root / "intrinsic" / f"extrinsic_{name}.txt", np.eye(4), fmt="%f")
    return root


def scannet_scaling(size: tuple[int, int]) -> np.ndarray:
    """(3, 3): pixels of a 1296x968 image to those of it at `size`; centres of corner pixels are half a pixel in."""
    sx, sy = size[0] / 1296, size[1] / 968
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
