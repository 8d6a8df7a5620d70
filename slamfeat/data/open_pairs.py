"""From a path to the image pairs it holds, with their known geometry."""

from __future__ import annotations

import logging
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slamfeat.data.homography_pairs import LOOKS_FOR as HOMOGRAPHIES
from slamfeat.data.homography_pairs import HomographyPair, hpatches_folders, read_homography_pairs
from slamfeat.data.open import LOADERS, open_sequence
from slamfeat.data.pair_list import read_pair_list
from slamfeat.data.pairs import PosedPair, read_posed_images
from slamfeat.data.sequence import Sequence
from slamfeat.data.video import Video
from slamfeat.errors import InputError
from slamfeat.geometry.interpolate import poses_at
from slamfeat.geometry.se3 import Array, invert

log = logging.getLogger("slamfeat")

GAPS = (1, 2, 4, 8, 16, 32)
# HPatches' names of its two kinds (Balntas et al., CVPR 2017, 3.2).
_KINDS = {"i_": "illumination", "v_": "viewpoint"}


@dataclass(frozen=True)
class PairGroup:
    """Pairs of one kind, to be measured together.

    Attributes:
        data: short name of the data: a folder's or sequence's name, or a list's without suffix.
        name: what its pairs have in common, such as "gap 4", "viewpoint" or "all pairs".
        pairs: at least one, all of the class that `kind` says.
        kind: "pose" for `PosedPair`, "homography" for `HomographyPair`.
    """

    data: str
    name: str
    pairs: tuple[PosedPair, ...] | tuple[HomographyPair, ...]
    kind: Literal["pose", "homography"]


def open_pairs(
    path: str | Path,
    gaps: Many[int] = GAPS,
    step: int = 1,
    per_gap: int | None = None,
    images: str | Path | None = None,
) -> list[PairGroup]:
    """Image pairs with known geometry, guessing the layout.

    Args:
        path: a file: a list of pairs with ground truth (see `read_pair_list`), one group "all pairs"; a folder with
            cameras.json (Strecha): one group "all pairs"; a folder with homographies, or a folder of such folders
            (Oxford, HPatches): groups "illumination" and "viewpoint" for folders i_* and v_*, "all" for others; or a
            sequence with ground truth: a group "gap G" for each gap that has pairs.
        gaps: for sequences, distances in frames between the images of a pair.
        step: for sequences, frames between the first images of two pairs.
        per_gap: for sequences, at most so many pairs a gap, spread evenly; None for all.
        images: for lists, the folder that the names are relative to; None: the list's own.

    Returns:
        Groups with at least one pair each, always the same for the same data. Frames without ground truth near in time
        (`poses_at`), or without a file, are in no pair.

    Raises:
        InputError: nothing at `path`, an unknown layout, no pairs, or data that cannot be used.
    """
    path = Path(path).expanduser()
    for name, values in (("gaps", gaps), ("step", (step,)), ("per_gap", (1 if per_gap is None else per_gap,))):
        if not values or min(values) < 1:
            raise InputError(f"{name}: must be 1 or more, got {', '.join(map(str, values)) or 'nothing'}")
    if not path.exists():
        raise InputError(f"no such file or folder: {path}; check the path")
    try:
        if path.is_file() and not Video.detect(path):
            pairs = read_pair_list(path, None if images is None else Path(images))
            return [PairGroup(path.stem, "all pairs", tuple(pairs), "pose")]
        if (path / "cameras.json").is_file():
            return [PairGroup(path.resolve().name, "all pairs", _all_pairs(path), "pose")]
        folders = hpatches_folders(path)
        return _by_kind(path, folders) if folders else _by_gap(_sequence(path), gaps, step, per_gap)
    except PermissionError as error:
        raise InputError(f"{error.filename or path}: may not be read; check its permissions") from error


def _all_pairs(folder: Path) -> tuple[PosedPair, ...]:
    pairs = read_posed_images(folder).pairs()
    if not pairs:
        raise InputError(f"{folder / 'cameras.json'}: has one view only; a pair needs two")
    return tuple(pairs)


def _by_kind(path: Path, folders: list[Path]) -> list[PairGroup]:
    groups: dict[str, list[HomographyPair]] = {}
    for folder in folders:
        kind = _KINDS.get(folder.resolve().name[:2], "all")
        groups.setdefault(kind, []).extend(read_homography_pairs(folder))
    name = path.resolve().name
    return [PairGroup(name, kind, tuple(pairs), "homography") for kind, pairs in sorted(groups.items())]


def _sequence(path: Path) -> Sequence:
    """The sequence at `path`, which must have ground truth."""
    if any(loader.detect(path) for loader in LOADERS.values()):
        sequence = open_sequence(path)
        if sequence.groundtruth is not None:
            return sequence
        found = f"a sequence ({sequence.kind}) without ground truth"
    else:
        found = "unknown layout"
    looked_for = ", ".join(loader.looks_for for loader in LOADERS.values() if loader is not Video)
    raise InputError(
        f"{path}: {found}, so that it has no pairs of known geometry; looked for a list of pairs with ground truth (a "
        f"file), cameras.json (views with poses), {HOMOGRAPHIES}, or ground truth beside {looked_for}"
    )


def _by_gap(sequence: Sequence, gaps: Many[int], step: int, per_gap: int | None) -> list[PairGroup]:
    assert sequence.groundtruth is not None
    poses, known = poses_at(sequence.groundtruth, sequence.timestamps)
    usable = known & _present(sequence)
    groups = []
    for gap in gaps:
        starts = np.arange(0, max(len(usable) - gap, 0), step)
        starts = _spread(starts[usable[starts] & usable[starts + gap]], per_gap)
        if len(starts):
            pairs = tuple(_pair(sequence, poses, int(i), int(i) + gap) for i in starts)
            groups.append(PairGroup(sequence.name, f"gap {gap}", pairs, "pose"))
    if not groups:
        raise InputError(
            f"{sequence.path}: has no pair of frames at gaps {', '.join(map(str, gaps))} that both have ground truth "
            f"({int(usable.sum())} of {len(usable)} frames have); choose smaller gaps or check the ground truth"
        )
    return groups


def _present(sequence: Sequence) -> NDArray[np.bool_]:
    """Which frames have a file: what cannot be read must not count as a method's failure."""
    present = np.array([record.image.is_file() for record in sequence.records])
    if not present.all():
        first = sequence.records[int(np.argmin(present))].image
        log.warning("%s: %d frames left out for want of their files; first: %s", sequence.path, (~present).sum(), first)
    return present


def _spread(starts: NDArray[np.int64], count: int | None) -> NDArray[np.int64]:
    """At most `count` of the elements, evenly spaced, ends included."""
    if count is None or len(starts) <= count:
        return starts
    return starts[np.linspace(0, len(starts) - 1, count).round().astype(np.int64)]


def _pair(sequence: Sequence, poses: Array, first: int, second: int) -> PosedPair:
    image0, image1 = sequence.records[first].image, sequence.records[second].image
    return PosedPair(image0, image1, sequence.camera, sequence.camera, invert(poses[second]) @ poses[first])
