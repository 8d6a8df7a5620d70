"""Download and unpack the full image sequences of HPatches: python datasets/hpatches/prepare.py --dest DATA"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _fetch import DataSet, FetchError, Source, extract, main

FOLDER = "hpatches-sequences-release"
ZIP = Source(f"{FOLDER}.zip", (f"https://huggingface.co/datasets/vbalnt/hpatches/resolve/main/{FOLDER}.zip",))
# The original address, which no longer answered when others tried it; for those who still have the file.
TAR = Source(f"{FOLDER}.tar.gz", (f"http://icvl.ee.ic.ac.uk/vbalnt/hpatches/{FOLDER}.tar.gz",), optional=True)


def unpack(name: str, archives: list[Path], dest: Path) -> list[Path]:
    """The archive holds hpatches-sequences-release/v_graffiti/{1.ppm,...,H_1_2,...}."""
    for archive in archives:
        extract(archive, dest, lambda member: None if member.startswith("__MACOSX") else member)
    folders = sorted(path.parent for path in (dest / FOLDER).glob("*/H_1_2"))
    if not folders:
        raise FetchError(f"{dest / FOLDER}: holds no sequences; is it the right archive?")
    return [dest / FOLDER]


DATA = DataSet(
    name="hpatches",
    licence="repository hpatches-dataset: MIT; the photographs have various sources",
    sequences={"all": (ZIP, TAR)},
    unpack=unpack,
    note="About 1.3 GB.",
)

if __name__ == "__main__":
    sys.exit(main(DATA))
