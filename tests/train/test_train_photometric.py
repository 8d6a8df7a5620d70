"""Photometric changes: each does what its name says, by amounts that can be worked out, and moves nothing."""

from __future__ import annotations

from dataclasses import fields

import cv2
import numpy as np
import pytest
import scipy.ndimage
import torch

from slamfeat.config import load_config
from slamfeat.errors import ConfigError
from slamfeat.train.blur import blur, disk_kernel, line_kernel
from slamfeat.train.photometric import CURVE, Effect, Photometric, PhotometricConfig

NAMES = [
    entry.name for entry in fields(PhotometricConfig) if isinstance(getattr(PhotometricConfig(), entry.name), Effect)
]
ALL = {
    name: Effect(1.0, effect.low, effect.high) for name, effect in vars(PhotometricConfig()).items() if name in NAMES
}


def only(name: str, amount: float) -> Photometric:
    """One change of one amount, always."""
    none = {other: Effect() for other in NAMES}
    return Photometric(PhotometricConfig(clean=0.0, **{**none, name: Effect(1.0, amount, amount)}))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def flat(value: int, size: tuple[int, int] = (200, 160)) -> np.ndarray:
    return np.full((size[1], size[0], 3), value, np.uint8)


def light(image: np.ndarray) -> np.ndarray:
    return (image / 255.0) ** CURVE


def shift_px(first: np.ndarray, second: np.ndarray, curve: float = CURVE) -> np.ndarray:
    """Translation (x, y) between two pictures in pixels: the slope of the phase of their cross-spectrum.

    In linear light (or coded values, at curve 1) and over waves longer than 40 px, which no blur here turns over.
    (OpenCV's phaseCorrelate looks for a peak among all waves: between sharp and blurred it is 0.05 px off.)
    """
    grey = [(image[..., 1] / 255.0) ** curve for image in (first, second)]
    window = cv2.createHanningWindow(grey[0].shape[::-1], cv2.CV_64F)
    spectra = [np.fft.fft2((image - image.mean()) * window) for image in grey]
    cross = np.conj(spectra[0]) * spectra[1]
    fy, fx = np.meshgrid(*(np.fft.fftfreq(side) for side in cross.shape), indexing="ij")
    kept = (np.hypot(fx, fy) < 1 / 40) & (np.hypot(fx, fy) > 0)
    waves, weights = -2 * np.pi * np.stack([fx[kept], fy[kept]], 1), np.sqrt(np.abs(cross[kept]))
    return np.linalg.lstsq(waves * weights[:, None], np.angle(cross[kept]) * weights, rcond=None)[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_change_gives_an_image_changes_it_and_depends_on_the_generator_alone(
    name: str, photo: np.ndarray
) -> None:
    change, before = only(name, ALL[name].high), photo.copy()
    torch.manual_seed(1)
    first = change(photo, rng(3))
    torch.manual_seed(2)
    np.testing.assert_array_equal(change(photo, rng(3)), first)
    np.testing.assert_array_equal(photo, before)
    assert first.shape == photo.shape and first.dtype == np.uint8 and first.flags.c_contiguous
    assert np.abs(first.astype(int) - photo).mean() > 1


def test_other_draws_give_other_images_and_all_at_once_gives_an_image(photo: np.ndarray) -> None:
    change = Photometric(PhotometricConfig(clean=0.0, **ALL))
    first, second = change(photo, rng(1)), change(photo, rng(2))
    assert first.shape == second.shape == photo.shape and (first != second).mean() > 0.5
    odd = change(photo[:123, :77], rng(1))
    assert odd.shape == (123, 77, 3)


def test_no_strength_or_clean_changes_nothing(photo: np.ndarray) -> None:
    for config in (PhotometricConfig(strength=0.0, **ALL), PhotometricConfig(clean=1.0, **ALL)):
        changed = Photometric(config)(photo, rng())
        np.testing.assert_array_equal(changed, photo)
        assert not np.shares_memory(changed, photo)


def test_a_change_of_next_to_nothing_keeps_every_value(photo: np.ndarray) -> None:
    """To linear light, out of it and to 8 bits is the identity by itself."""
    np.testing.assert_array_equal(only("exposure", 1e-9)(photo, rng()), photo)


@pytest.mark.parametrize(("name", "amount"), [("motion", 15.0), ("motion", 4.3), ("defocus", 3.5), ("defocus", 1.2)])
def test_blur_does_not_shift_the_image(name: str, amount: float, photo: np.ndarray) -> None:
    for seed in range(6):
        assert np.abs(shift_px(photo, only(name, amount)(photo, rng(seed)))).max() < 0.05


@pytest.mark.parametrize(("name", "amount"), [("resolution", 1.37), ("resolution", 2.0), ("jpeg", 75.0)])
def test_storing_does_not_shift_the_image(name: str, amount: float, photo: np.ndarray) -> None:
    assert np.abs(shift_px(photo, only(name, amount)(photo, rng()), curve=1)).max() < 0.05


def test_the_measure_of_shifts_sees_a_tenth_of_a_pixel(photo: np.ndarray) -> None:
    moved = scipy.ndimage.shift(photo.astype(np.float64), (-0.2, 0.1, 0), mode="nearest").clip(0, 255)
    np.testing.assert_allclose(shift_px(photo, moved), [0.1, -0.2], atol=0.02)


@pytest.mark.parametrize("length", [2.0, 7.5, 15.0])
@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 137.0])
def test_motion_spreads_a_point_along_its_way(length: float, degrees: float) -> None:
    """An even line of length L has variance L^2 / 12 along itself; bilinear drawing adds at most 1/4 a direction."""
    kernel = line_kernel(length, np.radians(degrees)).astype(np.float64)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    y, x = (np.arange(side) - side // 2 for side in kernel.shape)
    mean = [(kernel * x).sum(), (kernel * y[:, None]).sum()]
    np.testing.assert_allclose(mean, 0, atol=1e-6)
    along = x * np.cos(np.radians(degrees)) + y[:, None] * np.sin(np.radians(degrees))
    across = y[:, None] * np.cos(np.radians(degrees)) - x * np.sin(np.radians(degrees))
    assert length**2 / 12 - 0.02 <= (kernel * along**2).sum() <= (length**2 / 12) * 1.05 + 0.25
    assert (kernel * across**2).sum() <= 0.26


@pytest.mark.parametrize("radius", [0.7, 2.0, 3.5])
def test_defocus_is_an_even_disk(radius: float) -> None:
    """A disk of radius r has variance r^2 / 4 a direction; a pixel inside holds 1 / (pi r^2).

    Shares of pixels add about the variance of a pixel, 1 / 12.
    """
    kernel = disk_kernel(radius).astype(np.float64)
    np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])
    np.testing.assert_array_equal(kernel, kernel.T)
    x = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    assert (kernel * x**2).sum() - radius**2 / 4 == pytest.approx(1 / 12, abs=0.04)
    if radius > 1:
        assert kernel.max() == pytest.approx(1 / (np.pi * radius**2), rel=0.03)


