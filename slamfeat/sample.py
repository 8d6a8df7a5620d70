"""The sequence that is shipped with the package."""

from __future__ import annotations

from pathlib import Path

from slamfeat.errors import InputError

_NAME = "rgbd_dataset_freiburg1_rpy_60"


def sample_path() -> Path:
    """Where 60 frames of TUM fr1/rpy are: inside an installed package, or in a source checkout.

    Raises:
        InputError: in neither.
    """
    package = Path(__file__).parent
    places = (package / "sample" / _NAME, package.parent / "datasets" / "sample" / _NAME)
    for place in places:
        if (place / "rgb.txt").exists():
            return place
    raise InputError(f"the sample sequence is not at {places[0]} or {places[1]}; install slamfeat again")
