"""Fine branches: the warm ones against kornia's own detectors with the published weights, the cold one by shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from slamfeat.frontend.heads.fine import AlikedBranch, FinerCNN, XFeatBranch
from slamfeat.image import to_batch

Published = Callable[[str], Mapping[str, torch.Tensor]]


def test_xfeat_descriptors_are_those_of_kornia(photo: np.ndarray, published: Published) -> None:
    from kornia.feature import XFeat

    reference = XFeat(detection_threshold=0.05).eval()
    reference.net.load_state_dict(published("xfeat"))
    branch = XFeatBranch().eval()
    branch.net.load_state_dict({k: v for k, v in published("xfeat").items() if not k.startswith("fine_matcher.")})
    image = to_batch(photo)
    with torch.inference_mode():
        found = reference.detectAndCompute(image, top_k=300)[0]
        maps = branch(image)
        ours = branch.describe(maps, found["keypoints"][None].float(), (640, 480))[0]
    torch.testing.assert_close(ours, found["descriptors"], atol=1e-5, rtol=0)
    x, y = found["keypoints"].long().unbind(1)
    assert maps.saliency is not None and (maps.saliency[0, 0, y, x] > 0.05).all()


def test_aliked_descriptors_are_those_of_kornia(photo: np.ndarray, published: Published) -> None:
    from kornia.feature import ALIKED

    small = to_batch(photo[100:356, 100:420])
    reference = ALIKED("aliked-n16", max_num_keypoints=200, detection_threshold=-1).eval()
    reference.load_state_dict(published("aliked-n16"), strict=False)
    branch = AlikedBranch().eval()
    branch.net.load_state_dict(published("aliked-n16"), strict=False)
    with torch.inference_mode():
        found = reference(small)[0]
        ours = branch.describe(branch(small), found.keypoints[None], (320, 256))[0]
    torch.testing.assert_close(ours, found.descriptors, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(64, 96), (128, 48)])
def test_the_cold_branch_reads_every_pixel(size: tuple[int, int]) -> None:
    """Its features have the image's size, and a pixel's feature depends on the pixels around it."""
    torch.manual_seed(0)
    branch = FinerCNN(16).eval()
    image = torch.rand(2, 1, *size, requires_grad=True)
    maps = branch(image)
    assert maps.features.shape == (2, 16, *size)
    points = torch.tensor([[[20.0, 30.0]], [[20.0, 30.0]]])
    described = branch.describe(maps, points, (size[1], size[0]))
    torch.testing.assert_close(described.norm(dim=2), torch.ones(2, 1))
    described[0].sum().backward()
    assert image.grad is not None
    near, far = image.grad[0, 0, 28:33, 18:23].abs().mean(), image.grad[0, 0, :5, -5:].abs().mean()
    assert near > far and float(image.grad[1].abs().sum()) == 0


@pytest.mark.parametrize("training", [False, True])
def test_the_cold_branch_read_once_gives_the_same(training: bool) -> None:
    """Descriptors and derivatives, between pixels, on them, at the border and beyond it."""
    torch.manual_seed(0)
    branch = FinerCNN(16).train(training)
    image = torch.rand(2, 1, 64, 96)
    points = torch.rand(2, 40, 2) * torch.tensor([99.0, 67.0]) - 2
    points[:, :10] = points[:, :10].round()
    points[:, 10] = torch.tensor([95.0, 63.0])
    found = branch.read(image, points)
    (grad,) = torch.autograd.grad((found * found.detach().cos()).sum(), branch.at_full[0].weight)
    wanted = branch.describe(branch(image), points, (96, 64))
    (wanted_grad,) = torch.autograd.grad((wanted * wanted.detach().cos()).sum(), branch.at_full[0].weight)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(grad, wanted_grad, atol=1e-3, rtol=1e-3)
