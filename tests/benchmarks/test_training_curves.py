"""Tables of training runs come from the runs' logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.training_curves import main, run_curves
from slamfeat.image import read_image


def run_folder(folder: Path) -> Path:
    rows = [
        {"step": 10, "loss": 2.0, "elapsed_s": 30.0},
        {"step": 10, "evaluation": {"score": -1.5, "nll": 1.5}, "seconds": 3.0, "best": True},
        {"step": 20, "loss": 1.0, "elapsed_s": 1800.0},
        {"step": 20, "evaluation": {"score": -0.5, "nll": 0.5}, "seconds": 3.0, "best": True},
    ]
    (folder / "matcher").mkdir()
    (folder / "matcher/log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text("# slamfeat train cpu_tiny --out x\nfine: sift\n")
    return folder


def test_held_out_figures_and_hours(tmp_path: Path) -> None:
    curves = run_curves(run_folder(tmp_path))
    # The evaluation after the last step is not in the time of that step.
    assert list(curves) == ["matcher"] and curves["matcher"]["hours"] == (1800 - 3) / 3600
    assert curves["matcher"]["hours_by_median"] == pytest.approx(20 * (3.0 + 176.7) / 2 / 3600)
    assert [row["nll"] for row in curves["matcher"]["steps"]] == [1.5, 0.5]


def test_the_files_name_commit_and_command(tmp_path: Path) -> None:
    main([str(run_folder(tmp_path)), "--name", "heads-x", "--commit", "abc1234", "--out", str(tmp_path / "out")])
    text = (tmp_path / "out/heads-x.md").read_text()
    assert "commit abc1234, command `slamfeat train cpu_tiny --out x`" in text
    assert "| 20 | -0.5000 | 0.5000 |" in text
    assert json.loads((tmp_path / "out/heads-x.json").read_text())["commit"] == "abc1234"


def test_of_a_backbone_too_and_with_a_picture(tmp_path: Path) -> None:
    run_folder(tmp_path)
    with (tmp_path / "matcher/log.jsonl").open("a") as log:
        log.write('{"step": 30, "evaluation": {"score": null, "nll": 0.4}, "seconds": 3.0, "best": false}\n')
    (tmp_path / "matcher").rename(tmp_path / "run")
    main([str(tmp_path), "--name", "own", "--commit", "abc1234", "--out", str(tmp_path / "out")])
    assert "## run: 0.50 hours without evaluations, 0.50 by the median step" in (tmp_path / "out/own.md").read_text()
    height, width, _ = read_image(tmp_path / "out/own.png").shape
    assert height > 200 and width > 400


def test_many_figures_are_one_below_the_other(tmp_path: Path) -> None:
    folder, figures = tmp_path / "run", {f"s{at}_score": at / 10 for at in range(30)}
    folder.mkdir()
    rows = [{"step": step, "evaluation": figures, "seconds": 1.0, "best": True} for step in (5, 10)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text("# slamfeat distill many\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/many.png").write_bytes(b"an earlier picture")
    main([str(tmp_path), "--name", "many", "--commit", "abc1234", "--out", str(tmp_path / "out")])
    text = (tmp_path / "out/many.md").read_text()
    assert "| step | 5 | 10 |" in text and "| s29_score | 2.9000 | 2.9000 |" in text
    assert not (tmp_path / "out/many.png").exists()  # two points are no curve


def test_a_folder_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="slamfeat train"):
        main([str(tmp_path), "--name", "x", "--commit", "y", "--out", str(tmp_path)])
