"""Download and unpack MegaDepth-1500: python datasets/megadepth1500/prepare.py --dest DATA"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _fetch import DataSet, FetchError, Source, extract, main

FOLDER = "megadepth1500"
# The packaging of ETH's Computer Vision and Geometry group, as github.com/cvg/glue-factory downloads it.
ARCHIVE = Source(f"{FOLDER}.zip", (f"https://cvg-data.inf.ethz.ch/megadepth/{FOLDER}.zip",))


def unpack(name: str, archives: list[Path], dest: Path) -> list[Path]:
    """The archive holds megadepth1500/pairs_calibrated.txt and the images it names."""
    for archive in archives:
        extract(archive, dest, lambda member: None if member.startswith("__MACOSX") else member)
    if not (dest / FOLDER / "pairs_calibrated.txt").is_file():
        raise FetchError(f"{dest / FOLDER}: holds no pairs_calibrated.txt; is it the right archive?")
    return [dest / FOLDER]


DATA = DataSet(
    name="megadepth1500",
    licence="see the card: photographs of Flickr users, each under its own licence",
    sequences={"all": (ARCHIVE,)},
    unpack=unpack,
)

if __name__ == "__main__":
    sys.exit(main(DATA))
