"""Lists of pairs with poses, as ETH's Computer Vision and Geometry group packs them (github.com/cvg/glue-factory)."""

from __future__ import annotations

from pathlib import Path

from _fetch import DataSet, FetchError, Source, extract

HOST = "https://cvg-data.inf.ethz.ch"


def packed_pairs(name: str, folder: str, licence: str) -> DataSet:
    """A data set that is one archive with NAME/pairs_calibrated.txt and the images it names."""

    def unpack(_: str, archives: list[Path], dest: Path) -> list[Path]:
        for archive in archives:
            extract(archive, dest, lambda member: None if member.startswith("__MACOSX") else member)
        if not (dest / name / "pairs_calibrated.txt").is_file():
            raise FetchError(f"{dest / name}: holds no pairs_calibrated.txt; is it the right archive?")
        return [dest / name]

    archive = Source(f"{name}.zip", (f"{HOST}/{folder}/{name}.zip",))
    return DataSet(name=name, licence=licence, sequences={"all": (archive,)}, unpack=unpack)
