"""Images in, fitted batches and exact pixel maps out."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slamfeat.errors import ConfigError, ImageError
from slamfeat.image import fit_to_patch, image_size, read_depth, read_image, resize, to_batch, to_gray
from slamfeat.types import Camera, PixelMap

sides = st.integers(32, 97)
policies = st.sampled_from(["pad", "crop", "resize"])


def coordinates(width: int, height: int) -> torch.Tensor:
    """An image whose red and green values are its own x and y (over 128, to stay in 0..1)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x / 128, y / 128, torch.zeros_like(x)])[None].float()


@given(sides, sides, st.sampled_from([14, 16, 28]), policies)
def test_fitted_sides_are_multiples_and_the_map_inverts(width: int, height: int, patch: int, policy: str) -> None:
    fitted, pixel_map = fit_to_patch(torch.rand(2, 3, height, width), patch, policy)
    assert fitted.shape[:2] == (2, 3)
    assert fitted.shape[2] % patch == 0 and fitted.shape[3] % patch == 0
    points = torch.rand(5, 2, dtype=torch.float64) * torch.tensor([width, height]) - 0.5
    back = pixel_map.inverse().apply(pixel_map.apply(points))
    assert torch.allclose(back, points, atol=1e-9)


@given(sides, sides, st.sampled_from([14, 16]), policies)
def test_map_says_where_each_fitted_pixel_came_from(width: int, height: int, patch: int, policy: str) -> None:
    """The content of a fitted pixel is the original's content at the mapped place: read off a ramp image."""
    fitted, pixel_map = fit_to_patch(coordinates(width, height), patch, policy)
    y, x = torch.meshgrid(torch.arange(fitted.shape[2]), torch.arange(fitted.shape[3]), indexing="ij")
    source = pixel_map.inverse().apply(torch.stack([x, y], -1).double())
    inside = ((source >= 2) & (source <= torch.tensor([width - 3.0, height - 3.0]))).all(-1)
    shown = fitted[0, :2].permute(1, 2, 0).double() * 128
    # The antialiasing triangle is cut at whole pixels, so a ramp comes back with a ripple, of at most
    # 0.0809 over all sides drawn here (39 to 32).
    assert torch.allclose(shown[inside], source[inside], atol=0.085 if policy == "resize" else 1e-5)


@given(sides, sides, policies, st.floats(50, 900), st.floats(-1, 1), st.floats(-1, 1))
def test_intrinsics_follow_the_pixels(width: int, height: int, policy: str, f: float, u: float, v: float) -> None:
    """Projecting with the mapped camera equals mapping the projection."""
    camera = Camera(width, height, f, 1.1 * f, width / 2.3, height / 1.9)
    fitted, pixel_map = fit_to_patch(torch.zeros(1, 3, height, width), 14, policy)
    mapped = camera.mapped(pixel_map, (fitted.shape[3], fitted.shape[2]))
    ray = np.array([[u, v, 1.0]])
    expected = pixel_map.apply(torch.from_numpy(camera.project(ray))).numpy()
    assert np.allclose(mapped.project(ray), expected, atol=1e-9)


@given(st.floats(0.2, 5), st.floats(-40, 40), st.floats(0.2, 5), st.floats(-40, 40))
def test_maps_compose(s: float, t: float, u: float, v: float) -> None:
    first, second = PixelMap((s, 2 * s), (t, -t)), PixelMap((u, u), (v, v / 2))
    points = torch.tensor([[0.0, 0.0], [13.5, -7.25]], dtype=torch.float64)
    assert torch.allclose(first.then(second).apply(points), second.apply(first.apply(points)), atol=1e-9)


def test_resize_agrees_with_opencv_about_pixel_centres() -> None:
    """A blurred dot keeps its centre where OpenCV's half-pixel rule puts it."""
    image = np.zeros((120, 160), np.float32)
    cv2.circle(image, (70, 50), 6, 1.0, -1)
    smooth = cv2.GaussianBlur(image, (0, 0), 3)
    ours, pixel_map = resize(torch.from_numpy(smooth)[None, None], (112, 98))
    y, x = np.mgrid[:98, :112]
    weight = ours[0, 0].numpy() / ours.sum().item()
    centre = np.array([(x * weight).sum(), (y * weight).sum()])
    assert np.allclose(centre, pixel_map.apply(torch.tensor([70.0, 50.0])).numpy(), atol=0.02)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_reads_what_opencv_wrote(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), photo[..., ::-1])
    assert np.abs(read_image(path).astype(int) - photo).mean() < (0.01 if suffix != ".jpg" else 3)