def test_blur_is_the_mean_with_the_border_repeated() -> None:
    image = torch.from_numpy(rng().random((1, 3, 20, 30), dtype=np.float32))
    kernel = line_kernel(5.0, 0.4)
    rows, columns = kernel.shape
    padded = torch.nn.functional.pad(image, (columns // 2, columns // 2, rows // 2, rows // 2), mode="replicate")
    expected = torch.nn.functional.conv2d(padded.transpose(0, 1), torch.from_numpy(kernel)[None, None]).transpose(0, 1)
    torch.testing.assert_close(blur(image, kernel), expected, atol=1e-5, rtol=1e-5)


def test_exposure_multiplies_light_by_powers_of_two() -> None:
    ratios = {
        round(float((light(only("exposure", 1.0)(flat(100), rng(i))) / light(flat(100))).mean()), 1) for i in range(8)
    }
    assert ratios == {0.5, 2.0}


def test_white_balance_changes_channels_within_its_stops() -> None:
    gains = (
        np.array([light(only("white_balance", 0.5)(flat(120), rng(i)))[0, 0] for i in range(20)])
        / light(flat(120))[0, 0]
    )
    assert gains.min() > 2**-0.5 - 0.02 and gains.max() < 2**0.5 + 0.02
    assert np.ptp(gains, axis=1).max() > 0.3


def test_noise_has_its_amount_in_grey_levels() -> None:
    bright, mid = (only("noise", 6.0)(flat(value), rng())[..., 1].std() for value in (200, 110))
    assert bright == pytest.approx(6.0, rel=0.12) and mid == pytest.approx(6.0, rel=0.15)
    assert abs(only("noise", 6.0)(flat(128), rng()).mean() - 128) < 1


def test_night_is_dark_and_noisier_than_the_sensor_alone(photo: np.ndarray) -> None:
    night = only("night", 4.0)(photo, rng())
    assert night.mean() < 0.7 * photo.mean()
    assert only("night", 4.0)(flat(128), rng()).std() > 2


def test_vignetting_darkens_corners_by_its_share_and_leaves_the_middle() -> None:
    result = light(only("vignetting", 0.6)(flat(200, (201, 151)), rng())) / light(flat(200))[0, 0, 0]
    assert result[75, 100].min() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose([result[0, 0], result[-1, -1]], 0.4, atol=0.02)


def test_shadow_takes_its_share_inside_sharp_edges() -> None:
    sharp = 0
    for seed in range(12):
        ratio = (light(only("shadow", 0.75)(flat(200), rng(seed))) / light(flat(200)))[..., 0]
        assert ratio.min() >= 0.24 and ratio.max() <= 1.01
        sharp += ((ratio < 0.27) | (ratio > 0.99)).mean() > 0.97 and (ratio < 0.27).any() and (ratio > 0.99).any()
    assert sharp >= 3


def test_spots_brighten_and_light_varies_smoothly() -> None:
    spot = light(only("spot", 2.0)(flat(80, (320, 240)), rng(4)))[..., 0] / light(flat(80))[0, 0, 0]
    assert spot.max() == pytest.approx(4, rel=0.15) and spot.min() >= 0.98
    stops = np.log2(light(only("light", 1.0)(flat(100, (320, 240)), rng()))[..., 0] / light(flat(100))[0, 0, 0])
    assert np.abs(stops).max() < 1.05 and np.ptp(stops) > 0.5
    assert np.abs(np.diff(stops, axis=1)).max() < 0.1


def test_fog_lowers_contrast(photo: np.ndarray) -> None:
    assert only("fog", 0.6)(photo, rng())[..., 1].std() < 0.7 * photo[..., 1].std()


def test_grey_has_no_colour_and_saturation_changes_it(photo: np.ndarray) -> None:
    grey = only("grey", 1.0)(photo, rng()).astype(int)
    assert np.ptp(grey, axis=2).max() == 0
    np.testing.assert_allclose(grey[..., 0], cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), atol=2)
    coloured = [np.ptp(only("saturation", 0.6)(photo, rng(i)).astype(int), axis=2).mean() for i in range(8)]
    own = np.ptp(photo.astype(int), axis=2).mean()
    assert min(coloured) == pytest.approx(0.4 * own, rel=0.1) and max(coloured) > 1.2 * own


def test_gamma_contrast_and_clipping_keep_the_order_of_values() -> None:
    ramp = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (40, 1))[..., None], 3, axis=2)
    for name, amount in (("gamma", 0.7), ("contrast", 0.5), ("clipping", 0.4)):
        values = only(name, amount)(ramp, rng(1))[0, :, 0].astype(int)
        assert (np.diff(values) >= 0).all() and (values != np.arange(256)).mean() > 0.5
    middle = {int(only("gamma", 1.0)(flat(128), rng(i))[0, 0, 0]) for i in range(8)}
    assert middle == {round(255 * (128 / 255) ** 2), round(255 * (128 / 255) ** 0.5)}
    clipped = only("clipping", 0.4)(ramp, rng(1))[0, :, 0]
    assert ((clipped == 0) | (clipped == 255)).mean() == pytest.approx(0.4, abs=0.02)


