"""Keypoints by the fine branches' own detectors, against the detectors as kornia has them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from slamfeat.errors import ConfigError, InputError
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.heads.bundle import load_heads
from slamfeat.frontend.heads.describe import view_fine
from slamfeat.frontend.heads.detect import select_seen
from slamfeat.frontend.matcher import MatcherConfig
from slamfeat.frontend.selector import SelectorConfig, select_keypoints, textured
from slamfeat.frontend.subpixel import soft_offset

FREE = SelectorConfig(
    saliency="fine", aligned=False, nms_radius=2, coverage=0, border=2, threshold=0.0, floor=1e-6
)  # fmt: skip


def frontend(heads: str, selector: SelectorConfig = FREE, engine: str = "torch") -> Frontend:
    config = FrontendConfig(heads=heads, selector=selector, matcher=MatcherConfig(method="attention"))
    return Frontend.from_pretrained("default", config=config, engine=engine, precision="fp32")


def nearest(points: Tensor, others: Tensor) -> Tensor:
    """Distance from each of (N, 2) points to the nearest of (M, 2)."""
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").amin(1)  # that rounds to 0.05 px


def planes(photo: np.ndarray) -> Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255


def gray(photo: np.ndarray) -> Tensor:
    return torch.from_numpy(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY))[None, None]


@torch.inference_mode()
def test_alikeds_keypoints_are_those_of_its_own_detection(photo: np.ndarray) -> None:
    heads = load_heads("full")
    seen = view_fine(heads.fine, planes(photo), detect=True)
    dkd = heads.fine.net.dkd
    dkd.top_k = 600
    (expected,), (scores,), _ = dkd(seen.detect(), True)
    expected = (expected + 1) / 2 * torch.tensor([639.0, 479.0])
    found, strengths, valid = select_seen(seen, gray(photo), 28, 600, FREE)
    distance = nearest(found[0], expected)
    assert valid.all() and len(scores) == 600
    assert float((distance < 0.05).float().mean()) > 0.98  # kornia leaves plateaus out
    assert bool((strengths[0, :-1] >= strengths[0, 1:]).all())


@torch.inference_mode()
def test_xfeats_keypoints_are_those_of_its_own_detection(photo: np.ndarray) -> None:
    from kornia.feature import XFeat

    heads = load_heads("light")
    model = XFeat(detection_threshold=0.0).eval()
    model.net.load_state_dict(heads.fine.net.state_dict(), strict=False)
    expected = model.detectAndCompute(planes(photo), top_k=600)[0]["keypoints"]
    seen = view_fine(heads.fine, planes(photo), detect=True)
    found, _, valid = select_seen(seen, gray(photo), 28, 600, replace(FREE, subpixel=False))
    distance = nearest(found[0], expected)
    assert valid.all() and float((distance < 0.5).float().mean()) > 0.95


def test_a_soft_offset_is_the_mean_place_of_a_sharp_window() -> None:
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    response = torch.exp(-((x - 5.3) ** 2 + (y - 3.8) ** 2) / 2)[None, None]
    (offset,) = soft_offset(response, torch.tensor([[[5.0, 4.0]]]))
    window = response[0, 0, 2:7, 3:8].double()
    weight = torch.softmax((window / 0.1).flatten(), 0).view(5, 5)
    steps = torch.arange(-2.0, 3.0, dtype=torch.float64)
    expected = torch.stack([(weight * steps[None]).sum(), (weight * steps[:, None]).sum()])
    torch.testing.assert_close(offset[0].double(), expected, atol=1e-5, rtol=0)
    assert 0.1 < float(offset[0, 0]) < 0.3 and -0.2 < float(offset[0, 1]) < -0.05  # towards the peak
    corner = soft_offset(response, torch.tensor([[[0.0, 0.0]]]))
    assert torch.isfinite(corner).all() and bool((corner >= 0).all())  # nothing beyond the border counts


@pytest.mark.parametrize("heads", ["light", "full"])
def test_a_frontend_with_the_detector_of_its_branch(photo: np.ndarray, heads: str) -> None:
    """Sides that are no multiple of the branch's step; a mask; aligned to the grid or not."""
    image, moved = photo[:450, :600], photo[16:466, 24:624]
    mask = np.zeros((450, 600), np.uint8)
    mask[:, 300:] = 1
    for selector in (FREE, replace(FREE, aligned=True, nms_radius=3, coverage=8, border=4)):
        one = frontend(heads, selector)
        first, second = one.extract(image), one.extract(moved)
        assert int(first.mask.sum()) > 500
        points0, points1, _ = one.match(first, second).numpy()
        error = np.linalg.norm(points0 - points1 - [24, 16], axis=1)
        assert len(points0) > 300 and (error < 1).mean() > 0.95
        right = one.extract(image, mask=mask)
        kept = right.keypoints[0][right.mask[0]]
        assert len(kept) > 200 and float(kept[:, 0].min()) > 298
    with pytest.raises(InputError, match="mask is"):
        one.extract(image, mask=mask[:-1])


@pytest.mark.parametrize("heads", ["light", "full"])
def test_what_is_flat_has_no_keypoints(photo: np.ndarray, heads: str) -> None:
    one, half = frontend(heads), photo.copy()
    for level in (0, 128, 255):
        assert not one.extract(np.full((96, 128, 3), level, np.uint8)).mask.any()
    half[:, 320:] = 90
    kept = one.extract(half)
    assert int(kept.mask.sum()) > 300 and float(kept.keypoints[0][kept.mask[0]][:, 0].max()) < 332
    alike = textured(gray(photo)) == textured(gray(photo).float() / 255)
    assert float(alike.float().mean()) > 0.999


def test_openvino_detects_the_same(photo: np.ndarray) -> None:
    pytest.importorskip("openvino")
    found = [frontend("full", engine=engine).extract(photo) for engine in ("torch", "openvino")]
    distance = nearest(found[0].keypoints[0], found[1].keypoints[0])
    assert float((distance < 0.05).float().mean()) > 0.98


def test_who_has_no_detector_is_told(photo: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="needs heads with the fine branch xfeat or aliked"):
        Frontend.from_pretrained("default", config=FrontendConfig(selector=FREE), engine="torch")
    with pytest.raises(ConfigError, match="a published fine branch"):
        select_keypoints(torch.zeros(1, 1, 56, 56), 28, 10, FREE)
    seen = view_fine(load_heads("light").fine, planes(photo))
    with pytest.raises(ConfigError, match="has no detector"):
        seen.detect()
