"""Download and unpack EuRoC MAV sequences: python datasets/euroc/prepare.py --dest DATA --sequence V1_01_easy"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _fetch import DataSet, FetchError, Source, extract, main

# The item of the ETH Research Collection is https://doi.org/10.3929/ethz-b-000690084 (handle 20.500.11850/690084): one
# archive a room, addressed by identifier. Its record gives MD5 sums, quoted here from NVIDIA cuVSLAM's download script.
BASE = "https://www.research-collection.ethz.ch/server/api/core/bitstreams"
ROOMS = {
    "machine_hall": Source(
        "machine_hall.zip", (f"{BASE}/7b2419c1-62b5-4714-b7f8-485e5fe3e5fe/content",),
        "md5:363f5c2502b469cdd97ef85997714806",
    ),
    "vicon_room1": Source(
        "vicon_room1.zip", (f"{BASE}/02ecda9a-298f-498b-970c-b7c44334d880/content",),
        "md5:5ce06b405827e453a82523d3ca9c2fd0",
    ),
    "vicon_room2": Source(
        "vicon_room2.zip", (f"{BASE}/ea12bc01-3677-4b4c-853d-87c7870b8c44/content",),
        "md5:c6347f4e0476aaa9a43a919c163c49c5",
    ),
}  # fmt: skip
SEQUENCES = {
    "machine_hall": "MH_01_easy MH_02_easy MH_03_medium MH_04_difficult MH_05_difficult",
    "vicon_room1": "V1_01_easy V1_02_medium V1_03_difficult",
    "vicon_room2": "V2_01_easy V2_02_medium V2_03_difficult",
}


def unpack(name: str, archives: list[Path], dest: Path) -> list[Path]:
    """The room's archive holds NAME.zip (in a folder NAME), which holds mav0; a sequence's own archive holds mav0."""
    folder = dest / name
    dest.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        with tempfile.TemporaryDirectory(dir=dest) as scratch:
            extract(archive, Path(scratch), lambda member: "inner.zip" if member.endswith(f"{name}.zip") else None)
            inner = Path(scratch) / "inner.zip"
            nested = inner.exists()
            extract(inner if nested else archive, folder, partial(_below_mav0, name, nested))
    if not (folder / "mav0" / "cam0" / "data.csv").is_file():
        raise FetchError(f"{archives}: hold no {name} with mav0/cam0; the layout of the archive is not as expected")
    return [folder]


def _below_mav0(name: str, nested: bool, member: str) -> str | None:
    if member.startswith("__MACOSX") or not (nested or f"{name}/" in member or member.startswith("mav0/")):
        return None
    before, found, after = member.partition("mav0/")
    return f"mav0/{after}" if found and (not before or before.endswith("/")) else None


DATA = DataSet(
    name="euroc",
    licence="in copyright, non-commercial use permitted (rightsstatements.org InC-NC 1.0)",
    sequences={name: (ROOMS[room],) for room, names in SEQUENCES.items() for name in names.split()},
    unpack=unpack,
    note="The archives of the rooms have 12.7, 6.0 and 6.0 GB. On an error 429 (too many requests) wait and run again.",
)

if __name__ == "__main__":
    sys.exit(main(DATA))
