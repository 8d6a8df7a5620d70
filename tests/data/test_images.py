"""Folders of images and video files."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from slamfeat.data import open_sequence
from slamfeat.data.images import natural_key
from slamfeat.data.video import Video
from slamfeat.errors import InputError

from .builders import calibration, picture, truncate, write_png
from .conftest import REPOSITORY


def test_natural_order_and_times_from_fps(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write_png(tmp_path / f"frame{number}.png", picture(number))
    (tmp_path / "notes.txt").write_text("not an image")
    write_png(tmp_path / ".hidden.png", picture(0))
    sequence = open_sequence(tmp_path, fps=20)
    assert [record.image.name for record in sequence.records] == ["frame1.png", "frame2.png", "frame10.png"]
    np.testing.assert_allclose(sequence.timestamps, [0, 0.05, 0.1])
    np.testing.assert_array_equal(sequence[1].image, picture(2)[..., ::-1])
    assert sequence.groundtruth is None and sequence.modes == ("mono",)


def test_natural_key_orders_numbers() -> None:
    names = ["b", "a10", "a9", "a09b", "1", "10", "2"]
    assert sorted(names, key=natural_key) == ["1", "2", "10", "a9", "a09b", "a10", "b"]


@pytest.mark.parametrize(
    ("names", "times"),
    [
        (("100.25", "101.5"), [100.25, 101.5]),
        (("1403715273262", "1403715273312"), [1403715273.262, 1403715273.312]),
        (("1403715273262142", "1403715273312142"), [1403715273.262142, 1403715273.312142]),
        (("000007", "000009"), [0, 0.25]),
        (("left", "1403715273312"), [0, 0.25]),
    ],
)
def test_times_from_names(tmp_path: Path, names: tuple[str, str], times: list[float]) -> None:
    for name in names:
        write_png(tmp_path / f"{name}.png", picture(0))
    np.testing.assert_allclose(open_sequence(tmp_path, fps=4).timestamps, times, rtol=0, atol=1e-6)


def test_nanosecond_names(tmp_path: Path) -> None:
    for stamp in (1403715273262142976, 1403715273312142976):
        write_png(tmp_path / f"{stamp}.png", picture(0))
    np.testing.assert_allclose(open_sequence(tmp_path).timestamps, [1403715273.262143, 1403715273.312143], atol=1e-6)


def test_camera_only_when_asked_for(tmp_path: Path) -> None:
    write_png(tmp_path / "0.png", picture(0))
    sequence = open_sequence(tmp_path)
    assert not sequence.has_camera and len(list(sequence)) == 1
    with pytest.raises(InputError, match=r"no calibration; write .*calibration\.json such as .*\"fx\".*--camera"):
        _ = sequence.camera


def test_calibration_beside_or_given(tmp_path: Path) -> None:
    write_png(tmp_path / "scene/images/0.png", picture(0))
    (tmp_path / "scene/camera.json").write_text(json.dumps(calibration()))
    assert open_sequence(tmp_path / "scene").camera.fx == 50.0
    (tmp_path / "other.json").write_text(json.dumps(calibration(fx=70.0)))
    assert open_sequence(tmp_path / "scene", camera=tmp_path / "other.json").camera.fx == 70.0


def write_video(path: Path, count: int = 12, fps: float = 10.0, size: tuple[int, int] = (64, 48)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, size)
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write video")
    for i in range(count):
        writer.write(np.full((size[1], size[0], 3), min(20 * i, 255), np.uint8))
    writer.release()
    return path


def level(image: np.ndarray) -> int:
    return round(float(image.mean()) / 20)


def test_video_frames_and_times(tmp_path: Path) -> None:
    sequence = open_sequence(write_video(tmp_path / "walk.avi"))
    assert (sequence.kind, sequence.name, sequence.length, len(sequence)) == ("video", "walk", 12, 12)
    frames = list(sequence)
    assert [level(frame.image) for frame in frames] == list(range(12))
    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.timestamp for frame in frames], 0.1 * np.arange(12), atol=0.002)
    np.testing.assert_allclose(sequence.timestamps, [frame.timestamp for frame in frames])
    assert frames[0].image.shape == (48, 64, 3) and sequence.skipped == [] and sequence.modes == ("mono",)


def test_video_views(tmp_path: Path) -> None:
    sequence = open_sequence(write_video(tmp_path / "walk.avi")).for_mode("mono")
    view = sequence[2:9:3]
    assert [level(frame.image) for frame in view] == [2, 5, 8] and len(view) == 3
    assert [level(frame.image) for frame in view[1:]] == [5, 8]
    assert level(sequence[7].image) == 7 and level(sequence[-1].image) == 11 and level(view[1].image) == 5
    with pytest.raises(IndexError):
        sequence[12]


def test_video_calibration(tmp_path: Path) -> None:
    path = write_video(tmp_path / "walk.avi")
    assert not open_sequence(path).has_camera
    (tmp_path / "calibration.json").write_text(json.dumps(calibration()))
    assert open_sequence(path).camera.fx == 50.0
    (tmp_path / "calibration.json").write_text(json.dumps(calibration((80, 60))))
    with pytest.raises(InputError, match=r"walk\.avi.*64x48.*80x60"):
        list(open_sequence(path))


def test_video_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"\0" * 5000)
    with pytest.raises(InputError, match=r"broken\.mp4: no picture can be read"):
        open_sequence(path)
    # In a process of its own: ffmpeg and OpenCV must not write to the terminal what is ours to say in one line.
    code = "import sys, slamfeat.data as d\ntry: d.open_sequence(sys.argv[1])\nexcept Exception: pass"
    for name in (str(path), "99"):
        command = [sys.executable, "-c", code, name]
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
        assert run.stderr == run.stdout == ""


def test_video_of_a_few_pixels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="16x16 is too small"):
        open_sequence(write_video(tmp_path / "tiny.avi", size=(16, 16)))


def test_truncated_video_gives_what_it_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(tmp_path / "cut.avi", count=40)
    truncate(path)
    sequence = open_sequence(path)
    with caplog.at_level(logging.WARNING, "slamfeat"):
        read = len(list(sequence))
    assert 0 < read < 40
    assert sequence.length == read or f"after {read} of" in caplog.text


def test_camera_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live camera played by a video file: no length, the clock's times, and it can be sliced from the start."""
    source = str(write_video(tmp_path / "walk.avi"))
    monkeypatch.setattr(Video, "_open", lambda self: cv2.VideoCapture(source))
    sequence = open_sequence("0")
    assert sequence.kind == "video" and sequence.length is None and not sequence.has_camera
    with pytest.raises(TypeError, match="not known"):
        len(sequence)
    with pytest.raises(InputError, match=r"camera 0: no calibration; pass --camera FILE"):
        _ = sequence.camera
    with pytest.raises(InputError, match="no times"):
        _ = sequence.timestamps
    first = [frame.timestamp for frame in sequence[:5]]
    assert len(first) == len(sequence[:5]) == 5 and np.all(np.diff(first) > 0) and first[0] > 1e9
    assert len(list(sequence)) == 12
    with pytest.raises(InputError, match="count from the start"):
        sequence[-3:]
    with pytest.raises(InputError, match="go back"):
        sequence[3]


def test_no_such_camera() -> None:
    with pytest.raises(InputError, match="99: no picture can be read; check the video"):
        open_sequence("99")
