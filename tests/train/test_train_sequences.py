"""Pairs of sequences in miniature, and of the sample: which frames, which labels, what happens to broken ones."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from data.builders import SIZE, make_tartanair, make_tum, truncate

from slamfeat.data import open_sequence
from slamfeat.errors import ConfigError, ImageError, InputError
from slamfeat.geometry.se3 import make_pose
from slamfeat.train.pairs import HIDDEN, UNKNOWN, VISIBLE
from slamfeat.train.photometric import Photometric
from slamfeat.train.sequences import PosedDepthPairs, SequenceConfig, StereoPairs

# tx ty tz qx qy qz qw in TartanAir's axes: at rest, and 2 m forward.
FORWARD = np.array([[0, 0, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0, 1]])


def pixels(width: int, height: int) -> np.ndarray:
    """Every sixteenth pixel of every sixteenth row."""
    x, y = np.meshgrid(np.arange(0, width, 16), np.arange(0, height, 16))
    return np.stack([x, y], -1).reshape(-1, 2).astype(np.float64)


def test_pairs_of_the_sample(sample: Path) -> None:
    source = PosedDepthPairs(open_sequence(sample), SequenceConfig(max_gap=5), Photometric(), seed=3)
    later = PosedDepthPairs(open_sequence(sample), SequenceConfig(max_gap=5), Photometric(), seed=3)
    later.pair(0)
    first, again = source.pair(4), later.pair(4)
    np.testing.assert_array_equal(first.image0, again.image0)
    np.testing.assert_array_equal(first.image1, again.image1)
    points = pixels(640, 480)
    np.testing.assert_array_equal(first.transfer.forth(points).points, again.transfer.forth(points).points)
    assert first.K0 is None and first.T_1_0 is None  # the lens distorts
    shares = [(source.pair(i).transfer.forth(points).state == VISIBLE).mean() for i in range(6)]
    assert np.mean(shares) > 0.3
    assert len({source.pair(i).name for i in range(8)}) > 5
    assert all(1 <= abs(int(a) - int(b)) <= 5 for i in range(8) for a, b in [source.pair(i).name.split()[-3::2]])


def test_frames_whose_depth_was_taken_later_are_left_out(tmp_path: Path) -> None:
    root = make_tum(tmp_path / "seq", frames=6)
    for name in ("100.200000", "100.300000"):
        (root / f"depth/{name}.png").rename(root / f"depth/{float(name) + 0.01:.6f}.png")
        listed = (root / "depth.txt").read_text().replace(f"depth/{name}", f"depth/{float(name) + 0.01:.6f}")
        (root / "depth.txt").write_text(listed)
    loose = {frame for i in range(60) for frame in frames_of(root, i, max_depth_offset_s=0.02)}
    tight = {frame for i in range(60) for frame in frames_of(root, i)}
    assert loose == set(range(6)) and tight == {0, 1, 4, 5}


def frames_of(root: Path, index: int, **settings: float) -> tuple[int, int]:
    words = PosedDepthPairs(open_sequence(root), SequenceConfig(min_overlap=0.0, **settings)).pair(index).name.split()
    return int(words[-3]), int(words[-1])


def test_intrinsics_and_motion_of_a_lens_without_distortion(tmp_path: Path) -> None:
    """The miniature moves 0.1 m a frame to the right."""
    source = PosedDepthPairs(open_sequence(make_tum(tmp_path / "seq")), SequenceConfig(min_gap=2, max_gap=3))
    for i in range(10):
        pair = source.pair(i)
        first, second = int(pair.name.split()[-3]), int(pair.name.split()[-1])
        assert 2 <= abs(first - second) <= 3 and pair.T_1_0 is not None
        np.testing.assert_allclose(pair.T_1_0, make_pose(np.eye(3), [0.1 * (first - second), 0, 0]), atol=1e-9)
        np.testing.assert_allclose(pair.K0, [[50, 0, 31.5], [0, 51, 23.5], [0, 0, 1]])
        assert pair.image0.shape == (SIZE[1], SIZE[0], 3)


def test_partners_have_the_wanted_overlap(tmp_path: Path) -> None:
    """Depth of frame 0 is 1 m, of 64 px 5 go a frame: at 0.7 to 0.8 of overlap the gap is 3 (0.77) of at most 11."""
    root = make_tum(tmp_path / "seq", frames=12)
    for depth in (root / "depth").iterdir():
        cv2.imwrite(str(depth), np.full((SIZE[1], SIZE[0]), 5000, np.uint16))
    source = PosedDepthPairs(open_sequence(root), SequenceConfig(min_overlap=0.72, max_overlap=0.8))
    gaps = [np.abs(np.diff([int(word) for word in source.pair(i).name.split()[-3::2]])).item() for i in range(20)]
    assert set(gaps) == {3}


def test_frames_that_cannot_be_read_are_replaced_by_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_tum(tmp_path / "seq")
    source = PosedDepthPairs(open_sequence(root), SequenceConfig(min_overlap=0.0))
    truncate(sorted((root / "rgb").iterdir())[2])
    with caplog.at_level(logging.WARNING):
        names = [source.pair(i).name for i in range(20)]
    assert not any("2" in name.split()[-3::2] for name in names) and "100.200000.png" in caplog.text
    assert names == [source.pair(i).name for i in range(20)]
    for image in (root / "rgb").iterdir():
        if image.name != "100.200000.png":
            truncate(image)
    with pytest.raises(ImageError, match="truncated"):
        source.pair(0)


def test_tartanair_forward_motion(tmp_path: Path) -> None:
    """A wall 4 m ahead comes to 2 m: everything moves away from the principal point by a factor of two."""
    root = make_tartanair(tmp_path / "P000", FORWARD, np.full((480, 640), 4.0))
    np.save(root / "depth_left" / "000001_left_depth.npy", np.full((480, 640), 2.0, np.float32))
    source = PosedDepthPairs(open_sequence(root), SequenceConfig(min_overlap=0.0))
    pair = next(pair for pair in map(source.pair, range(20)) if pair.name.endswith("frames 0 and 1"))
    points = pixels(640, 480)
    moved = pair.transfer.forth(points)
    expected = (320, 240) + 2 * (points - (320, 240))
    np.testing.assert_allclose(moved.points, expected, atol=1e-4)
    within = ((expected >= -0.5) & (expected <= (639.5, 479.5))).all(1)
    np.testing.assert_array_equal(moved.state, np.where(within, VISIBLE, HIDDEN))
    np.testing.assert_allclose(pair.T_1_0, make_pose(np.eye(3), [0, 0, -2]), atol=1e-9)


@pytest.mark.parametrize("version", [1, 2])
def test_stereo_disparity(tmp_path: Path, version: int) -> None:
    """320 px * 0.25 m / 4 m = 20 px to the left in the right image."""
    height = 480 if version == 1 else 640
    sequence = open_sequence(make_tartanair(tmp_path / "P000", FORWARD, np.full((height, 640), 4.0), version))
    source, orders = StereoPairs(sequence), set()
    points = pixels(640, height)
    for i in range(4):
        pair = source.pair(i)
        assert pair.T_1_0 is not None and pair.K0 is not None
        sign = round(float(pair.T_1_0[0, 3]) / 0.25)
        orders.add(sign)
        moved = pair.transfer.forth(points)
        known = moved.state != UNKNOWN
        np.testing.assert_allclose(moved.points[known], points[known] + (sign * 20, 0), atol=1e-4)
        inside = (moved.points[:, 0] >= 0) & (moved.points[:, 0] < 639)
        assert (moved.state[known & inside] == VISIBLE).all() and known[inside].mean() > 0.95
        np.testing.assert_array_equal(source.pair(i).image1, pair.image1)
    assert orders == {-1, 1}


def test_errors(tmp_path: Path) -> None:
    root = make_tum(tmp_path / "seq")
    with pytest.raises(InputError, match="no two of 5 frames"):
        PosedDepthPairs(open_sequence(root), SequenceConfig(min_gap=5))
    with pytest.raises(InputError, match="no right camera"):
        StereoPairs(open_sequence(root))
    (root / "groundtruth.txt").unlink()
    with pytest.raises(InputError, match="no ground truth"):
        PosedDepthPairs(open_sequence(root))
    with pytest.raises(InputError, match="no rgbd data"):
        PosedDepthPairs(open_sequence(make_tum(tmp_path / "mono", depth=False)))
    for settings in ({"min_gap": 0}, {"min_gap": 9, "max_gap": 3}, {"min_overlap": 0.9, "max_overlap": 0.5}):
        with pytest.raises(ConfigError):
            SequenceConfig(**settings)


def test_a_stereo_frame_that_cannot_be_read_gives_way_to_the_next(tmp_path: Path) -> None:
    root = make_tartanair(tmp_path / "P000", FORWARD, np.full((480, 640), 4.0))
    source = StereoPairs(open_sequence(root))
    truncate(sorted((root / "image_right").iterdir())[0])
    assert {source.pair(index).name for index in range(4)} == {source.pair(1).name}
    truncate(sorted((root / "image_right").iterdir())[1])
    with pytest.raises(ImageError):
        source.pair(0)
