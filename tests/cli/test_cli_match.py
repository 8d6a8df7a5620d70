"""`slamfeat match` and `slamfeat demo` on real images."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from cli_helpers import cli, cli_json

from slamfeat.image import read_image


def test_match_counts_and_draws(sample: Path) -> None:
    """On the shipped weights: what a newcomer sees."""
    first, second = sorted((sample / "rgb").iterdir())[:2]
    row = cli_json("match", first, second, "frontend.num_keypoints=500", "--save", "pair.png", "--save-grid", "g.png")
    assert row["matches"] > 200 and row["inliers"] > 0.7 * row["matches"]
    assert (row["image0"], row["frontend"]) == (str(first), "default")
    for name in ("pair.png", "g.png"):
        assert read_image(name).shape[1] > 1000


def test_table_names_the_pictures(tiny: None, sample: Path) -> None:
    first, second = sorted((sample / "rgb").iterdir())[:2]
    result = cli("match", first, second, "--save", "pair.jpg")
    assert result.exit_code == 0 and "inliers" in result.stdout and "written pair.jpg" in result.stdout


def test_images_that_have_nothing_in_common(tiny: None, sample: Path, tmp_path: Path) -> None:
    """Few or no matches are a result, not an error."""
    first = sorted((sample / "rgb").iterdir())[0]
    image = cv2.imread(str(first))
    dot = image.copy() * 0
    cv2.circle(dot, (100, 100), 2, (255, 255, 255), -1)
    cv2.imwrite(str(tmp_path / "dot.png"), dot)
    row = cli_json("match", first, tmp_path / "dot.png", "--save", "pair.png")
    assert row["inliers"] == 0 and Path("pair.png").exists()


def test_demo(tiny: None) -> None:
    result = cli("demo", "--frames", 4, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["mode"] for row in rows] == ["rgbd", "mono"]
    assert all(Path(picture).exists() for row in rows for picture in row["pictures"])
    assert {path.name for path in Path("runs/demo").iterdir()} == {"rgbd", "mono", "grid.png", "matches.png"}
    again = cli("demo", "--frames", 3)
    assert again.exit_code == 0 and "tracked [%]" in again.stdout and "…" not in again.stdout


@pytest.mark.parametrize("width", [40, 80])
def test_no_figure_is_cut(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from slamfeat.cli import demo, run, tables

    monkeypatch.setattr(tables.console, "_width", width)
    row = {"sequence": "a" * 60, "mode": "rgbd", "frontend": "dinov2-vits14", "tracked_percent": 99.666666,
           "align": "sim3", "ate_rmse_m": 0.00012346, "rpe_trans_m": 12345.678, "rpe_rot_deg": 1.23456e-7,
           "fps": 10.666, "kitti_trans_percent": None}  # fmt: skip
    for columns in (demo.COLUMNS, run.COLUMNS):
        for rows in ([row], [row, row]):
            tables.show(rows, columns, as_json=False)
            printed = capsys.readouterr().out
            for figure in ("99.67", "0.0001235", "1.235e+04", "1.235e-07", "10.67", "ATE [m]", "RPE [deg]"):
                assert figure in printed
            assert "…" not in printed and max(map(len, printed.splitlines())) <= width
