"""Time against accuracy: the front, variants as recipes, and a small run whose matches are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import pareto
from benchmarks.pareto_chart import pareto_front
from slamfeat.bench import matching
from slamfeat.bench.registry import build_frontend
from slamfeat.errors import ConfigError


def test_the_front_is_what_nothing_beats_in_both() -> None:
    figures = {"a": (10.0, 50.0), "b": (20.0, 40.0), "c": (30.0, 60.0), "d": (30.0, 55.0), "e": (5.0, None)}
    rows = [{"frontend": name, "total_ms": ms, "auc_5": value} for name, (ms, value) in figures.items()]
    assert pareto_front(rows, "auc_5") == ["a", "c"]


def test_a_variant_becomes_a_recipe_of_its_settings(tmp_path: Path) -> None:
    label, recipe = pareto.parse_variant("one pass: frontend.refine.passes=1 frontend.cell=40", tmp_path)
    frontend = build_frontend(recipe, 64)
    assert label == "one pass"
    assert (frontend.config.refine.passes, frontend.config.cell, frontend.config.num_keypoints) == (1, 40, 64)
    other = pareto.parse_variant("one pass: frontend.refine.passes=2", tmp_path)[1]
    assert Path(other) != Path(recipe), "other settings under the same label must not meet the kept matches"
    with pytest.raises(ConfigError, match="passes"):
        pareto.parse_variant("x: frontend.refine.pases=1", tmp_path)
    with pytest.raises(ConfigError, match="LABEL"):
        pareto.parse_variant("frontend.cell=40", tmp_path)
    for words in ("frontend", "frontend=1 frontend.cell=40"):
        with pytest.raises(ConfigError):
            pareto.parse_variant(f"x: {words}", tmp_path)


def test_two_frontends_have_two_labels(tmp_path: Path) -> None:
    words = [str(tmp_path), "--out", str(tmp_path), "--preset", "fast", "--variant", "fast: frontend.cell=40"]
    with pytest.raises(ConfigError, match="two frontends are called 'fast'"):
        pareto.labels_of(pareto.parse(words))


def test_what_cannot_be_built_is_said_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pareto, "match_pairs", lambda *_: pytest.fail("measured"))
    words = [str(tmp_path), "--out", str(tmp_path), "--peer", "orb", "--peer", "srf"]
    with pytest.raises(SystemExit, match="unknown frontend 'srf'"):
        pareto.main(words)


def test_a_small_run_writes_everything_and_keeps_its_matches(
    tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"matching:\n  gaps: [4]\n  data: [{sample.name}]\nspeed:\n  data: [{sample.name}]\n"
    )
    monkeypatch.setattr(pareto, "RECIPE", tmp_path / "recipe.yaml")
    words = [
        str(sample.parent), "--out", str(tmp_path / "out"), "--pairs", "3", "--keypoints", "256", "--rounds", "1",
        "--threads", "1", "--jobs", "0", "--peer", "orb", "--peer", "sift",
    ]  # fmt: skip
    pareto.main(words)
    stored = json.loads((tmp_path / "out" / "pareto.json").read_text())
    rows = {row["frontend"]: row for row in stored["rows"]}
    assert set(rows) == {"orb", "sift"}
    assert all(0 <= row["rot_auc_5"] <= 100 and row["total_ms"] > 0 and not row["ours"] for row in rows.values())
    assert any(row["front_rot_auc_5"] for row in rows.values())
    assert (tmp_path / "out" / "pareto.png").stat().st_size > 5000
    assert "| orb |" in capsys.readouterr().out
    monkeypatch.setattr(matching, "predict", lambda job: pytest.fail("matched again"))
    pareto.main(words)
    again = {row["frontend"]: row for row in json.loads((tmp_path / "out" / "pareto.json").read_text())["rows"]}
    assert all(again[name]["rot_auc_5"] == row["rot_auc_5"] for name, row in rows.items())
