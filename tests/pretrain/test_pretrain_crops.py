"""Windows and their light: ranges, determinism, and the formulas of the usual augmentations."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slamfeat.errors import ConfigError
from slamfeat.pretrain.crops import CropConfig, draw_window, make_crops
from slamfeat.pretrain.light import COLUMNS, LightConfig, apply_light, draw_light

NEUTRAL = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0}


def light(**amounts: float) -> torch.Tensor:
    return torch.tensor([[{**dict.fromkeys(COLUMNS, 0.0), **NEUTRAL, **amounts}[name] for name in COLUMNS]])


def lit(photo: np.ndarray, **amounts: float) -> np.ndarray:
    crop = torch.from_numpy(photo[:96, :96]).permute(2, 0, 1)[None]
    return apply_light(crop, light(**amounts))[0].permute(1, 2, 0).numpy()


def grey(image: np.ndarray) -> np.ndarray:
    return image @ np.array([0.299, 0.587, 0.114])


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(32, 900), st.integers(32, 900)), st.floats(0.05, 1), st.floats(0.0, 1), st.floats(1, 2),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_a_window_lies_in_the_image(
    size: tuple[int, int], most: float, share: float, aspect: float, seed: int
) -> None:  # fmt: skip
    least = max(most * share, 0.02)
    x, y, w, h = draw_window(size, (min(least, most), most), aspect, np.random.default_rng(seed))
    assert x >= 0 and y >= 0 and w >= 1 and h >= 1 and x + w <= size[0] and y + h <= size[1]
    slack = 1 + 1 / min(w, h)  # sides are whole pixels
    assert max(w / h, h / w) <= aspect * slack**2 or min(size) / max(size) < 1 / aspect


def test_areas_are_even_over_their_range() -> None:
    rng = np.random.default_rng(0)
    areas = np.array([np.prod(draw_window((640, 480), (0.05, 0.32), 4 / 3, rng)[2:]) for _ in range(4000)])
    quantiles = np.quantile(areas / (640 * 480), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(quantiles, 0.05 + 0.27 * np.array([0.1, 0.5, 0.9]), atol=0.01)


def test_crops_of_a_batch(photo: np.ndarray) -> None:
    config = CropConfig(global_size=56, local_size=28, local_count=3)
    images = [photo, photo[:200, :300]]

    def made(seed: int) -> dict[str, torch.Tensor]:
        return make_crops(images, config, [np.random.default_rng([seed, i]) for i in range(2)])

    first, again, other = made(0), made(0), made(1)
    assert {name: tuple(value.shape) for name, value in first.items()} == {
        "global": (4, 3, 56, 56), "global_light": (4, 8), "local": (6, 3, 28, 28), "local_light": (6, 8),
    }  # fmt: skip
    assert first["global"].dtype == torch.uint8
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["global"], other["global"])
    # The order is by view: an image alone has its crops at the same places of every view.
    alone = make_crops(images[:1], config, [np.random.default_rng([0, 0])])
    assert torch.equal(alone["global"], first["global"][[0, 2]])
    assert torch.equal(alone["local"], first["local"][[0, 2, 4]])


def test_each_kind_has_windows_of_its_own_scale() -> None:
    """Where colours say the place, a crop's range of them says its width and height."""
    ramp = np.arange(256, dtype=np.uint8)
    image = np.stack([np.broadcast_to(ramp, (256, 256)), np.broadcast_to(ramp[:, None], (256, 256))] * 2, -1)[..., :3]
    config = CropConfig(56, 28, local_count=2, global_scale=[0.6, 0.6], local_scale=[0.1, 0.1])
    batch = make_crops([np.ascontiguousarray(image)], config, [np.random.default_rng(0)])
    for kind, share in (("global", 0.6), ("local", 0.1)):
        sides = batch[kind][:, :2].flatten(2).float()
        areas = (sides.amax(2) - sides.amin(2)).prod(1) / 256**2
        torch.testing.assert_close(areas, torch.full_like(areas, share), atol=0, rtol=0.12)


def test_the_defaults_are_the_papers() -> None:
    """DINOv2's ssl_default_config, at patch 14."""
    plain = CropConfig()
    assert (plain.global_size, plain.local_size, plain.local_count, plain.flip) == (224, 98, 8, 0.5)
    assert (tuple(plain.global_scale), tuple(plain.local_scale)) == ((0.32, 1.0), (0.05, 0.32))


def test_a_crop_shows_its_window(photo: np.ndarray) -> None:
    config = CropConfig(global_size=112, local_count=0, global_scale=[1.0, 1.0], flip=0.0)
    square = photo[:448, :448]
    crop = make_crops([square], config, [np.random.default_rng(0)])["global"][0].permute(1, 2, 0).numpy()
    expected = cv2.resize(square, (112, 112), interpolation=cv2.INTER_AREA)
    assert np.abs(crop.astype(float) - expected).mean() < 3
    mirrored = make_crops(
        [square], CropConfig(112, local_count=0, global_scale=[1.0, 1.0], flip=1.0), [np.random.default_rng(0)]
    )
    np.testing.assert_array_equal(mirrored["global"][0].permute(1, 2, 0).numpy(), crop[:, ::-1])


