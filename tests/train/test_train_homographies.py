"""Pairs from photographs: the transfer is what the pictures show, and says so only where they show it."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from slamfeat.errors import ConfigError, ImageError, InputError
from slamfeat.train.homographies import HomographyConfig, HomographyPairs, PlaneTransfer
from slamfeat.train.homography_views import render
from slamfeat.train.pairs import HIDDEN, UNKNOWN, VISIBLE, TrainingPair
from slamfeat.train.photometric import Photometric

SIZE = (320, 240)


def pixels(size: tuple[int, int] = SIZE) -> np.ndarray:
    x, y = np.meshgrid(np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64))
    return np.stack([x, y], -1).reshape(-1, 2)


def pairs_of(photo: np.ndarray, seed: int = 0, **settings: float) -> HomographyPairs:
    config = HomographyConfig(**{"width": SIZE[0], "height": SIZE[1], **settings})
    return HomographyPairs(lambda number: photo, 1, config, seed=seed)


def remaining_motion(pair: TrainingPair) -> np.ndarray:
    """Motion (N, 2), px, that is left between the first view and the second one fetched through the transfer.

    An affine field, by least squares on the brightness constancy equation, at the visible pixels of the first view.
    """
    first, second = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) for image in (pair.image0, pair.image1))
    moved = pair.transfer.forth(pixels())
    x, y = (moved.points[:, i].reshape(first.shape).astype(np.float32) for i in (0, 1))
    fetched = cv2.remap(second, x, y, cv2.INTER_CUBIC)
    first, fetched = (cv2.GaussianBlur(image, (0, 0), 2) for image in (first, fetched))
    gy, gx = np.gradient((first + fetched) / 2)
    visible = (moved.state == VISIBLE).reshape(first.shape).astype(np.uint8)
    kept = cv2.erode(visible, np.ones((15, 15), np.uint8)).reshape(-1) > 0
    basis = np.column_stack([np.ones(kept.sum()), (pixels()[kept] - 100) / 100])
    design = np.concatenate([gx.reshape(-1)[kept, None] * basis, gy.reshape(-1)[kept, None] * basis], 1)
    solution = np.linalg.lstsq(design, (first - fetched).reshape(-1)[kept], rcond=None)[0]
    return basis @ solution.reshape(2, 3).T


def test_the_transfer_is_the_motion_between_the_pictures(photo: np.ndarray) -> None:
    """Also where a view shrinks the photograph and where it enlarges it; 4.x of OpenCV rounds to 1/32 px."""
    source = pairs_of(photo, reflect=1.0, any_rotation=0.3)
    motions = [np.abs(remaining_motion(source.pair(i))).max() for i in range(12)]
    assert np.median(motions) < 0.03 and max(motions) < 0.1


def test_the_transfer_is_a_homography_and_goes_both_ways(photo: np.ndarray) -> None:
    for i in range(20):
        transfer = pairs_of(photo).pair(i).transfer
        points = np.random.default_rng(i).uniform(0, np.array(SIZE) - 1, (50, 2))
        there = transfer.forth(points)
        H, _ = cv2.findHomography(points[:10], there.points[:10])
        np.testing.assert_allclose(cv2.perspectiveTransform(points[None], H)[0], there.points, atol=1e-4)
        seen = there.state == VISIBLE
        again = transfer.back(there.points[seen])
        np.testing.assert_allclose(again.points, points[seen], atol=1e-6)
        assert (again.state == VISIBLE).all()
        outside = ((there.points < -0.5) | (there.points > np.array(SIZE) - 0.5)).any(1)
        assert (there.state[outside] != VISIBLE).all()


def test_what_lies_beyond_the_photograph_is_never_visible() -> None:
    """The photograph is of one colour, so that the pictures themselves show what is part of it."""
    colour = np.array([40, 200, 90], np.uint8)
    beyond = 0
    for i in range(20):
        pair = pairs_of(np.broadcast_to(colour, (200, 300, 3)).copy(), reflect=0.0).pair(i)
        for image, other, transferred in (
            (pair.image0, pair.image1, pair.transfer.forth(pixels())),
            (pair.image1, pair.image0, pair.transfer.back(pixels())),
        ):
            own = (image == colour).all(-1).reshape(-1)
            visible = transferred.state == VISIBLE
            assert own[visible].all()
            x, y = np.round(transferred.points[visible]).astype(int).T
            assert (other[y, x] == colour).all()
            deep = cv2.erode((~own).reshape(240, 320).astype(np.uint8), np.ones((15, 15))).reshape(-1) > 0
            assert (transferred.state[deep] == HIDDEN).all()
            beyond += deep.sum()
    assert beyond > 50_000


def test_mirrored_surroundings_are_unknown_where_noise_would_be_hidden(photo: np.ndarray) -> None:
    small, differing = cv2.resize(photo, (160, 120), interpolation=cv2.INTER_AREA), 0
    for i in range(10):
        mirrored, noisy = (pairs_of(small, reflect=share).pair(i) for share in (1.0, 0.0))
        first, second = (pair.transfer.forth(pixels()) for pair in (mirrored, noisy))
        np.testing.assert_array_equal(first.points, second.points)
        changed = first.state != second.state
        assert (first.state[changed] == UNKNOWN).all() and (second.state[changed] == HIDDEN).all()
        assert np.isin(first.state, (VISIBLE, HIDDEN, UNKNOWN)).all() and first.state.dtype == np.int8
        differing += changed.sum()
    assert differing > 10_000


def test_a_plane_behind_the_camera_is_hidden_with_finite_points() -> None:
    """The line x = 100 of the first view is the horizon; (150, 100) behind it would be at (0, 0) of the second."""
    H1 = np.array([[-1.0, 0, 150], [0, 1, -100], [-0.01, 0, 1]])
    transfer = PlaneTransfer(np.eye(3), H1, (200, 200), (200, 200), False)
    moved = transfer.forth(np.array([[150.0, 100.0], [100.0, 100.0], [20.0, 120.0]]))
    assert moved.state.tolist() == [HIDDEN, HIDDEN, VISIBLE] and np.isfinite(moved.points).all()


def scale_in_the_middle(H: np.ndarray) -> float:
    """Pixels of a view a pixel of the photograph in its middle, in the direction that tilt does not shorten."""
    middle = (np.array(SIZE) - 1) / 2
    around = middle + np.array([[0, 0], [0.01, 0], [0, 0.01]])
    here, right, below = cv2.perspectiveTransform(around[None], np.linalg.inv(H))[0]
    return 0.01 / np.linalg.svd(np.stack([right - here, below - here]))[1].min()


@pytest.mark.parametrize(("photo_size", "largest", "zoom"), [((768, 512), 2.0, 2.5), ((200, 150), 2.0, 5 / 3)])
def test_scales_stay_within_their_limits(photo_size: tuple[int, int], largest: float, zoom: float) -> None:
    photo = np.zeros((photo_size[1], photo_size[0], 3), np.uint8)
    least = 0.75 * max(SIZE[0] / photo_size[0], SIZE[1] / photo_size[1])
    transfers = [pairs_of(photo).pair(i).transfer for i in range(40)]
    scales = np.array([[scale_in_the_middle(t.H0), scale_in_the_middle(t.H1)] for t in transfers])
    assert scales.min() > least - 1e-3 and scales.max() < largest + 1e-3
    ratios = scales.max(1) / scales.min(1)
    assert ratios.max() < zoom + 1e-3 and ratios.max() > 0.8 * zoom
    assert (scales[:, 0] > scales[:, 1]).any() and (scales[:, 0] < scales[:, 1]).any()


def test_a_photograph_that_is_too_small_is_enlarged_rather_than_lost() -> None:
    transfer = pairs_of(np.zeros((64, 64, 3), np.uint8)).pair(0).transfer
    assert scale_in_the_middle(transfer.H0) == pytest.approx(0.75 * 320 / 64, rel=1e-3)


def test_shrinking_does_not_alias() -> None:
    """A checkerboard of single pixels, seen four times smaller, is even grey; sampled bilinearly alone it is not."""
    board = np.repeat(((np.indices((960, 1280)).sum(0) % 2) * 255).astype(np.uint8)[..., None], 3, 2)
    H = np.array([[0.23, 0.01, 3], [-0.02, 0.24, 5], [1e-5, 0, 1]])
    assert cv2.warpPerspective(board, H, SIZE, flags=cv2.INTER_LINEAR)[40:200, 40:280].std() > 20
    assert render(board, H, SIZE)[40:200, 40:280].std() < 4


def test_each_view_holds_a_share_of_the_other(photo: np.ndarray) -> None:
    for i in range(40):
        transfer = pairs_of(photo, least_overlap=0.3).pair(i).transfer
        for moved in (transfer.forth(pixels()), transfer.back(pixels())):
            assert (moved.state == VISIBLE).mean() > 0.25


def test_upright_and_turned_views(photo: np.ndarray) -> None:
    still = pairs_of(photo, upright_first=1.0, rotation_deg=0, tilt_deg=0, any_rotation=0).pair(3).transfer
    np.testing.assert_allclose(still.H1[[0, 1, 2, 2], [1, 0, 0, 1]], 0, atol=1e-12)
    turned = [pairs_of(photo, upright_first=1.0, tilt_deg=0, any_rotation=1.0).pair(i).transfer.H1 for i in range(60)]
    angles = np.degrees([np.arctan2(H[1, 0], H[0, 0]) for H in turned])
    assert angles.min() < -90 and angles.max() > 90


def test_a_pair_depends_on_its_number_alone(photo: np.ndarray, tmp_path: Path) -> None:
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(files[-1]), photo[number * 40 : number * 40 + 300])
    config = HomographyConfig(width=SIZE[0], height=SIZE[1])
    source = HomographyPairs.of_files(files, config, Photometric(), seed=7)
    other = pickle.loads(pickle.dumps(source))
    for _ in range(2):
        other.pair(1)
    first, second = source.pair(5), other.pair(5)
    np.testing.assert_array_equal(first.image0, second.image0)
    np.testing.assert_array_equal(first.image1, second.image1)
    np.testing.assert_array_equal(first.transfer.forth(pixels()).points, second.transfer.forth(pixels()).points)
    assert (first.image0 != HomographyPairs.of_files(files, config, Photometric(), seed=8).pair(5).image0).any()
    assert (first.image0 != source.pair(8).image0).any()
    assert first.image0.shape == first.image1.shape == (240, 320, 3) and first.image0.dtype == np.uint8
    assert first.K0 is None and first.T_1_0 is None and first.name == "homography 5 of photograph 2"


def test_errors() -> None:
    with pytest.raises(InputError, match="at least one photograph"):
        HomographyPairs.of_files([])
    with pytest.raises(ImageError, match=r"missing\.png"):
        HomographyPairs.of_files([Path("missing.png")]).pair(0)
    for settings in ({"width": 8}, {"tilt_deg": 60}, {"zoom": 0.5}, {"reflect": 1.5}, {"max_upsampling": 0}):
        with pytest.raises(ConfigError):
            HomographyConfig(**settings)


def test_a_photograph_that_cannot_be_read_gives_way_to_the_next(
    photo: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [tmp_path / f"{number}.jpg" for number in range(3)]
    for number, file in enumerate(files):
        cv2.imwrite(str(file), photo[number * 40 : number * 40 + 300])
    files[1].write_bytes(files[1].read_bytes()[:2000])
    source = HomographyPairs.of_files(files, HomographyConfig(width=SIZE[0], height=SIZE[1]))
    with caplog.at_level(logging.WARNING):
        pairs = [source.pair(index) for index in range(6)]
    assert [pair.name[-1] for pair in pairs] == ["0", "2", "2", "0", "2", "2"]
    assert caplog.text.count("1.jpg") == 1
    again = pickle.loads(pickle.dumps(source)).pair(4)
    np.testing.assert_array_equal(again.image0, pairs[4].image0)
