"""Degraded sequences: the same bytes always, rising strengths, and what odometry needs of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from slamfeat.bench.degrade import DEGRADATIONS, covered_share, degrade, mean_blur_px, psnr
from slamfeat.bench.registry import build_frontend
from slamfeat.data import Sequence, open_sequence
from slamfeat.errors import InputError
from slamfeat.vo import OdometryConfig
from slamfeat.vo.run import run_odometry
from slamfeat.vo.setup import build_odometry

NAMES = [
    "darkness", "flicker", "gamma", "motion_blur", "defocus", "jpeg", "fog", "occlusion", "low_texture", "frame_drops",
]  # fmt: skip


@pytest.fixture(scope="module")
def rgbd(sample: Path) -> Sequence:
    """Some frames of the sample."""
    return open_sequence(sample).for_mode("rgbd")[10:22]


def test_there_are_ten_with_three_strengths_each() -> None:
    assert list(DEGRADATIONS) == NAMES
    for name, item in DEGRADATIONS.items():
        assert item.name == name and len(item.amounts) == 3 and item.unit and item.about.endswith(".")
        assert list(item.amounts) == sorted(item.amounts, reverse=name in ("darkness", "jpeg"))


@pytest.mark.parametrize("name", NAMES)
def test_bytes_depend_on_nothing_but_the_arguments(rgbd: Sequence, name: str) -> None:
    """A frame asked for alone, after others, or backwards is the frame of a pass in order."""
    amount = DEGRADATIONS[name].amounts[1]
    part = rgbd[:5]
    frames = list(degrade(part, name, amount, seed=3))
    again = degrade(part, name, amount, seed=3)
    for frame in reversed(frames):
        alone = again[frame.index]
        assert np.array_equal(alone.image, frame.image)
        assert alone.timestamp == frame.timestamp and np.array_equal(alone.depth, frame.depth)


@pytest.mark.parametrize("name", ["darkness", "flicker", "occlusion"])
def test_seeds_and_frames_differ(rgbd: Sequence, name: str) -> None:
    amount = DEGRADATIONS[name].amounts[1]
    one, other = degrade(rgbd, name, amount, 0), degrade(rgbd, name, amount, 1)
    assert not np.array_equal(one[0].image, other[0].image)
    # Noise on one and the same picture must not repeat from frame to frame.
    apply, shot = DEGRADATIONS[name].apply, one.shot(2)
    later = one.shot(4)
    same_picture = type(shot)(**{**vars(shot), "index": later.index})
    assert not np.array_equal(apply(shot), apply(same_picture))


@pytest.mark.parametrize("name", NAMES[:-1])
def test_strength_rises(rgbd: Sequence, name: str) -> None:
    for index in (3, 8):
        quality = [
            psnr(degrade(rgbd, name, amount)[index].image, rgbd[index].image) for amount in DEGRADATIONS[name].amounts
        ]
        assert 45 > quality[0] > quality[1] + 0.5 and quality[1] > quality[2] + 0.5, quality


def test_measures_follow_the_amount(rgbd: Sequence) -> None:
    blur = [mean_blur_px(degrade(rgbd, "motion_blur", amount), 6) for amount in (0.5, 1, 2)]
    assert blur[1] == pytest.approx(2 * blur[0], rel=0.2) and blur[2] == pytest.approx(2 * blur[1], rel=0.2)
    shares = [covered_share(degrade(rgbd, "occlusion", 35), index) for index in range(len(rgbd))]
    assert np.mean(shares) == pytest.approx(0.35, abs=0.06)
    with pytest.raises(InputError, match="degraded by occlusion; only motion_blur"):
        mean_blur_px(degrade(rgbd, "occlusion", 35), 0)


def test_drops_keep_the_first_frame_and_the_share(sample: Path) -> None:
    whole = open_sequence(sample).for_mode("rgbd")
    for amount in DEGRADATIONS["frame_drops"].amounts:
        left = degrade(whole, "frame_drops", amount, seed=5)
        assert left.dropped == round(len(whole) * amount / 100) and len(left) == len(whole) - left.dropped
        assert len(left.timestamps) == len(left) == len(left.records)
        kept = np.searchsorted(whole.timestamps, left.timestamps)
        assert kept[0] == 0 and np.array_equal(whole.timestamps[kept], left.timestamps)
        gaps = set(np.diff(kept))
        assert len(gaps - {1}) >= 2, "single drops and bursts"
    last = left[len(left) - 1]
    assert last.index == len(left) - 1 and np.array_equal(last.image, whole[int(kept[-1])].image)
    other = degrade(whole, "frame_drops", 60, seed=6)
    assert not np.array_equal(other.timestamps, degrade(whole, "frame_drops", 60, seed=5).timestamps)


def test_depth_is_used_in_every_mode_but_never_changed(sample: Path) -> None:
    whole = open_sequence(sample)
    mono, rgbd = (degrade(whole.for_mode(mode)[:2], "fog", 1.5) for mode in ("mono", "rgbd"))
    assert mono[1].depth is None and rgbd[1].path == mono[1].path
    assert np.array_equal(mono[1].image, rgbd[1].image)
    assert np.array_equal(rgbd[1].depth, whole.for_mode("rgbd")[1].depth)


def test_unreadable_frames_are_skipped_as_in_any_sequence(sample: Path, tmp_path: Path) -> None:
    for index, path in enumerate(sorted((sample / "rgb").iterdir())[:4]):
        shutil.copy(path, tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:5000])
    plain = open_sequence(tmp_path)
    worse = degrade(plain, "darkness", 100)
    assert [frame.index for frame in worse] == [0, 1, 3] == [frame.index for frame in plain]
    assert worse.skipped == plain.skipped and len(worse.skipped) == 1
    assert not worse.has_camera and worse.groundtruth is None
    assert np.array_equal(degrade(plain, "motion_blur", 1)[0].image, plain[0].image), "sharp without ground truth"
    for index in (0, 1, 3):
        (tmp_path / f"{index}.png").write_bytes(b"")
    with pytest.raises(InputError, match="none of 4 frames can be used"):
        list(degrade(open_sequence(tmp_path), "jpeg", 5))


@pytest.mark.shared
def test_both_eyes_are_degraded(shared: Path) -> None:
    pairs = open_sequence(shared / "data" / "kitti" / "00_first11_stereo").for_mode("stereo")
    clean, noisy, bright = pairs[0], degrade(pairs, "darkness", 30)[0], degrade(pairs, "flicker", 2)
    assert clean.right is not None and noisy.right is not None
    assert psnr(noisy.right, clean.right) < 15
    assert (noisy.image[..., 0] == noisy.image[..., 2]).all(), "a monochrome camera stays monochrome"
    grey = type(bright.shot(0))(**{**vars(bright.shot(0)), "eye": 1})
    assert np.array_equal(bright[0].image, DEGRADATIONS["flicker"].apply(grey)), "one exposure for both"
    dark = degrade(pairs, "darkness", 30).shot(0)
    other = type(dark)(**{**vars(dark), "eye": 1})
    assert not np.array_equal(noisy.image, DEGRADATIONS["darkness"].apply(other)), "noise of its own"
    assert bright.rig == pairs.rig and bright.right_camera == pairs.right_camera
    assert bright.modes == pairs.modes and bright.baseline == pairs.baseline


def test_odometry_runs_over_it(rgbd: Sequence) -> None:
    for name, amount in (("jpeg", 40), ("frame_drops", 30)):
        worse = degrade(rgbd, name, amount)
        odometry = build_odometry(build_frontend("orb", 500), worse, "rgbd", "auto", OdometryConfig())
        result = run_odometry(worse, odometry)
        assert result.total == len(worse) == result.tracked
        assert result.metrics is not None and result.metrics.ate_rmse_m < 0.05


def test_wrong_words_say_what_to_do(rgbd: Sequence) -> None:
    with pytest.raises(InputError, match="unknown degradation 'rain'; use one of darkness, flicker"):
        degrade(rgbd, "rain", 1)
    with pytest.raises(InputError, match=r"jpeg: amount 0 must lie in 1 to 100 \(JPEG quality\)"):
        degrade(rgbd, "jpeg", 0)
    with pytest.raises(InputError, match="amount nan"):
        degrade(rgbd, "fog", float("nan"))
    with pytest.raises(InputError, match="seed -1"):
        degrade(rgbd, "fog", 1, seed=-1)
    with pytest.raises(InputError, match="slice before degrading"):
        degrade(rgbd, "fog", 1)[1:3]
    with pytest.raises(InputError, match="choose the mode before"):
        degrade(rgbd, "fog", 1).for_mode("mono")
    with pytest.raises(InputError, match="has no right image"):
        degrade(rgbd, "fog", 1).shot(0, eye=1)
