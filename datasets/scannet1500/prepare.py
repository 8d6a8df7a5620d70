"""Download and unpack ScanNet-1500: python datasets/scannet1500/prepare.py --dest DATA"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _fetch import DataSet, FetchError, Source, extract, main

FOLDER = "scannet1500"
# The packaging of ETH's Computer Vision and Geometry group, as github.com/cvg/glue-factory downloads it.
ARCHIVE = Source(f"{FOLDER}.zip", (f"https://cvg-data.inf.ethz.ch/scannet/{FOLDER}.zip",))


def unpack(name: str, archives: list[Path], dest: Path) -> list[Path]:
    """The archive holds scannet1500/pairs_calibrated.txt and the images it names."""
    for archive in archives:
        extract(archive, dest, lambda member: None if member.startswith("__MACOSX") else member)
    if not (dest / FOLDER / "pairs_calibrated.txt").is_file():
        raise FetchError(f"{dest / FOLDER}: holds no pairs_calibrated.txt; is it the right archive?")
    return [dest / FOLDER]


DATA = DataSet(
    name="scannet1500",
    licence="ScanNet terms of use, non-commercial: agree to them first (http://kaldir.vc.in.tum.de/scannet/ScanNet_TOS.pdf)",
    sequences={"all": (ARCHIVE,)},
    unpack=unpack,
)

if __name__ == "__main__":
    sys.exit(main(DATA))
