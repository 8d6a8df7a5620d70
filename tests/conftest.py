"""Fixtures that all tests share."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

REPO = Path(__file__).parent.parent
SAMPLE = REPO / "datasets" / "sample" / "rgbd_dataset_freiburg1_rpy_60"


def pytest_configure() -> None:
    """One thread each, since several processes on few cores wait for one another; and no test fails by the clock.

    What a shell starts in the background ignores Ctrl-C, and so would all that the tests start and interrupt.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    settings.register_profile("slamfeat", deadline=None)
    settings.load_profile("slamfeat")


@pytest.fixture(scope="session")
def sample() -> Path:
    """The shipped sequence: 60 frames of TUM fr1/rpy."""
    return SAMPLE


@pytest.fixture(scope="session")
def shared() -> Path:
    """The team's shared folder; tests that use it carry the marker `shared`."""
    folder = Path(os.environ.get("SLAMFEAT_SHARED", REPO.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared folder at {folder}; set SLAMFEAT_SHARED")
    return folder


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photograph, (480, 640, 3) uint8 RGB."""
    from slamfeat.image import read_image

    return read_image(sorted((SAMPLE / "rgb").iterdir())[0])


@pytest.fixture(scope="session")
def small_disk() -> Callable[[int], AbstractContextManager[None]]:
    """While one is entered no file may grow beyond its bytes: the kernel refuses the write as a full disk does."""

    @contextmanager
    def of_size(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return of_size
