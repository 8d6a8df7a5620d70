"""Photographs and frames that cannot be read give way to others, so that one of many does not end a preparation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from slamfeat.errors import ImageError

T = TypeVar("T")
_TRIES = 20

log = logging.getLogger("slamfeat")


def first_readable(draw: Callable[[], T]) -> T:
    """What `draw` gives; it is asked again where an image cannot be read, and must then try another.

    A file is warned of once in a process. With draws from a generator of its own the outcome is the same at every time.

    Raises:
        ImageError: twenty in a row cannot be read.
    """
    for _ in range(_TRIES - 1):
        try:
            return draw()
        except ImageError as error:
            _warn(str(error))
    return draw()


@lru_cache(maxsize=4096)
def _warn(said: str) -> None:
    log.warning("%s; another is drawn", said)
