"""The two ways from an image to the frontend's input agree: OpenCV on the CPU, torch elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slamfeat.frontend.pixels import ArrayPixels, TensorPixels, load_pixels
from slamfeat.frontend.selector import SelectorConfig, saliency_map
from slamfeat.image import to_batch


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
    assert (fitted.int() - expected.int()).abs().float().mean() <= (3 if policy == "resize" else 1)
    size = (fitted.shape[-1] // cell * 14, fitted.shape[-2] // cell * 14)
    (small, map0), (expected, map1) = arrays.small(size), tensors.small(size)
    assert map0 == map1 and small.shape == expected.shape == (1, 3, size[1], size[0])
    assert (small - expected).abs().mean() < 0.015
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
