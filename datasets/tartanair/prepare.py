"""Download TartanAir V1: python datasets/tartanair/prepare.py --dest DATA --sequence abandonedfactory/Easy"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _fetch import DataSet, FetchError, Source, download, extract, main

# The authors' copy at Hugging Face, then download_training_zipfiles.txt of castacks/tartanair_tools. At Hugging Face
# pose_left.txt is a file of its own beside the archives. No checksums of the training archives were found.
BASES = (
    "https://huggingface.co/datasets/theairlabcmu/tartanair/resolve/main",
    "https://airlab-share.andrew.cmu.edu:8081/tartanair",
)
ENVIRONMENTS = (
    "abandonedfactory", "abandonedfactory_night", "amusement", "carwelding", "endofworld", "gascola", "hospital",
    "japanesealley", "neighborhood", "ocean", "office", "office2", "oldtown", "seasidetown", "seasonsforest",
    "seasonsforest_winter", "soulcity", "westerndesert",
)  # fmt: skip


def sources(environment: str, level: str) -> tuple[Source, ...]:
    """The file name carries environment and level: on the server all are called image_left.zip."""
    names = {"image_left": False, "depth_left": False, "image_right": True}
    return tuple(
        Source(
            f"{environment}_{level}_{part}.zip",
            tuple(f"{base}/{environment}/{level}/{part}.zip" for base in BASES),
            optional=optional,
        )
        for part, optional in names.items()
    )


def unpack(name: str, archives: list[Path], dest: Path) -> list[Path]:
    """The archives hold .../P000/image_left/... and .../P000/pose_left.txt; they become NAME/P000/..."""

    def rename(member: str) -> str | None:
        parts = member.split("/")
        start = next((i for i, part in enumerate(parts) if part[:1] == "P" and part[1:].isdigit()), None)
        return None if start is None else "/".join([name, *parts[start:]])

    for archive in archives:
        extract(archive, dest, rename)
    found = sorted(path.parent for path in (dest / name).glob("P*/image_left"))
    if not found:
        raise FetchError(f"{dest / name}: no trajectory P000/image_left was in the archives; add --part image_left")
    for folder in found:
        if not (folder / "pose_left.txt").exists():
            download(f"{BASES[0]}/{name}/{folder.name}/pose_left.txt", folder / "pose_left.txt")
    return found


DATA = DataSet(
    name="tartanair",
    licence="see the card: the terms of the images are not stated in the sources we could read",
    sequences={f"{env}/{level}": sources(env, level) for env in ENVIRONMENTS for level in ("Easy", "Hard")},
    unpack=unpack,
    note="Add the right camera with --part image_left image_right depth_left. V2: pip install tartanair, see the card.",
)

if __name__ == "__main__":
    sys.exit(main(DATA))
