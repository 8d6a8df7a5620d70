"""Cut the demo's sample from TUM RGB-D fr1/rpy: 60 frames at most 8 MB, opened by slamfeat's TUM loader as they are.

    python datasets/sample/prepare.py --source DATA/rgbd_dataset_freiburg1_rpy [--dest DIR] [--frames 60]

Get the source with `python datasets/tum/prepare.py --sequence freiburg1_rpy --dest DATA`. Colour becomes JPEG; depth
keeps every value and is only compressed harder; ground-truth lines are copied as they stand, from 0.2 s before to
0.2 s after. The last lines printed are the figures in README.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slamfeat.data import Sequence, open_sequence
from slamfeat.data.calibration import write_calibration
from slamfeat.data.tum import DEPTH_SCALE
from slamfeat.errors import SlamfeatError
from slamfeat.files import write_text

HERE = Path(__file__).resolve().parent
LIMIT = 8_000_000
MARGIN = 0.2
# Features look at grey, and this sensor's colour is noisy: 4:2:0 at 88 has 44.7 dB in grey for 3.2 MB, 4:4:4 at 85 has
# 44.0 dB for 4.0 MB.
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_OPTIMIZE, 1,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]  # fmt: skip
# A Kinect knows about 460 distances: plain repeated values compress better than PNG's predictions (4.6 for 5.3 MB).
PNG = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_COMPRESSION, 9]


def main() -> int:
    arguments = _parse()
    try:
        sequence = open_sequence(arguments.source, kind="tum").for_mode("rgbd")[: arguments.frames]
        quality = _write(sequence, arguments.dest)
    except SlamfeatError as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(file.stat().st_size for file in arguments.dest.rglob("*") if file.is_file())
    print(f"{arguments.dest}: {len(sequence)} frames, {size / 1e6:.2f} MB of at most {LIMIT / 1e6:.0f}")
    for name, values in quality.items():
        print(f"PSNR {name}: mean {np.mean(values):.1f} dB, least {np.min(values):.1f} dB")
    return 0 if size <= LIMIT else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="the original TUM RGB-D sequence")
    parser.add_argument("--dest", type=Path, default=HERE / "rgbd_dataset_freiburg1_rpy_60", help="folder to write")
    parser.add_argument("--frames", type=int, default=60, help="number of frames, from the first")
    return parser.parse_args()


def _write(sequence: Sequence, dest: Path) -> dict[str, list[float]]:
    """Write the sample; returns the PSNR of every frame, in colour and in grey."""
    quality: dict[str, list[float]] = {"colour": [], "grey": []}
    colour_lines, depth_lines = ["# timestamp filename"], ["# timestamp filename"]
    for folder in ("rgb", "depth"):
        (dest / folder).mkdir(parents=True, exist_ok=True)
    for record in sequence.records:
        image = cv2.imread(str(record.image), cv2.IMREAD_COLOR)
        name = f"rgb/{record.image.stem}.jpg"
        cv2.imwrite(str(dest / name), image, JPEG)
        again = cv2.imread(str(dest / name), cv2.IMREAD_COLOR)
        quality["colour"].append(_psnr(image, again))
        quality["grey"].append(_psnr(*(cv2.cvtColor(each, cv2.COLOR_BGR2GRAY) for each in (image, again))))
        colour_lines.append(f"{record.image.stem} {name}")
        depth_lines.append(_write_depth(record.depth, dest))
    write_text(dest / "rgb.txt", "\n".join(colour_lines) + "\n")
    write_text(dest / "depth.txt", "\n".join(depth_lines) + "\n")
    write_text(dest / "groundtruth.txt", _groundtruth(sequence))
    write_calibration(
        dest / "calibration.json", sequence.camera, DEPTH_SCALE, gt="motion capture",
        source="TUM RGB-D rgbd_dataset_freiburg1_rpy, first frames, CC BY 4.0; see datasets/sample/README.md",
    )  # fmt: skip
    return quality


def _write_depth(source: Path | None, dest: Path) -> str:
    """Write one depth map again, value by value the same; returns its line of depth.txt."""
    if source is None:
        raise SlamfeatError("a frame has no depth map; choose another source")
    depth = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
    target = dest / "depth" / source.name
    cv2.imwrite(str(target), depth, PNG)
    if not np.array_equal(depth, cv2.imread(str(target), cv2.IMREAD_UNCHANGED)):
        raise SlamfeatError(f"{target}: does not read back as written")
    return f"{source.stem} depth/{source.name}"


def _groundtruth(sequence: Sequence) -> str:
    first, last = sequence.timestamps[[0, -1]]
    lines = (sequence.path / "groundtruth.txt").read_text(encoding="utf-8").splitlines()
    poses = [line for line in lines if line.strip() and not line.startswith("#")]
    chosen = [line for line in poses if first - MARGIN <= float(line.split()[0]) <= last + MARGIN]
    return "\n".join(["# ground truth trajectory", "# timestamp tx ty tz qx qy qz qw", *chosen]) + "\n"


def _psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    error = np.mean((first.astype(np.float64) - second) ** 2)
    return float(10 * np.log10(255**2 / error))


if __name__ == "__main__":
    sys.exit(main())
