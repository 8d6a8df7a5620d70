"""How fast images pass, and how long the rest will take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from slamfeat.run_log import duration

LINE_SECONDS = 10.0
"""How often a line is written where no progress bar can be."""


@dataclass
class Throughput:
    """Counts images and their pixels against the clock.

    Attributes:
        total: images there are; done: images worked on, failures among them; megapixels: of those that were read.
    """

    total: int
    done: int = 0
    megapixels: float = 0.0
    _started: float = field(default_factory=time.perf_counter)
    _told: float = field(default_factory=time.perf_counter)
    _stopped: float | None = None

    def add(self, size: tuple[int, int] | None) -> None:
        """One image more, of `size` (W, H) where it could be read."""
        self.done += 1
        if size is not None:
            self.megapixels += size[0] * size[1] / 1e6

    @property
    def seconds(self) -> float:
        """From the beginning until now, or until `stop`."""
        now = time.perf_counter() if self._stopped is None else self._stopped
        return max(now - self._started, 1e-9)

    def stop(self) -> None:
        """Stop the clock."""
        self._stopped = time.perf_counter()

    @property
    def images_per_second(self) -> float:
        """Unusable images among them."""
        return self.done / self.seconds

    @property
    def megapixels_per_second(self) -> float:
        """Of the images that could be read."""
        return self.megapixels / self.seconds

    @property
    def note(self) -> str:
        """Both rates in words."""
        return f"{self.images_per_second:.1f} images/s, {self.megapixels_per_second:.1f} MP/s"

    @property
    def line(self) -> str:
        """Count, rates and the time left."""
        left = (self.total - self.done) / max(self.images_per_second, 1e-9)
        return f"{self.done} of {self.total} images, {self.note}, {duration(left)} left"

    def is_due(self) -> bool:
        """Whether the last line is `LINE_SECONDS` old; asking starts the next interval."""
        due = time.perf_counter() - self._told >= LINE_SECONDS
        if due:
            self._told = time.perf_counter()
        return due
