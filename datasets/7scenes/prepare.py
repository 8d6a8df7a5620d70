"""Download 7-Scenes and convert to TUM layout: python datasets/7scenes/prepare.py --dest DATA --sequence redkitchen"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _fetch import DataSet, FetchError, Source, extract, main

from slamfeat.data.calibration import write_calibration
from slamfeat.files import write_text
from slamfeat.geometry.se3 import quaternion_from_pose
from slamfeat.types import Camera

BASE = "https://download.microsoft.com/download/2/8/5/28564B23-0828-408F-8631-23B1EFF1DAC8"
# The publisher gives no checksums. These are pinned by a public script for the same addresses, together with the sizes
# in the card; they could not be checked here.
CHECKSUMS = {
    "chess": "sha256:d00b5b8f904123ec136768ee0ebd8f72aebb5473630fb5d8ec352e70ae4859d0",
    "fire": "sha256:735d577f471a116b3f190f9bd79026b7fccfc6dee220473499bdb2b93efd1955",
    "heads": "sha256:402f8760ba150100bda5360241b605383dc5f949c055863301bde1b45f6a7a5d",
    "office": "sha256:c2bd101aae86c926d43ed92e080140b2e32d54ce14a5ce289b9aeca3472e7744",
    "pumpkin": "sha256:53fd1cb4c2f50378abc112f48e8897138e2135f2848c8c2e094e8028af07a65f",
    "redkitchen": "sha256:55f6aeabfd8308fbe02a6f37d1dbdbc4c087c3c6c84cb5fae062a90c43ffcba6",
    "stairs": "sha256:3521a1a26acb98321918ec352f8b189d301c2e3cce2de1bf2eac424d003b3929",
}
CAMERA = Camera(640, 480, 585, 585, 320, 240)
RATE = 30.0
UNKNOWN = 65535


def unpack(name: str, archives: list[Path], dest: Path) -> list[Path]:
    """The scene's archive holds seq-01.zip, ..., each with frame-000000.color.png, .depth.png and .pose.txt."""
    folders = []
    dest.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        with tempfile.TemporaryDirectory(dir=dest) as scratch:
            extract(archive, Path(scratch), _inner_archive)
            for inner in sorted(Path(scratch).glob("seq-*.zip")):
                raw = Path(scratch) / inner.stem
                extract(inner, raw, lambda member: Path(member).name if "frame-" in member else None)
                folders.append(convert(raw, dest / f"{name}_{inner.stem}"))
                inner.unlink()
    if not folders:
        raise FetchError(f"{archives}: hold no seq-NN.zip; is it the right archive?")
    return folders


def convert(raw: Path, folder: Path) -> Path:
    """Turn a folder of frame-NNNNNN.* into TUM layout; 65535 (no depth) becomes 0, frames without a pose get none."""
    lists: dict[str, list[str]] = {"rgb": [], "depth": [], "groundtruth": []}
    for colour in sorted(raw.glob("frame-*.color.png")):
        number = re.sub(r"\D", "", colour.name.split(".")[0])
        time = f"{int(number) / RATE:.6f}"
        for kind in ("rgb", "depth"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            lists[kind].append(f"{time} {kind}/{number}.png")
        colour.replace(folder / "rgb" / f"{number}.png")
        depth = cv2.imread(str(raw / f"frame-{number}.depth.png"), cv2.IMREAD_UNCHANGED)
        if depth is None:
            raise FetchError(f"{raw}: frame-{number}.depth.png cannot be read; delete the archive and run again")
        depth[depth == UNKNOWN] = 0
        cv2.imwrite(str(folder / "depth" / f"{number}.png"), depth)
        pose = np.loadtxt(raw / f"frame-{number}.pose.txt")
        if pose.shape == (4, 4) and np.isfinite(pose).all():
            values = (*pose[:3, 3], *quaternion_from_pose(pose))
            lists["groundtruth"].append(" ".join([time, *(f"{value:.9f}" for value in values)]))
    for name, lines in lists.items():
        write_text(folder / f"{name}.txt", "\n".join(lines) + "\n")
    write_calibration(
        folder / "calibration.json", CAMERA, 1000, gt="KinectFusion (7-Scenes)", note="nominal intrinsics"
    )
    return folder


def _inner_archive(member: str) -> str | None:
    name = Path(member).name
    return name if re.fullmatch(r"seq-\d+\.zip", name) else None


DATA = DataSet(
    name="7scenes",
    licence="Microsoft research licence, non-commercial",
    sequences={scene: (Source(f"{scene}.zip", (f"{BASE}/{scene}.zip",), sha),) for scene, sha in CHECKSUMS.items()},
    unpack=unpack,
)

if __name__ == "__main__":
    sys.exit(main(DATA))