def test_light_is_by_the_usual_formulas(photo: np.ndarray) -> None:
    """Torchvision's, written out."""
    image = photo[:96, :96] / 255.0
    np.testing.assert_allclose(lit(photo), image, atol=1e-6)
    np.testing.assert_allclose(lit(photo, brightness=1.3), np.clip(image * 1.3, 0, 1), atol=1e-6)
    mean = grey(image).mean()
    np.testing.assert_allclose(lit(photo, contrast=0.7), np.clip(0.7 * image + 0.3 * mean, 0, 1), atol=1e-3)
    washed = np.clip(1.2 * image - 0.2 * grey(image)[..., None], 0, 1)
    np.testing.assert_allclose(lit(photo, saturation=1.2), washed, atol=1e-3)
    np.testing.assert_allclose(lit(photo, grey=1), np.repeat(grey(image)[..., None], 3, -1), atol=1e-3)
    np.testing.assert_allclose(lit(photo, solarise=1), np.where(image >= 0.5, 1 - image, image), atol=1e-6)
    blurred = cv2.GaussianBlur(image, (9, 9), 1.5, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(lit(photo, sigma=1.5), blurred, atol=1e-5)
    turned = lit(photo, hue=0.1)
    for row, column in [(5, 7), (40, 80), (90, 30)]:
        h, s, v = colorsys.rgb_to_hsv(*image[row, column])
        np.testing.assert_allclose(turned[row, column], colorsys.hsv_to_rgb((h + 0.1) % 1, s, v), atol=2e-3)


def test_every_crop_has_its_own_order(photo: np.ndarray) -> None:
    """Where brightness cuts off, contrast before it is another picture; both orders occur among the 24."""
    rows = torch.cat([light(brightness=4.0, contrast=0.6, order=order) for order in range(24)])
    crop = torch.from_numpy(photo[-64:, -64:]).permute(2, 0, 1)[None].expand(24, -1, -1, -1)
    found = apply_light(crop, rows)
    image = torch.from_numpy(photo[-64:, -64:] / 255.0).permute(2, 0, 1).float()

    def contrast(x: torch.Tensor) -> torch.Tensor:
        return (0.6 * x + 0.4 * float(grey(x.permute(1, 2, 0).numpy()).mean())).clamp(0, 1)

    first, second = contrast((image * 4).clamp(0, 1)), (contrast(image) * 4).clamp(0, 1)
    kinds = [int((one - second).abs().max() < 2e-3) - int((one - first).abs().max() < 2e-3) for one in found]
    assert sorted(kinds) == [-1] * 12 + [1] * 12


def test_light_is_drawn_as_often_as_asked() -> None:
    rng, config = np.random.default_rng(0), LightConfig()
    drawn = np.stack([draw_light(config, "global", 1, rng) for _ in range(4000)])
    values = dict(zip(COLUMNS, drawn.T, strict=True))
    assert abs((values["brightness"] != 1).mean() - 0.8) < 0.03
    assert abs((values["grey"] > 0).mean() - 0.2) < 0.03
    assert abs((values["sigma"] > 0).mean() - 0.1) < 0.03
    assert abs((values["solarise"] > 0).mean() - 0.2) < 0.03
    assert values["brightness"].min() >= 0.6 and values["brightness"].max() <= 1.4
    assert np.abs(values["hue"]).max() <= 0.1 and set(values["order"]) == set(range(24))
    first = np.stack([draw_light(config, "global", 0, rng) for _ in range(200)])
    local = np.stack([draw_light(config, "local", 5, rng) for _ in range(2000)])
    assert (first[:, 5] > 0).all() and not first[:, 6].any() and not local[:, 6].any()
    assert abs((local[:, 5] > 0).mean() - 0.5) < 0.05


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"global_scale": [0.5, 0.2]}, "global_scale"), ({"local_count": -1}, "local_count"),
        ({"aspect": 0.5}, "aspect"), ({"flip": 2.0}, "flip"),
    ],
)  # fmt: skip
def test_settings_that_are_none(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CropConfig(**wrong)  # type: ignore[arg-type]


def test_sizes_must_fit_the_patch() -> None:
    with pytest.raises(ConfigError, match=r"global_size=220 is no multiple of the patch, 14; use 224"):
        CropConfig(global_size=220).check_patch(14)
    for wrong in ({"jitter": 1.2}, {"hue": 0.7}, {"sigma": [0.0, 2.0]}, {"brightness": 1.5}):
        with pytest.raises(ConfigError):
            LightConfig(**wrong)  # type: ignore[arg-type]
