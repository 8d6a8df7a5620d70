"""Pipelined odometry: the result of the serial run, bit by bit, and threads that end with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import room
import torch
from stereo_world import RIG, StereoWorld
from world import CAMERA, World, make_path

from benchmarks.peers.opencv import OpenCVFrontend
from slamfeat.data import open_sequence
from slamfeat.errors import ImageError, InputError
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.types import Features, Frame, Matches
from slamfeat.vo import FrameReport, Odometry, OdometryConfig
from slamfeat.vo.pipelined import AHEAD
from slamfeat.vo.run import RunResult, run_odometry
from slamfeat.vo.setup import build_odometry, choose_mode


class Reels:
    """A sequence of given frames; an exception among them is raised when its turn comes."""

    path = Path("synthetic")
    groundtruth = None
    live = False

    def __init__(self, frames: list[Frame | BaseException]) -> None:
        self.frames = frames
        self.skipped: list[Any] = []
        self.readers: set[int] = set()
        self.reached = [threading.Event() for _ in range(len(frames) + 1)]

    def __iter__(self) -> Iterator[Frame]:
        for number, frame in enumerate(self.frames, 1):
            self.reached[number].set()
            self.readers.add(threading.get_ident())
            if isinstance(frame, BaseException):
                raise frame
            yield frame


class Watched(World):
    """Notes which threads extract and match, whether two ever extract at once, and fails on one frame."""

    def __init__(self, *arguments: Any, bad: int = -1, error: Exception | None = None, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.extractors: set[int] = set()
        self.matchers: set[int] = set()
        self.bad, self.error = bad, error

    def extract(self, image, num_keypoints=None, mask=None) -> Features:  # type: ignore[no-untyped-def]
        """As a world, but where it fails."""
        self.extractors.add(threading.get_ident())
        if self.error and int(image[0, 0, 0]) == self.bad:
            raise self.error
        return super().extract(image)

    def match(self, features0: Features, features1: Features) -> Matches:
        """As a world."""
        self.matchers.add(threading.get_ident())
        return super().match(features0, features1)


def run(odometry: Odometry, frames: Any, **options: Any) -> RunResult:
    before = threading.active_count()
    try:
        return run_odometry(frames, odometry, "none", **options)
    finally:
        assert threading.active_count() == before


def odometry_of(world: World, pipelined: bool, **settings: Any) -> Odometry:
    return Odometry(world, CAMERA, config=OdometryConfig(pipelined=pipelined), **settings)


def without_times(odometry: Odometry) -> list[dict[str, Any]]:
    """Reports but for the times; NaN would not equal itself."""
    rows = [asdict(replace(report, ms=dict.fromkeys(report.ms, 0.0))) for report in odometry.reports]
    return [{key: repr(value) for key, value in row.items()} for row in rows]


def assert_same(pipelined: Odometry, serial: Odometry) -> None:
    assert without_times(pipelined) == without_times(serial)
    assert np.array_equal(pipelined.trajectory.poses, serial.trajectory.poses)
    assert np.array_equal(pipelined.trajectory.timestamps, serial.trajectory.timestamps)


@pytest.mark.parametrize("mode", ["mono", "rgbd"])
def test_same_as_serial_with_lost_frames(mode: str) -> None:
    world = Watched(make_path(30), noise_px=0.3, blind=frozenset({4, 5, 11, 12, 13, 14, 15, 16}))
    found = []
    for pipelined in (True, False):
        odometry = odometry_of(world, pipelined, mode=mode)
        reels = Reels(list(world.frames()))
        result = run(odometry, reels)
        assert result.total == 30
        found.append(odometry)
        here = {threading.get_ident()}
        assert world.matchers == here
        assert (reels.readers == here, world.extractors == here) == (not pipelined, not pipelined)
        assert len(reels.readers | world.extractors | here) == (3 if pipelined else 1)
        world.extractors.clear()
    assert 0 < len(found[0].trajectory) < 30
    assert_same(*found)


class Meeting(World):
    """The first match and the third extraction wait for each other: neither ends where they take turns."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.place, self.met = threading.Barrier(2, timeout=30), False

    def extract(self, image, num_keypoints=None, mask=None) -> Features:  # type: ignore[no-untyped-def]
        """Meets the first match."""
        if int(image[0, 0, 0]) == 2:
            self.place.wait()
        return super().extract(image)

    def match(self, features0: Features, features1: Features) -> Matches:
        """Meets the third extraction."""
        if not self.met:
            self.place.wait()
            self.met = True
        return super().match(features0, features1)


def test_extraction_goes_on_while_a_frame_is_matched() -> None:
    world = Meeting(make_path(6))
    assert run(odometry_of(world, True), Reels(list(world.frames()))).tracked == 6 and world.met


@pytest.mark.parametrize(("word", "ahead"), [("extract", 2 * AHEAD), ("track", AHEAD)])
def test_frames_read_ahead_are_few(word: str, ahead: int) -> None:
    world = World(make_path(20))
    odometry = Odometry(world, CAMERA, config=OdometryConfig(between_keyframes=word))
    reels, seen = Reels(list(world.frames())), []

    def progress(report: FrameReport) -> None:
        if report.index == 5:
            assert reels.reached[6 + ahead].wait(30)
            seen.append(reels.reached[7 + ahead].wait(0.2))  # would be reached if more frames were read

    run(odometry, reels, progress=progress)
    assert seen == [False]


