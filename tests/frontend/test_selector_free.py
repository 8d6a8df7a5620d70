"""Keypoints without cells, which the aligned ones are compared with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slamfeat.errors import ConfigError
from slamfeat.frontend.selector import SelectorConfig, saliency_map, select_keypoints
from slamfeat.image import fit_to_patch, to_gray

CELL = 28


def test_free_keypoints_are_peaks_of_the_saliency_and_keep_apart(photo: np.ndarray) -> None:
    config = SelectorConfig(aligned=False, subpixel=False, nms_radius=4, border=0)
    gray = to_gray(fit_to_patch(photo, CELL)[0])
    points, scores, mask = select_keypoints(gray, CELL, 900, config)
    assert mask.sum() > 500 and (scores[0, :-1] >= scores[0, 1:]).all()
    saliency = saliency_map(gray, config)[0, 0]
    chosen = points[0][mask[0]].long()
    for (x, y), score in zip(chosen.tolist(), scores[0][mask[0]], strict=True):
        around = saliency[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5]
        assert saliency[y, x] == score == around.max()
    apart = (chosen[:, None] - chosen[None]).abs().amax(2) + 100 * torch.eye(len(chosen), dtype=torch.long)
    assert apart.min() > 4


def test_free_keypoints_move_with_the_image(photo: np.ndarray) -> None:
    """What the cells cost: the same points are found after any shift, but for the border."""
    config = SelectorConfig(aligned=False, coverage=0, subpixel=False)
    moved = [to_gray(fit_to_patch(np.ascontiguousarray(part), 7)[0]) for part in (photo[:-3, :-3], photo[3:, 3:])]
    sets = []
    for gray, shift in zip(moved, (0, 3), strict=True):
        points, _, mask = select_keypoints(gray, 7, 4000, config)
        sets.append({(int(x) + shift, int(y) + shift) for x, y in points[0][mask[0]]})
    inner = [{(x, y) for x, y in points if 20 < x < 600 and 20 < y < 440} for points in sets]
    assert len(inner[0] & inner[1]) > 0.95 * len(inner[0] | inner[1])


def test_an_empty_image_has_no_free_keypoints() -> None:
    _, _, mask = select_keypoints(torch.full((1, 1, 112, 140), 0.5), CELL, 50, SelectorConfig(aligned=False))
    assert not mask.any()


@pytest.mark.parametrize("settings", [{"saliency": "center"}, {"nms_radius": 0.0}])
def test_what_needs_cells_is_refused_without_them(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="aligned"):
        SelectorConfig(aligned=False, **settings)
