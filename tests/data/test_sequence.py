"""What every sequence does: indexing, views, skipping, sensor modes, sizes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from slamfeat.data import open_sequence
from slamfeat.errors import ImageError, InputError

from .builders import calibration, make_tum, picture, truncate, write_png


def test_frames_are_read_in_order(tmp_path: Path) -> None:
    sequence = open_sequence(make_tum(tmp_path / "tiny"))
    assert len(sequence) == sequence.length == 5
    assert (sequence.kind, sequence.name) == ("tum", "tiny")
    np.testing.assert_allclose(sequence.timestamps, 100 + 0.1 * np.arange(5))
    for i, frame in enumerate(sequence):
        assert frame.index == i and frame.timestamp == sequence.timestamps[i]
        np.testing.assert_array_equal(frame.image, picture(i)[..., ::-1])
        assert frame.path is not None and frame.path.parent.name == "rgb"
    assert frame.index == 4 and sequence.skipped == []


def test_indices(tmp_path: Path) -> None:
    sequence = open_sequence(make_tum(tmp_path))
    assert sequence[-1].timestamp == sequence[4].timestamp and sequence[-1].index == 4
    for outside in (5, -6):
        with pytest.raises(IndexError):
            sequence[outside]


def test_views_renumber_and_leave_the_original_alone(tmp_path: Path) -> None:
    sequence = open_sequence(make_tum(tmp_path))
    view = sequence.subset(1, None, 2)
    assert [round(frame.timestamp, 3) for frame in view] == [100.1, 100.3]
    assert [frame.index for frame in view] == [0, 1]
    assert len(sequence[1:4][1:]) == 2 and len(sequence) == 5
    assert len(sequence[:0]) == 0 and list(sequence[:0]) == []
    view.load_depth = False
    assert sequence[0].depth is not None and view[0].depth is None
    with pytest.raises(InputError, match="stride"):
        sequence.subset(stride=-1)


def test_truncated_frame_is_skipped_counted_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_tum(tmp_path)
    broken = tmp_path / "rgb/100.200000.png"
    truncate(broken)
    sequence = open_sequence(tmp_path)
    with caplog.at_level(logging.WARNING, "slamfeat"):
        frames = list(sequence)
    assert [frame.index for frame in frames] == [0, 1, 3, 4]
    assert [(skip.index, skip.path) for skip in sequence.skipped] == [(2, broken)]
    assert str(broken) in caplog.text and str(broken) in sequence.skipped[0].reason
    with pytest.raises(ImageError, match=r"100\.2"):
        sequence[2]
    assert len(list(sequence)) == 4 and len(sequence.skipped) == 1, "a second pass counts anew"


def test_truncated_depth_is_skipped_only_where_depth_is_read(tmp_path: Path) -> None:
    make_tum(tmp_path)
    truncate(tmp_path / "depth/100.200000.png")
    sequence = open_sequence(tmp_path)
    assert len(list(sequence.for_mode("rgbd"))) == 4
    assert len(list(sequence.for_mode("mono"))) == 5


def test_missing_file_is_skipped(tmp_path: Path) -> None:
    make_tum(tmp_path)
    (tmp_path / "rgb/100.000000.png").unlink()
    sequence = open_sequence(tmp_path)
    assert len(list(sequence)) == 4 and sequence.skipped[0].index == 0


def test_tiny_image_is_an_error(tmp_path: Path) -> None:
    make_tum(tmp_path)
    write_png(tmp_path / "rgb/100.300000.png", picture(0, (10, 10)))
    sequence = open_sequence(tmp_path)
    with pytest.raises(ImageError, match="10x10"):
        sequence[3]
    assert len(list(sequence)) == 4


def test_other_size_than_the_calibration(tmp_path: Path) -> None:
    make_tum(tmp_path)
    odd = tmp_path / "rgb/100.300000.png"
    write_png(odd, picture(0, (80, 60)))
    sequence = open_sequence(tmp_path)
    with pytest.raises(ImageError, match=r"100\.3.*80x60.*64x48.*--camera"):
        sequence[3]
    assert len(list(sequence)) == 4 and sequence.skipped[0].path == odd


def test_a_calibration_that_fits_no_frame_stops_at_once(tmp_path: Path) -> None:
    make_tum(tmp_path)
    (tmp_path / "calibration.json").write_text(json.dumps(calibration((80, 60))))
    sequence = open_sequence(tmp_path)
    with pytest.raises(InputError, match="80x60"):
        next(iter(sequence))


def test_no_usable_frame_at_all_is_an_error(tmp_path: Path) -> None:
    make_tum(tmp_path, frames=2)
    for image in (tmp_path / "rgb").iterdir():
        truncate(image)
    with pytest.raises(InputError, match="none of 2 frames"):
        list(open_sequence(tmp_path))


def test_depth_of_another_size_is_an_error(tmp_path: Path) -> None:
    make_tum(tmp_path)
    write_png(tmp_path / "depth/100.000000.png", np.full((24, 32), 5000, np.uint16))
    with pytest.raises(ImageError, match=r"32x24.*64x48"):
        open_sequence(tmp_path)[0]


def test_modes_choose_what_is_read(tmp_path: Path) -> None:
    sequence = open_sequence(make_tum(tmp_path))
    assert sequence.modes == ("mono", "rgbd")
    assert sequence.for_mode("mono")[0].depth is None
    assert sequence.for_mode("rgbd")[0].depth is not None
    with pytest.raises(InputError, match=r"no stereo data.*mono or rgbd"):
        sequence.for_mode("stereo")
    assert (sequence.rig, sequence.baseline, sequence.right_camera, sequence.T_left_right) == (None, None, None, None)


def test_rgbd_view_leaves_out_frames_without_depth(tmp_path: Path) -> None:
    make_tum(tmp_path)
    lines = (tmp_path / "depth.txt").read_text().splitlines()
    (tmp_path / "depth.txt").write_text("\n".join(lines[:2] + lines[3:]) + "\n")
    sequence = open_sequence(tmp_path)
    assert sequence[1].depth is None and len(sequence.for_mode("mono")) == 5
    assert [round(frame.timestamp, 3) for frame in sequence.for_mode("rgbd")] == [100.0, 100.2, 100.3, 100.4]


def test_groundtruth_is_kept_whole_in_a_view(tmp_path: Path) -> None:
    view = open_sequence(make_tum(tmp_path))[2:3]
    assert view.groundtruth is not None and len(view.groundtruth) == 5