@pytest.mark.parametrize("mode", ["rgbd", "stereo"])
def test_same_as_serial_with_the_backbone_on_keyframes_only(mode: str) -> None:
    path = room.make_path()
    frames = room.make_frames(path, right=mode == "stereo")
    found = []
    for pipelined in (True, False):
        config = OdometryConfig(pipelined=pipelined, between_keyframes="track", keyframe_px=15.0)
        odometry = Odometry(OpenCVFrontend("sift", 400), room.CAMERA, mode, config, rig=room.RIG)  # type: ignore[arg-type]
        reels = Reels(list(frames))
        run(odometry, reels)
        assert (threading.get_ident() in reels.readers) == (not pipelined)
        assert sum(report.carried for report in odometry.reports) == len(path) - 1
        found.append(odometry)
    assert_same(*found)


def test_on_mps_only_reading_goes_on_in_a_thread() -> None:
    """Two threads that use torch there abort the process."""
    world = Watched(make_path(6))
    world.backbone = SimpleNamespace(device=torch.device("mps"))  # type: ignore[attr-defined]
    reels = Reels(list(world.frames()))
    run(odometry_of(world, True), reels)
    assert world.extractors == world.matchers == {threading.get_ident()}
    assert threading.get_ident() not in reels.readers


class OneAtATime(StereoWorld):
    """A frontend that may not extract twice at once, as an inference session with one set of buffers."""

    busy = threading.Lock()

    def extract(self, image, num_keypoints=None, mask=None) -> Features:  # type: ignore[no-untyped-def]
        """Left and right images."""
        assert self.busy.acquire(blocking=False), "extracting twice at once"
        try:
            threading.Event().wait(0.002)
            return super().extract(image)
        finally:
            self.busy.release()


def test_stereo_extracts_left_and_right_one_after_the_other() -> None:
    world = OneAtATime(make_path(20))
    found = []
    for pipelined in (True, False):
        odometry = odometry_of(world, pipelined, mode="stereo", rig=RIG)
        run(odometry, Reels(list(world.frames())))
        assert sum(report.keyframe for report in odometry.reports) > 1
        found.append(odometry)
    assert_same(*found)


@pytest.mark.parametrize("mode", ["mono", "rgbd"])
def test_same_as_serial_with_the_real_frontend(sample: Path, mode: str) -> None:
    frontend = Frontend.from_pretrained("default", config=FrontendConfig(num_keypoints=256))
    found = []
    for pipelined in (True, False):
        view = open_sequence(sample).for_mode(mode)[:6]
        found.append(
            build_odometry(frontend, view, choose_mode(mode, view), "auto", OdometryConfig(pipelined=pipelined))
        )
        assert run(found[-1], view).tracked == 6
    assert_same(*found)


def damage(world: World) -> dict[str, tuple[World, list[Frame | BaseException]]]:
    """Frontends and frames that fail at frame 7."""
    frames: list[Frame | BaseException] = list(world.frames())

    def with_seventh(other: Frame | BaseException) -> list[Frame | BaseException]:
        return [*frames[:7], other, *frames[8:]]

    seventh = world.frames()[7]
    small = replace(seventh, image=seventh.image[:240])
    broken = Watched(world.path, bad=7, error=ImageError("extract: out of order"))
    return {
        "reading": (world, with_seventh(OSError("the disk went away"))),
        "extracting": (broken, frames),
        "size": (world, with_seventh(small)),
        "size before extraction": (broken, with_seventh(small)),
        "time": (world, with_seventh(replace(seventh, timestamp=0.6))),
        "time before extraction": (broken, with_seventh(replace(seventh, timestamp=0.1))),
    }


@pytest.mark.parametrize("case", [
    "reading", "extracting", "size", "size before extraction", "time", "time before extraction",
])  # fmt: skip
def test_errors_are_those_of_the_serial_run_at_the_same_frame(case: str) -> None:
    messages, found = [], []
    for pipelined in (True, False):
        world, frames = damage(World(make_path(12)))[case]
        found.append(odometry_of(world, pipelined))
        with pytest.raises((InputError, OSError)) as caught:
            run(found[-1], Reels(frames))
        messages.append((type(caught.value), str(caught.value)))
    assert messages[0] == messages[1] and len(found[0].reports) == 7
    assert_same(*found)


def stop_at(odometry: Odometry, count: int) -> dict[str, Callable[..., Any]]:
    return {"stop": lambda: len(odometry.reports) == count}


def interrupt_at(odometry: Odometry, count: int) -> dict[str, Callable[..., Any]]:
    def progress(report: object) -> None:
        if len(odometry.reports) == count:
            raise KeyboardInterrupt

    return {"progress": progress}


@pytest.mark.parametrize("end", [stop_at, interrupt_at])
def test_stopping_leaves_frames_read_ahead_untracked(end: Callable[[Odometry, int], dict[str, Any]]) -> None:
    world = World(make_path(12))
    odometry = odometry_of(world, True)
    result = run(odometry, Reels(list(world.frames())), **end(odometry, 5))
    assert result.interrupted and result.total == len(odometry.reports) == 5


def test_unreadable_frames_beyond_the_stop_do_not_count(sample: Path, tmp_path: Path) -> None:
    view = open_sequence(sample).for_mode("mono")[:8]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    for index in (2, 5):
        view.records[index] = replace(view.records[index], image=bad)
    for pipelined in (True, False):
        odometry = Odometry(
            Frontend.from_pretrained("default", config=FrontendConfig(num_keypoints=128)), view.camera,
            config=OdometryConfig(pipelined=pipelined),
        )  # fmt: skip
        result = run(odometry, view, **stop_at(odometry, 4))
        assert [report.index for report in odometry.reports] == [0, 1, 3, 4]
        assert len(result.skipped) == 1 and result.total == 5 and "bad.png" in result.skipped[0]


def test_live_cameras_are_tracked_frame_by_frame() -> None:
    world = Watched(make_path(6))
    reels = Reels(list(world.frames()))
    reels.live = True
    run(odometry_of(world, True), reels)
    assert reels.readers == world.extractors == {threading.get_ident()}
