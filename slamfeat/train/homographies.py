"""Training pairs from photographs: each seen twice as a flat picture, so that every correspondence is exact.

The recipe of SuperPoint's homographic adaptation and of LightGlue's pretraining (DeTone et al., CVPRW 2018;
Lindenberger et al., ICCV 2023), with homographies of a camera that orbits a plane.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from slamfeat.errors import InputError
from slamfeat.image import read_image
from slamfeat.train.homography_views import HomographyConfig, Matrix, Size, draw_views, inside, inverse, move, render
from slamfeat.train.pairs import HIDDEN, UNKNOWN, VISIBLE, Pixels, Points, TrainingPair, Transferred
from slamfeat.train.readable import first_readable

__all__ = ["HomographyConfig", "HomographyPairs", "PlaneTransfer"]

_EDGE_PX = 2.0
"""So close to the photograph's edge a point's surroundings are already what lies beyond."""


@dataclass(frozen=True)
class PlaneTransfer:
    """Between two views of a photograph.

    Attributes:
        H0, H1: (3, 3) from pixels of the photograph to those of each view, w positive in front.
        size: (W, H) of the views; photo_size: of the photograph.
        reflected: whether the photograph goes on in mirrors beyond its edges: a point there looks like one inside,
            so that nothing can be said of it. Otherwise there is something else in each view, and it is hidden.
    """

    H0: Matrix
    H1: Matrix
    size: Size
    photo_size: Size
    reflected: bool

    def forth(self, points0: Points) -> Transferred:
        """Points (N, 2) of the first view in the second."""
        return self._move(points0, self.H0, self.H1)

    def back(self, points1: Points) -> Transferred:
        """Points (N, 2) of the second view in the first."""
        return self._move(points1, self.H1, self.H0)

    def _move(self, points: Points, source: Matrix, target: Matrix) -> Transferred:
        photo, on_plane = move(inverse(source), points)
        moved, in_front = move(target, photo)
        state = np.where(inside(moved, self.size) & in_front, VISIBLE, HIDDEN)
        near = inside(photo, self.photo_size, -_EDGE_PX) & on_plane
        state[~near] = UNKNOWN if self.reflected else HIDDEN
        state[near & ~inside(photo, self.photo_size, _EDGE_PX)] = UNKNOWN
        return Transferred(moved, state.astype(np.int8))


class HomographyPairs:
    """Pairs of views of photographs; number `i` is of photograph `i % count`, all else is drawn from (seed, i).

    A photograph that cannot be read gives way to the next one.
    """

    def __init__(
        self,
        read: Callable[[int], Pixels],
        count: int,
        config: HomographyConfig | None = None,
        photometric: Callable[[Pixels, np.random.Generator], Pixels] | None = None,
        seed: int = 0,
    ) -> None:
        """Make pairs.

        Args:
            read: photograph of a number 0 <= n < count as (H, W, 3) uint8 RGB.
            count: of photographs.
            config: of the views; the defaults if None.
            photometric: changes each view by itself, such as a `Photometric`; None leaves them as they are.
            seed: of all draws.

        Raises:
            InputError: no photographs.
        """
        if count < 1:
            raise InputError("pairs of photographs need at least one photograph; check the folder")
        self.read, self.count, self.config = read, count, config or HomographyConfig()
        self.photometric, self.seed = photometric, seed

    @classmethod
    def of_files(
        cls,
        paths: Sequence[str | Path],
        config: HomographyConfig | None = None,
        photometric: Callable[[Pixels, np.random.Generator], Pixels] | None = None,
        seed: int = 0,
    ) -> Self:
        """Pairs of image files; none is read before its turn comes."""
        files = tuple(Path(path) for path in paths)
        return cls(_Reader(files), len(files), config, photometric, seed)

    def pair(self, index: int) -> TrainingPair:
        """Pair number `index` >= 0; without intrinsics and pose, as a photograph has no depth.

        Raises:
            ImageError: twenty photographs in a row cannot be read.
        """
        rng, numbers = np.random.default_rng([self.seed, index]), itertools.count(index)
        number, photo = first_readable(lambda: self._read(next(numbers) % self.count))
        photo_size, size = (photo.shape[1], photo.shape[0]), self.config.size
        H0, H1 = draw_views(self.config, photo_size, rng)
        transfer = PlaneTransfer(H0, H1, size, photo_size, bool(rng.random() < self.config.reflect))
        first, second = (self._view(photo, H, transfer.reflected, rng) for H in (H0, H1))
        return TrainingPair(first, second, transfer, name=f"homography {index} of photograph {number}")

    def _read(self, number: int) -> tuple[int, Pixels]:
        return number, self.read(number)

    def _view(self, photo: Pixels, H: Matrix, reflected: bool, rng: np.random.Generator) -> Pixels:
        view = render(photo, H, self.config.size)
        if not reflected:
            _fill(view, _beyond(H, self.config.size, (photo.shape[1], photo.shape[0])), rng)
        return view if self.photometric is None else self.photometric(view, rng)


@dataclass(frozen=True)
class _Reader:
    """Images of files by number; a class, so that a source can be sent to another process."""

    files: tuple[Path, ...]

    def __call__(self, number: int) -> Pixels:
        return read_image(self.files[number])


def _beyond(H: Matrix, size: Size, photo_size: Size) -> NDArray[np.bool_]:
    """(h, w) which pixels of the view lie beyond the photograph's edges."""
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64))
    photo, on_plane = move(inverse(H), np.stack([x, y], -1).reshape(-1, 2))
    return np.asarray(~(inside(photo, photo_size) & on_plane)).reshape(size[1], size[0])


def _fill(view: Pixels, where: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """An even colour, mostly black, or noise of any coarseness."""
    import cv2

    if rng.random() < 0.5:
        view[where] = rng.integers(0, 256, 3) if rng.random() < 0.5 else 0
        return
    height, width = where.shape
    coarseness = 2 ** rng.uniform(0, 5)
    nodes = (max(round(height / coarseness), 1), max(round(width / coarseness), 1), 3)
    noise = cv2.resize(rng.integers(0, 256, nodes, dtype=np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    view[where] = np.asarray(noise, dtype=np.uint8)[where]