def test_strength_multiplies_amounts() -> None:
    none = {name: Effect() for name in NAMES}
    config = PhotometricConfig(strength=0.5, clean=0.0, **{**none, "vignetting": Effect(1.0, 0.6, 0.6)})
    corner = light(Photometric(config)(flat(200), rng()))[0, 0, 0] / light(flat(200))[0, 0, 0]
    assert corner == pytest.approx(0.7, abs=0.02)


def test_changes_happen_as_often_as_configured() -> None:
    none = {name: Effect() for name in NAMES}
    change = Photometric(PhotometricConfig(clean=0.2, **{**none, "vignetting": Effect(0.5, 0.6, 0.6)}))
    image = flat(200, (40, 40))
    share = np.mean([(change(image, rng(i)) != image).any() for i in range(600)])
    assert share == pytest.approx(0.4, abs=0.06)


def test_config_is_read_and_checked() -> None:
    config = load_config(PhotometricConfig, overrides=["jpeg.probability=0.9", "strength=0.7", "night.high=3"])
    assert config.jpeg == Effect(0.9, 5.0, 75.0) and config.strength == 0.7 and config.night.high == 3
    for make in (
        lambda: Effect(1.5, 0, 1), lambda: Effect(0.5, 2, 1), lambda: Effect(0.5, 0, float("nan")),
        lambda: PhotometricConfig(strength=-1), lambda: PhotometricConfig(clean=2),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            make()
