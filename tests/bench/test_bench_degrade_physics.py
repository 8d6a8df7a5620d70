"""Each degradation against its formula, computed here another way."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from slamfeat.bench.degrade import DEGRADATIONS, Shot
from slamfeat.bench.degrade.depth import fill_holes, street_depth
from slamfeat.bench.degrade.exposure import electrons, exposure_stops
from slamfeat.bench.degrade.fog import AIRLIGHT
from slamfeat.bench.degrade.motion import PLANE_DEPTH, blur_lengths
from slamfeat.bench.degrade.occlusion import blocks, covered
from slamfeat.bench.degrade.warp import source_pixels
from slamfeat.types import Camera, Trajectory

NARROW = Camera(640, 480, 20000.0, 20000.0, 319.5, 239.5)
"""So narrow that a turn shifts the whole picture alike."""


def decode(value: np.ndarray) -> np.ndarray:
    """SRGB 0..255 to linear 0..1, by the standard's formula."""
    v = np.asarray(value, np.float64) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def encode(light: np.ndarray) -> np.ndarray:
    """Linear 0..1 to sRGB 0..255, not rounded."""
    x = np.clip(light, 0, 1)
    return 255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def shot(name: str, amount: float, image: np.ndarray, **more: object) -> Shot:
    return Shot(image, more.pop("index", 0), more.pop("timestamp", 1.0), name, amount, 0, **more)  # type: ignore[arg-type]


def apply(taken: Shot) -> np.ndarray:
    return DEGRADATIONS[taken.name].apply(taken)


def grey(value: int) -> np.ndarray:
    return np.full((240, 320, 3), value, np.uint8)


@pytest.mark.parametrize("white", [30.0, 400.0])
def test_electrons_have_poissons_variance_plus_read_noise(white: float) -> None:
    light = np.full((400, 500), 0.4, np.float32)
    counted = electrons(light, white, np.random.default_rng(1))
    assert counted.mean() == pytest.approx(0.4 * white, rel=0.01)
    assert counted.var() == pytest.approx(0.4 * white + 2.5**2, rel=0.02)


def test_dark_picture_keeps_the_noise_and_the_limited_gain() -> None:
    """Read back from the 8-bit picture. Gain 10 brings 400 electrons to white; gain 16 leaves 100 at 0.4 of it."""
    for white, brightness in ((400, 1.0), (100, 0.4)):
        light = decode(apply(shot("darkness", white, grey(188))))
        mean = decode(np.array(188)) * white
        assert light.mean() == pytest.approx(mean / white * brightness, rel=0.01)
        assert (light / brightness * white).var() == pytest.approx(mean + 2.5**2, rel=0.05)


def test_flicker_and_gamma_change_between_frames() -> None:
    image = grey(100)
    stops = [exposure_stops(shot("flicker", 2, image, index=index)) for index in range(400)]
    steps = np.abs(np.diff(stops))
    assert steps.mean() == pytest.approx(2, rel=0.05) and steps.min() >= 1 and steps.max() <= 3
    for index in (0, 1):
        wanted = encode(decode(np.array(100)) * 2 ** stops[index])
        assert abs(int(apply(shot("flicker", 2, image, index=index))[0, 0, 0]) - wanted) <= 0.6
        power = 2.2 if index == 0 else 1 / 2.2
        wanted = 255 * (100 / 255) ** power
        assert abs(int(apply(shot("gamma", 2.2, image, index=index))[0, 0, 0]) - wanted) <= 0.51


