"""Data as it is named on the command line and in recipes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slamfeat.data import Sequence, open_sequence
from slamfeat.errors import InputError

MODES = ("mono", "rgbd", "stereo")
_WORD = re.compile(r"(?P<path>.+?)(?::(?P<modes>[a-z,]+))?(?:@(?P<start>\d*):(?P<stop>\d*):?(?P<stride>\d*))?")


@dataclass(frozen=True)
class SequenceWord:
    """PATH[:MODE,...][@START:STOP:STRIDE].

    Attributes:
        path: of the sequence.
        modes: of "mono", "rgbd", "stereo"; empty for all that the sequence can serve.
        start, stop, stride: which frames; stop 0 for the end.
    """

    path: str
    modes: tuple[str, ...] = ()
    start: int = 0
    stop: int = 0
    stride: int = 1

    @property
    def word(self) -> str:
        """The word that parses to this."""
        modes = f":{','.join(self.modes)}" if self.modes else ""
        whole = (self.start, self.stop, self.stride) == (0, 0, 1)
        return f"{self.path}{modes}" + ("" if whole else f"@{self.start}:{self.stop or ''}:{self.stride}")

    def first(self, count: int) -> SequenceWord:
        """The same with at most `count` frames."""
        stop = self.start + count * self.stride
        return replace(self, stop=min(stop, self.stop) if self.stop else stop)

    def open(self) -> Sequence:
        """The sequence, only these frames.

        Raises:
            InputError: it cannot be opened, or no frames are left.
        """
        sequence = open_sequence(self.path)
        view = sequence.subset(self.start, self.stop or None, self.stride)
        if view.length == 0:
            raise InputError(f"{self.word}: leaves no frames of {len(sequence)}")
        return view

    @property
    def name(self) -> str:
        """Short name for tables: the folder, and the frames where they are not all."""
        name = Path(self.path).resolve().name
        whole = (self.start, self.stop, self.stride) == (0, 0, 1)
        return name if whole else f"{name}@{self.start}:{self.stop or ''}:{self.stride}"


def parse_sequence(word: str) -> SequenceWord:
    """Take a word apart.

    Raises:
        InputError: an unknown mode.
    """
    found = _WORD.fullmatch(word)
    if found is None:
        raise InputError(f"'{word}' is not of the form PATH[:MODE,...][@START:STOP:STRIDE]")
    modes = tuple((found["modes"] or "").split(",")) if found["modes"] else ()
    wrong = [mode for mode in modes if mode not in MODES]
    if wrong:
        raise InputError(f"'{word}': unknown mode '{wrong[0]}'; use {', '.join(MODES)}")
    return SequenceWord(
        found["path"], modes, int(found["start"] or 0), int(found["stop"] or 0), int(found["stride"] or 1)
    )  # fmt: skip


def reduced_size(size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    """(W, H) with the longer side reduced to `longest_side`; 0, or a smaller image: as it is."""
    if longest_side == 0 or max(size) <= longest_side:
        return size
    factor = longest_side / max(size)
    return round(size[0] * factor), round(size[1] * factor)


def reduce(image: NDArray[np.uint8], longest_side: int) -> NDArray[np.uint8]:
    """An image (H, W, 3) at its `reduced_size`, averaged over areas."""
    size = (image.shape[1], image.shape[0])
    less = reduced_size(size, longest_side)
    if less == size:
        return image
    import cv2

    return np.asarray(cv2.resize(image, less, interpolation=cv2.INTER_AREA), dtype=np.uint8)
