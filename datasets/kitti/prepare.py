"""Unpack KITTI odometry: python datasets/kitti/prepare.py --dest DATA --sequence 00 --archive data_odometry_*.zip"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _fetch import DataSet, FetchError, Source, extract, main

PAGE = "https://www.cvlibs.net/datasets/kitti/eval_odometry.php"
HOW = (
    f"KITTI odometry needs a registration: open {PAGE}, ask for the links with your e-mail address, download "
    "data_odometry_gray.zip (22 GB) or data_odometry_color.zip (65 GB), data_odometry_calib.zip and "
    "data_odometry_poses.zip, then run this again with --archive FILE FILE FILE"
)


# Calibration comes after the images: the calib.txt and times.txt inside the image archives are replaced by it.
SOURCES = (
    Source("data_odometry_gray.zip", how=HOW),
    Source("data_odometry_color.zip", how=HOW, optional=True),
    Source("data_odometry_calib.zip", how=HOW),
    Source("data_odometry_poses.zip", how=HOW),
)


def unpack(name: str, archives: list[Path], dest: Path) -> list[Path]:
    """The archives hold dataset/sequences/NN/... and dataset/poses/NN.txt; "dataset/" is left out."""
    wanted = re.compile(
        rf"(?:dataset/)?((?:sequences/{name}/(?:image_[0-3]/.*|calib\.txt|times\.txt))|poses/{name}\.txt)"
    )

    def rename(member: str) -> str | None:
        match = wanted.fullmatch(member)
        return match[1] if match else None

    for archive in archives:
        extract(archive, dest, rename)
    folder = dest / "sequences" / name
    for file in ("calib.txt", "times.txt"):
        if not (folder / file).is_file():
            raise FetchError(f"{folder / file} is missing; add data_odometry_calib.zip with --archive")
    return [folder]


DATA = DataSet(
    name="kitti",
    licence="CC BY-NC-SA 3.0",
    sequences={f"{number:02d}": SOURCES for number in range(22)},
    unpack=unpack,
    note="Choose --part color calib poses for the colour cameras.",
)

if __name__ == "__main__":
    sys.exit(main(DATA))
