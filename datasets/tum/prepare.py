"""Download and unpack TUM RGB-D sequences: python datasets/tum/prepare.py --dest DATA --sequence freiburg1_rpy"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _fetch import DataSet, FetchError, Source, extract, main

BASE = "https://cvg.cit.tum.de/rgbd/dataset"
SEQUENCES = {
    "freiburg1": "360 desk desk2 floor plant room rpy teddy xyz",
    "freiburg2": "360_hemisphere 360_kidnap coke desk desk_with_person dishes flowerbouquet "
    "flowerbouquet_brownbackground large_no_loop large_with_loop metallic_sphere metallic_sphere2 pioneer_360 "
    "pioneer_slam pioneer_slam2 pioneer_slam3 rpy xyz",
    "freiburg3": "cabinet large_cabinet long_office_household nostructure_notexture_far "
    "nostructure_notexture_near_withloop nostructure_texture_far nostructure_texture_near_withloop "
    "sitting_halfsphere sitting_rpy sitting_static sitting_xyz structure_notexture_far structure_notexture_near "
    "structure_texture_far structure_texture_near teddy walking_halfsphere walking_rpy walking_static walking_xyz",
}


def source(family: str, name: str) -> Source:
    file = f"rgbd_dataset_{family}_{name}.tgz"
    return Source(file, (f"{BASE}/{family}/{file}",))


def unpack(name: str, archives: list[Path], dest: Path) -> list[Path]:
    """The archive holds rgbd_dataset_NAME/ as the loader wants it."""
    for archive in archives:
        extract(archive, dest)
    folder = dest / f"rgbd_dataset_{name}"
    if not (folder / "rgb.txt").is_file():
        raise FetchError(f"{archives}: holds no {folder.name}/rgb.txt; is it the right archive?")
    return [folder]


DATA = DataSet(
    name="tum",
    licence="CC BY 4.0",
    sequences={f"{f}_{n}": (source(f, n),) for f, names in SEQUENCES.items() for n in names.split()},
    unpack=unpack,
)

if __name__ == "__main__":
    sys.exit(main(DATA))
