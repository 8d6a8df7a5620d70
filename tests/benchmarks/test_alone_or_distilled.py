"""One small backbone made in two ways, in as much time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.alone_or_distilled import (
    main,
    parse,
    recipe_alone,
    recipe_distilled,
    seconds_a_step,
    seconds_of,
    with_steps,
)
from slamfeat.config import load_config
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.pretrain.run import pretrain
from slamfeat.train.recipe_files import find_recipe

FEW = ["loop.evaluate_every=0", "loop.log_every=10", "probes.images=4"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    pretrain(load_config(PretrainRecipe, find_recipe("cpu_tiny", "pretrain"), [*FEW, "loop.steps=12"]), out)
    return out


def words(run: Path, tmp_path: Path, *more: str) -> list[str]:
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "table")]
    return [str(run), "cpu_tiny", *more, *FEW, *places]


def test_schedules_keep_their_shares(alone: Path, tmp_path: Path) -> None:
    recipe = recipe_distilled(parse(words(alone, tmp_path)), recipe_alone(alone))
    longer = with_steps(recipe, 10 * recipe.loop.steps)
    assert longer.loop.warmup == 10 * recipe.loop.warmup and longer.students == recipe.students


def test_a_step_takes_what_the_second_half_took() -> None:
    lines = [{"step": 20, "elapsed_s": 50.0}, {"step": 40, "elapsed_s": 60.0}, {"step": 40, "evaluation": {}}]
    assert seconds_a_step("".join(json.dumps(line) + "\n" for line in lines), 20) == 0.5


@pytest.mark.slow
def test_the_distillation_takes_the_steps_that_were_found(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.alone_or_distilled.PILOT", 4)
    monkeypatch.setattr("benchmarks.alone_or_distilled.seconds_a_step", lambda log, steps: seconds_of(alone) / 5.5)
    main(words(alone, tmp_path))
    table = capsys.readouterr().out
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["backbone"] for row in rows] == ["raw pixels", "untrained", "teacher", "alone", "distilled"]
    assert "distilled 5 steps in" in table and f"alone 12 steps in {seconds_of(alone):.0f} s" in table
    monkeypatch.setattr("benchmarks.alone_or_distilled.PILOT", 6)
    with pytest.raises(SystemExit, match="pretrain for longer"):
        main(words(alone, tmp_path))


def test_what_would_not_be_the_same_is_refused(alone: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="data is to be the same"):
        main(words(alone, tmp_path, "data.held_out=0.4"))
    with pytest.raises(SystemExit, match=r"loop\.batch is to be the same"):
        main(words(alone, tmp_path, "loop.batch=4"))
    with pytest.raises(SystemExit, match="that has ended"):
        main(words(tmp_path, tmp_path))
