"""The two ways from an image to the frontend's input agree: OpenCV on the CPU, torch elsewhere."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from slamfeat.errors import ImageError
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.pixels import ArrayPixels, Pixels, TensorPixels, load_pixels
from slamfeat.frontend.selector import SelectorConfig, saliency_map
from slamfeat.image import to_batch
from slamfeat.types import Features


@pytest.mark.parametrize("policy", ["crop", "pad", "resize"])
@pytest.mark.parametrize("cell", [14, 28, 42])
def test_opencv_and_torch_agree(photo: np.ndarray, policy: str, cell: int) -> None:
    image = np.ascontiguousarray(photo[:451, :603])
    arrays = ArrayPixels([image], cell, policy)
    tensors = TensorPixels(to_batch(image), cell, policy)
    assert (arrays.gray.int() - tensors.gray.int()).abs().max() <= 1
    (fitted, map0), (expected, map1) = arrays.fitted(), tensors.fitted()
    assert map0 == map1 and fitted.shape == expected.shape
    # Resampling filters differ (area means against antialiased bilinear); crops and pads do not.
    difference = (fitted.int() - expected.int()).abs()
    assert difference.float().mean() <= 3 if policy == "resize" else difference.max() <= 1
    size = (fitted.shape[-1] // cell * 14, fitted.shape[-2] // cell * 14)
    (small, map0), (expected, map1) = arrays.small(size), tensors.small(size)
    assert map0 == map1 and small.shape == expected.shape == (1, 3, size[1], size[0])
    assert (small - expected).abs().mean() < (0.015 if policy == "resize" else 1.5 / 255)
    assert small.min() >= 0 and small.max() <= 1


def test_saliency_by_opencv_is_saliency_by_torch(photo: np.ndarray) -> None:
    gray = load_pixels(photo, torch.device("cpu"), 28, "crop").fitted()[0]
    config = SelectorConfig()
    assert torch.allclose(saliency_map(gray, config), saliency_map(gray.float() / 255, config), atol=1e-5)


def test_kinds_of_images_are_one_image(photo: np.ndarray) -> None:
    tensor = torch.from_numpy(photo).permute(2, 0, 1)
    kinds = [photo, np.dstack([photo, photo[..., :1]]), tensor, tensor[None].float() / 255]
    small = [load_pixels(kind, torch.device("cpu"), 28, "crop").small((140, 98))[0] for kind in kinds]
    assert all(torch.equal(other, small[0]) for other in small[1:])
    gray = load_pixels(photo[..., 0], torch.device("cpu"), 28, "crop").gray
    assert np.array_equal(gray[0, 0].numpy(), photo[..., 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_stay_bytes(photo: np.ndarray, channels: int) -> None:
    """With and without a batch, as the same levels in floats."""
    planes = torch.from_numpy(photo).permute(2, 0, 1)[:channels]
    device = torch.device("cpu")
    expected = load_pixels(planes[None].float() / 255, device, 28, "crop")
    for form in (planes, planes[None]):
        pixels = load_pixels(form, device, 28, "crop")
        assert torch.equal(pixels.gray, expected.gray)
        assert torch.equal(pixels.small((140, 98))[0], expected.small((140, 98))[0])


@pytest.mark.parametrize("bad", [torch.zeros(0, 3, 64, 64), torch.zeros(2, 64, 64), torch.zeros(3, 20, 64)])
def test_unusable_tensors_are_named_whatever_their_type(bad: torch.Tensor) -> None:
    for form in (bad, bad.to(torch.uint8)):
        with pytest.raises(ImageError, match="image tensor"):
            load_pixels(form, torch.device("cpu"), 28, "crop")


def test_arrays_that_cannot_be_written_give_no_warning(photo: np.ndarray) -> None:
    """At one pixel of the image to one of the backbone's nothing is resampled, and the array itself comes through."""
    image = photo[:462, :630].copy()
    image.setflags(write=False)
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # else torch says it once a process, perhaps in an earlier test
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pixels = load_pixels(image, torch.device("cpu"), 14, "crop")
            small = pixels.small((630, 462))[0]
    finally:
        torch.set_warn_always(always)
    assert torch.equal((small[0] * 255).round().byte().permute(1, 2, 0), torch.from_numpy(image.copy()))


def features_by(
    kind: str, image: torch.Tensor, fit: str, mask: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> Features:
    """What the frontend extracts with the pixels of the CPU ("arrays") or of other devices ("tensors")."""

    def as_tensors(image: torch.Tensor, device: torch.device, cell: int, policy: str) -> Pixels:
        return TensorPixels(to_batch(image).to(device), cell, policy)  # type: ignore[arg-type]

    config = FrontendConfig(fit=fit, num_keypoints=500)
    frontend = Frontend.from_pretrained("default", config=config, engine="torch", precision="fp32")
    with monkeypatch.context() as patched:
        if kind == "tensors":
            patched.setattr("slamfeat.frontend.frontend.load_pixels", as_tensors)
        return frontend.extract(image, mask=mask)


@pytest.mark.parametrize(("fit", "masked"), [("crop", False), ("pad", True)])
def test_features_are_the_same_on_other_devices(
    photo: np.ndarray, fit: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of two, through what images go through off the CPU."""
    views = (photo[:451, :603], photo[29:, 37:])
    image = torch.stack([torch.from_numpy(view.copy()).permute(2, 0, 1) for view in views]).float() / 255
    mask = np.zeros(views[0].shape[:2], np.uint8)
    mask[100:, 200:] = 1
    arrays, tensors = (
        features_by(kind, image, fit, mask if masked else None, monkeypatch) for kind in ("arrays", "tensors")
    )
    for b in range(2):
        (there,) = arrays.mask[b].nonzero(as_tuple=True)
        (other,) = tensors.mask[b].nonzero(as_tuple=True)
        distance = torch.cdist(arrays.keypoints[b, there], tensors.keypoints[b, other])
        nearest, which = distance.min(1)
        same = nearest < 0.1
        assert len(there) > 100 and same.float().mean() > 0.9
        cosine = (arrays.descriptors[b, there] * tensors.descriptors[b, other[which]]).sum(1)[same]
        assert cosine.mean() > 0.99 and cosine.min() > 0.9
        if masked:
            x, y = tensors.keypoints[b, other].unbind(1)
            assert x.min() >= 199 and y.min() >= 99 and x.max() <= 602.5 and y.max() <= 450.5