def test_every_kind_of_input_gives_the_same_batch(tmp_path: Path, photo: np.ndarray) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), photo[..., ::-1])
    planes = torch.from_numpy(photo).permute(2, 0, 1)
    forms = [path, str(path), photo, photo / np.float32(255), planes, planes[None].float() / 255]
    batches = [to_batch(form) for form in forms]
    assert all(torch.allclose(batch, batches[0], atol=1e-6) for batch in batches)
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    assert np.abs(to_gray(batches[0])[0, 0].numpy() * 255 - gray).max() < 1.01
    assert to_batch(gray).shape == batches[0].shape
    with_alpha = np.dstack([photo, np.zeros_like(gray)])
    assert torch.equal(to_batch(with_alpha), to_batch(photo))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((10, 10, 3), np.uint8), "10x10"),
        (np.zeros((40, 40, 2), np.uint8), "(40, 40, 2)"),
        (np.full((40, 40, 3), np.nan, np.float32), "NaN"),
        (np.full((40, 40, 3), 200.0, np.float32), "0..1"),
        (np.zeros((40, 40, 3), np.int32), "uint8 or float"),
        (torch.zeros(40, 40), "(B, 3, H, W)"),
        (torch.zeros(2, 5, 40, 40), "(B, 3, H, W)"),
        (torch.zeros(0, 3, 40, 40), "no images"),
    ],
)
def test_unusable_arrays_are_named(bad: object, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        to_batch(bad)  # type: ignore[arg-type]
    assert words in str(caught.value)


def _truncate(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_images_are_refused(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    cv2.imwrite(str(path), photo)
    _truncate(path, 0.6)
    with pytest.raises(ImageError, match=f"cut{suffix}.*truncated"):
        read_image(path)


def test_missing_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello, I am no image" * 10)
    for name in ("missing.png", "empty.png", "text.png"):
        with pytest.raises(ImageError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="check the path"):
        read_image(tmp_path)


def exif(orientation: int, order: str) -> bytes:
    """EXIF (a TIFF header with one entry) that says how a picture is turned."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return head + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".ppm"])
def test_size_is_that_of_the_array(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for picture in (photo[:300], photo[:400, :300]):
        cv2.imwrite(str(path), picture)
        assert image_size(path) == (picture.shape[1], picture.shape[0])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_size_follows_exif_as_reading_does(
    tmp_path: Path, photo: np.ndarray, suffix: str, orientation: int, order: str
) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), photo[:300])
    data, tiff = path.read_bytes(), exif(orientation, order)
    if suffix == ".jpg":
        segment = b"Exif\0\0" + tiff
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    else:
        chunk = b"eXIf" + tiff
        data = data[:33] + struct.pack(">I", len(tiff)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    path.write_bytes(data)
    height, width = read_image(path).shape[:2]
    assert image_size(path) == (width, height)
    if suffix == ".jpg":
        assert (width, height) == ((640, 300) if orientation < 5 else (300, 640)), "the test's own EXIF is read"


def test_size_of_pngs_and_jpegs_is_not_decoded(
    tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), photo)
    cv2.imwrite(str(tmp_path / "a.jpg"), photo, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])

    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", refuse)
    assert image_size(tmp_path / "a.png") == image_size(tmp_path / "a.jpg") == (640, 480)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_sizes_of_damaged_files(tmp_path: Path, photo: np.ndarray, name: str) -> None:
    cv2.imwrite(str(tmp_path / name), photo)
    data = (tmp_path / name).read_bytes()
    for stop in (0, 1, 4, 11, 20, 27):
        (tmp_path / name).write_bytes(data[:stop])
        with pytest.raises(ImageError, match=name):
            image_size(tmp_path / name)
    cv2.imwrite(str(tmp_path / name), photo[:31])
    with pytest.raises(ImageError, match="640x31 is too small"):
        image_size(tmp_path / name)
    with pytest.raises(ImageError, match=r"absent\.png: .*check the path"):
        image_size(tmp_path / "absent.png")


def test_depth_is_metres_and_zero_where_unknown(tmp_path: Path) -> None:
    stored = np.array([[0, 5000], [7500, 65535]], np.uint16)
    cv2.imwrite(str(tmp_path / "d.png"), stored)
    assert np.allclose(read_depth(tmp_path / "d.png", 5000), [[0, 1], [1.5, 13.107]])
    np.save(tmp_path / "d.npy", np.array([[np.nan, 2], [np.inf, -1]], np.float32))
    assert np.array_equal(read_depth(tmp_path / "d.npy", 1.0), [[0, 2], [0, 0]])
    cv2.imwrite(str(tmp_path / "rgb.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ImageError, match=r"rgb.png.*16-bit"):
        read_depth(tmp_path / "rgb.png", 5000)


def test_unknown_policy_and_too_small_for_a_cell() -> None:
    with pytest.raises(ConfigError, match="stretch"):
        fit_to_patch(torch.zeros(1, 3, 64, 64), 14, "stretch")  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="smaller than one cell"):
        fit_to_patch(torch.zeros(1, 3, 40, 40), 56, "crop")