def turning(shift_px: float) -> Trajectory:
    """A turn to the right that moves the picture of `NARROW` by so many pixels a second, from 0 to 2 s."""
    times = np.linspace(0, 2, 21)
    poses = np.tile(np.eye(4), (21, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(
        np.arctan(shift_px / NARROW.fx) * times[:, None] * np.array([0.0, 1.0, 0.0])
    ).as_matrix()
    return Trajectory(times, poses)


def test_blur_of_a_pure_turn_is_a_box(photo: np.ndarray) -> None:
    """9 px in 9 pictures: whole pixels, so that the mean of the warps is the box filter itself."""
    taken = shot("motion_blur", 1, photo, camera=NARROW, groundtruth=turning(9), interval=1.0)
    assert blur_lengths(taken) == pytest.approx(9, abs=0.05)
    wanted = encode(cv2.blur(decode(photo), (9, 1)))
    assert np.abs(apply(taken)[5:-5, 8:-8] - wanted[5:-5, 8:-8]).max() < 2.5
    assert np.abs(photo[5:-5, 8:-8] - wanted[5:-5, 8:-8]).max() > 50


def test_blur_trails_the_way_the_scene_moves() -> None:
    """At the start of the ground truth the path has only its later half: a turn to the right moves things left."""
    image = np.zeros((480, 640, 3), np.uint8)
    image[:, 320] = 255
    out = apply(shot("motion_blur", 1, image, timestamp=0.0, camera=NARROW, groundtruth=turning(9), interval=1.0))
    lit = np.flatnonzero(out[240, :, 0] > 60)
    assert (lit.min(), lit.max()) == (316, 320)
    assert decode(out[240, 320, 0]) == pytest.approx(5 / 9, abs=0.02)


def test_blur_length_of_a_sidestep_is_parallax() -> None:
    camera = Camera(320, 240, 300.0, 300.0, 159.5, 119.5)
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [0.0, 0.2, 0.4]
    truth = Trajectory(np.array([0.0, 1.0, 2.0]), poses)
    near = np.full((240, 320), 4.0, np.float32)
    for depth, metres in ((near, 4.0), (None, PLANE_DEPTH)):
        taken = shot("motion_blur", 0.5, grey(9), camera=camera, groundtruth=truth, interval=1.0, depth=depth)
        assert blur_lengths(taken) == pytest.approx(300 * 0.1 / metres, rel=1e-3)
    late = replace(taken, timestamp=2.5)
    assert blur_lengths(late) == 0 and apply(late) is late.image


def test_warp_agrees_with_the_camera_model() -> None:
    for dist in ((), (0.26, -0.95, -0.005, 0.003, 1.16), (0.1, 0.02, 0.001, -0.002, 0.01, 0.05, 0.02, 0.01)):
        camera = Camera(640, 480, 517.0, 516.0, 318.0, 255.0, dist)
        plane = np.random.default_rng(0).uniform(-0.4, 0.4, (50, 2))
        depth = np.linspace(1, 5, 50)
        motion = np.eye(4)
        motion[:3, :3] = Rotation.from_rotvec([0.02, -0.03, 0.05]).as_matrix()
        motion[:3, 3] = 0.05, -0.02, 0.1
        points = np.column_stack([plane, np.ones(50)]) * depth[:, None]
        wanted = camera.project(points @ motion[:3, :3].T + motion[:3, 3])
        found = source_pixels(camera, plane.T[:, None].astype(np.float32), (1 / depth[None]).astype(np.float32), motion)
        assert np.abs(np.stack(found, -1)[0] - wanted).max() < 2e-3


def test_defocus_spreads_a_point_over_a_disk_and_keeps_its_light() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    image[115:126, 155:166] = 255
    light = decode(apply(shot("defocus", 8, image)))[..., 0]
    assert light.sum() == pytest.approx(11 * 11, rel=0.02)
    spread = np.flatnonzero(light.sum(0) > 0)
    assert (spread.min(), spread.max()) == (151, 169), "radius 8 at 640 px is 4 px here"


def test_jpeg_is_opencvs(photo: np.ndarray) -> None:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 15])
    wanted = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.array_equal(apply(shot("jpeg", 15, photo)), wanted)


def test_fog_is_koschmieders_law(photo: np.ndarray) -> None:
    for depth, thickness in ((np.full(photo.shape[:2], 7.0, np.float32), 1.5), (None, None)):
        taken = shot("fog", 1.5, photo, depth=depth)
        street = street_depth(taken)
        beta_d = thickness if thickness else (1.5 * street / np.median(street))[..., None]
        wanted = encode(decode(photo) * np.exp(-beta_d) + AIRLIGHT * (1 - np.exp(-beta_d)))
        assert np.abs(apply(taken) - wanted).max() < 0.6
    assert street[240, 320] == street.max() > 10 * street[479, 320], "deepest at the horizon"


def test_holes_in_depth_are_filled_smoothly() -> None:
    y, x = np.mgrid[:120, :160]
    ramp = (2 + 0.01 * x + 0.005 * y).astype(np.float32)
    holed = ramp.copy()
    holed[40:70, 50:90] = 0
    filled = fill_holes(holed)
    assert np.array_equal(filled[holed > 0], ramp[holed > 0])
    assert np.abs(filled - ramp).max() < 0.15 and np.abs(np.diff(filled, axis=1)).max() < 0.08


def test_blocks_cover_the_share_and_move_on_their_own(photo: np.ndarray) -> None:
    for amount in (15, 35, 60):
        shares = [covered(shot("occlusion", amount, photo, index=index)).mean() for index in range(0, 300, 5)]
        assert 100 * np.mean(shares) == pytest.approx(amount, abs=4)
    taken = shot("occlusion", 35, photo, index=7)
    changed = (apply(taken) != photo).any(-1)
    mask = covered(taken)
    assert not changed[~mask].any() and changed[mask].mean() > 0.95
    assert len({block.velocity for block in blocks(35, 0, (640, 480))}) == len(blocks(35, 0, (640, 480))) > 3
    single = shot("occlusion", 2, photo)
    (block,) = blocks(2, 0, single.size)
    dx, dy = (round(s + 10 * v) - round(s) for s, v in zip(block.start, block.velocity, strict=True))
    later = replace(single, index=10)
    assert np.array_equal(np.roll(covered(single), (dy, dx), (0, 1)), covered(later))
    assert np.array_equal(np.roll(apply(single), (dy, dx), (0, 1))[covered(later)], apply(later)[covered(later)])


def test_texture_goes_and_outlines_stay() -> None:
    """A faint chequer on either side of a strong edge; the same for a monochrome camera as for a colour camera."""
    image = grey(60)
    image[:, 160:] = 200
    y, x = np.mgrid[:240, :320]
    image += (10 * ((x // 4 + y // 4) % 2)).astype(np.uint8)[..., None]
    tinted = image.copy()
    tinted[0, 0] = 90, 100, 80
    for picture in (image, tinted):
        out = apply(shot("low_texture", 10, picture)).astype(int)
        assert out[20:, 20:140].std() < 1.5 < image[20:, 20:140].std()
        assert out[20:, 161].mean() - out[20:, 158].mean() > 120
        assert out.mean() == pytest.approx(picture.mean(), abs=1)
