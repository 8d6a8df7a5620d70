"""Pictures are written whole and show what they claim to; the page of a run needs nothing else."""

from __future__ import annotations

import html.parser
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slamfeat.errors import OutputError
from slamfeat.image import read_image
from slamfeat.types import Features, Matches, PatchGrid, PixelMap, Trajectory
from slamfeat.viz.figure import fit_inches, saved_figure
from slamfeat.viz.grid import plot_grid
from slamfeat.viz.pairs import _side_by_side, _spread, plot_pair
from slamfeat.viz.plots import plot_trajectory, title
from slamfeat.viz.report import run_report
from slamfeat.viz.tokens import plot_tokens, token_colors
from slamfeat.vo.report import FrameReport

ROW: dict[str, Any] = {
    "sequence": "fr1 <rpy>", "frontend": "default", "mode": "mono", "scale": "propagated", "align": "sim3",
    "ate_rmse_m": 0.0123, "rpe_trans_m": 0.002, "rpe_rot_deg": None, "tracked_percent": 98.0, "fps": 9.5, "note": "",
    "ms": {"extract": 80.0},
}  # fmt: skip


def make_features(size: tuple[int, int], count: int = 500) -> Features:
    width, height = size
    random = torch.Generator().manual_seed(0)
    keypoints = torch.rand(1, count, 2, generator=random) * torch.tensor([width - 1.0, height - 1.0])
    grid = PatchGrid(torch.randn(1, 8, height // 14, width // 14, generator=random), 14, PixelMap())
    ones = torch.ones(1, count)
    return Features(keypoints, ones, torch.randn(1, count, 8), ones.bool(), torch.tensor([size]), grid)


def make_matches(features: Features, shift: float = 3.0) -> Matches:
    points, mask = features.keypoints, features.mask
    return Matches(points, points + shift, features.scores, torch.arange(mask.shape[1])[None], mask, mask.shape[1])


def make_path(count: int = 50) -> Trajectory:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, 3] = np.cumsum(np.random.default_rng(0).normal(size=(count, 3)), axis=0) * [1, 0.1, 2]
    return Trajectory(np.arange(count) / 10, poses)


@pytest.mark.parametrize("size", [(640, 480), (1080, 1920), (1241, 376)], ids=["landscape", "portrait", "wide"])
def test_pair_and_grid_fill_a_screen(tmp_path: Path, size: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    features = make_features(size)
    plot_pair(image, image, features, make_matches(features), tmp_path / "pair.png", heading="two images")
    plot_grid(image, features, tmp_path / "grid.png", "an image")
    for name in ("pair.png", "grid.png"):
        height, width = read_image(tmp_path / name).shape[:2]
        assert 500 < width <= 1700 and 300 < height <= 1300
        assert max(width / 1560, height / 1160) > 0.85


def test_wide_images_stand_above_each_other() -> None:
    wide, square = np.zeros((100, 300, 3), np.uint8), np.ones((100, 120, 3), np.uint8)
    canvas, shift = _side_by_side(wide, wide)
    assert canvas.shape == (208, 300, 3) and shift.tolist() == [0, 108]
    canvas, shift = _side_by_side(square, wide)
    assert canvas.shape == (100, 428, 3) and shift.tolist() == [128, 0]
    assert (canvas[:, :120] == 1).all() and (canvas[:, 128:] == 0).all() and (canvas[:, 120:128] == 255).all()


def test_lines_are_few_and_everywhere() -> None:
    random = np.random.default_rng(0)
    crowd, lone = random.uniform(0, 50, (2000, 2)), random.uniform(300, 640, (30, 2))
    points, scores = np.concatenate([crowd, lone]), np.concatenate([np.ones(2000), np.full(30, 0.1)])
    chosen = _spread(points, scores, np.arange(2030), (480, 640, 3))
    assert len(chosen) == len(set(chosen)) == 120
    assert np.isin(np.arange(2000, 2030), chosen).mean() > 0.9
    few = np.array([3, 5])
    assert _spread(points, scores, few, (480, 640, 3)) is few


def test_no_matches_can_be_drawn(tmp_path: Path) -> None:
    features = make_features((320, 240))
    matches = make_matches(features)
    nothing = replace(matches, mask=torch.zeros_like(matches.mask))
    image = np.zeros((240, 320, 3), np.uint8)
    plot_pair(image, image, features, nothing, tmp_path / "pair.png")
    inliers = np.zeros(500, dtype=bool)
    plot_pair(image, image, features, matches, tmp_path / "pair.png", inliers)
    assert (tmp_path / "pair.png").stat().st_size > 1000


def test_colours_are_repeatable_and_within_range() -> None:
    grid = make_features((140, 70)).grid
    assert grid is not None
    colors = token_colors(grid.tokens[0])
    assert colors.shape == (5, 10, 3) and colors.min() >= 0 and colors.max() <= 1
    assert np.array_equal(colors, token_colors(grid.tokens[0]))
    # A singular vector's sign is arbitrary: the same image must not change colours with it.
    assert np.allclose(token_colors(grid.tokens[0].flip(0)), colors, atol=1e-4)


def test_what_backbones_see_stands_below_the_images(tmp_path: Path) -> None:
    """A half that is another token than the other half has another colour."""
    images = [torch.full((3, 56, 56), shade) for shade in (0.2, 0.5, 0.8)]
    halves = torch.zeros(8, 4, 4)
    halves[0, :, 2:], halves[1, :, :2] = 1, 1
    plot_tokens(images, {"one": [halves] * 3, "another": [halves] * 3}, tmp_path / "tokens.png")
    picture = read_image(tmp_path / "tokens.png")
    assert 500 < picture.shape[1] <= 1700 and 300 < picture.shape[0] <= 1300
    colors = token_colors(halves)
    assert np.ptp(colors[:, :2], axis=(0, 1)).max() < 0.01 and np.abs(colors[:, 0] - colors[:, 3]).max() > 0.9


def test_tokens_of_one_kind_have_the_same_colours_where_they_are_alike(tmp_path: Path) -> None:
    halves = torch.zeros(8, 4, 4)
    halves[0, :, 2:], halves[1, :, :2] = 1, 1
    other = halves.clone()
    other[:, 0] = halves[:, 0].flip(-1)
    own, like = token_colors(halves), token_colors(other, like=halves)
    assert np.allclose(like[1:], own[1:], atol=1e-5) and np.allclose(like[0], own[0, ::-1], atol=1e-5)
    assert np.abs(like[0] - own[0]).max() > 0.9
    images = [torch.zeros(3, 56, 56)]
    for name, alike in (
        ("own", False),
        ("alike", True),
    ):  # what is added to all shows in the latter alone
        plot_tokens(images, {"one": [halves], "another": [halves + 1]}, tmp_path / f"{name}.png", alike=alike)
    assert (read_image(tmp_path / "own.png") != read_image(tmp_path / "alike.png")).any()


def test_trajectory_with_and_without_ground_truth(tmp_path: Path) -> None:
    path = make_path()
    plot_trajectory(path, path, ROW, tmp_path / "a.png")
    plot_trajectory(path, None, ROW | {"align": None, "ate_rmse_m": None}, tmp_path / "b.png")
    still = Trajectory(path.timestamps, np.tile(np.eye(4), (50, 1, 1)))
    plot_trajectory(still, None, ROW | {"align": None, "ate_rmse_m": None}, tmp_path / "c.png")
    for name in "abc":
        assert read_image(tmp_path / f"{name}.png").shape[1] > 1200


def test_title_says_error_alignment_and_scale() -> None:
    assert title(ROW) == "fr1 <rpy> · default · mono\nATE 1.2 cm (sim3) · tracked 98 % · propagated"
    assert "ATE 1.23 m" in title(ROW | {"ate_rmse_m": 1.234})
    assert "ATE" not in title(ROW | {"ate_rmse_m": None})


def test_long_titles_are_not_cut(tmp_path: Path) -> None:
    """The picture grows with its title."""
    widths = []
    for words in ("short", "a very long title " * 12):
        with saved_figure(tmp_path / "a.png", (4, 3)) as figure:
            figure.subplots().set_title(words)
        widths.append(read_image(tmp_path / "a.png").shape[1])
    assert widths[1] > 2 * widths[0]


def test_formats_and_failures(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"a\.xyz: a picture's name must end in \.png"),
        saved_figure(tmp_path / "a.xyz", (2, 2)),
    ):
        pass
    with pytest.raises(RuntimeError, match="oops"), saved_figure(tmp_path / "a.png", (2, 2)):
        raise RuntimeError("oops")
    assert list(tmp_path.iterdir()) == []
    assert fit_inches(2600, 100)[0] == 13 and fit_inches(100, 1800)[1] == pytest.approx(9.6)


class _Page(html.parser.HTMLParser):
    """Collects tags that are not closed, addresses and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "path", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in ("path", "polyline") or self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_report_is_one_well_formed_page(tmp_path: Path) -> None:
    with saved_figure(tmp_path / "a.png", (2, 2)):
        pass
    reports = [FrameReport(i, i / 10, inliers=10 * i) for i in range(9)]
    reports[3] = replace(reports[3], tracked=False, reason="few <matches>")
    page = _Page()
    page.feed(run_report(ROW | {"note": "a & b"}, reports, tmp_path / "a.png", "vo:\n  seed: 0\n"))
    assert page.open == [] and all(address.startswith("data:image/png") for address in page.addresses)
    for part in ("fr1 <rpy>", "0.0123", "few <matches>", "a & b", "seed: 0", "extract 80"):
        assert part in page.text
    run_report(ROW, [], tmp_path / "a.png")
