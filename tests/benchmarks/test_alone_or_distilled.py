"""One small backbone made in two ways, in as much time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import alone_or_distilled
from benchmarks.alone_or_distilled import (
    main,
    parse,
    recipe_distilled,
    seconds_of,
    steps_for,
    with_steps,
)
from slamfeat.config import load_config
from slamfeat.errors import TrainingError
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.pretrain.run import pretrain
from slamfeat.train.recipe_files import find_recipe

FEW = ["loop.evaluate_every=0", "loop.log_every=10", "probes.images=4"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    pretrain(load_config(PretrainRecipe, find_recipe("cpu_tiny", "pretrain"), [*FEW, "loop.steps=12"]), out)
    return out


def recipe_of(run: Path) -> PretrainRecipe:
    return load_config(PretrainRecipe, run / "recipe.yaml")


def words(run: Path, tmp_path: Path, *more: str) -> list[str]:
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "table")]
    return [str(run), "cpu_tiny", *more, *FEW, *places]


def test_schedules_keep_their_shares(alone: Path, tmp_path: Path) -> None:
    recipe = recipe_distilled(parse(words(alone, tmp_path)), recipe_of(alone))
    longer = with_steps(recipe, 10 * recipe.loop.steps)
    assert longer.loop.warmup == 10 * recipe.loop.warmup and longer.students == recipe.students


def test_an_interrupted_short_run_is_made_anew(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it wrote before does not count: hours in its log would be a beginning of less than nothing."""
    recipe = recipe_distilled(parse(words(alone, tmp_path)), recipe_of(alone))
    write_log(tmp_path / "pilot", {"step": 20, "elapsed_s": 7000.0}, {"step": 40, "elapsed_s": 7200.0})

    def distilled(short: Any, out: Path) -> None:
        assert not out.exists()
        write_log(out, {"step": 20, "elapsed_s": -20.0}, {"step": 40, "elapsed_s": -10.0})

    monkeypatch.setattr(alone_or_distilled, "distill", distilled)
    _, begin = steps_for(110.0, recipe, tmp_path)
    assert begin == pytest.approx(10, abs=5)


def write_log(run: Path, *lines: dict[str, Any]) -> None:
    (run / "run").mkdir(parents=True, exist_ok=True)
    (run / "run" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_evaluations_do_not_count(tmp_path: Path) -> None:
    write_log(
        tmp_path, {"step": 10, "elapsed_s": 5.0}, {"step": 10, "evaluation": {}, "seconds": 3.0},
        {"step": 20, "elapsed_s": 13.0}, {"step": 20, "evaluation": {}, "seconds": 4.0},
    )  # fmt: skip
    assert seconds_of(tmp_path) == 10.0


def test_what_else_the_machine_did_does_not_count(tmp_path: Path) -> None:
    """A step takes half a second, but for a while when it took ten times as long."""
    elapsed = [5.0, 10.0, 60.0, 65.0, 70.0]
    write_log(tmp_path, *({"step": 10 * (i + 1), "elapsed_s": seconds} for i, seconds in enumerate(elapsed)))
    assert seconds_of(tmp_path) == 25.0


def test_steps_fill_the_time_that_beginning_leaves(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second half of the short run says what a step takes: 10 s for 20 steps."""
    recipe = recipe_distilled(parse(words(alone, tmp_path)), recipe_of(alone))
    half = {"step": 20, "elapsed_s": -20.0}, {"step": 40, "elapsed_s": -10.0}  # so that beginning took ten seconds
    monkeypatch.setattr(alone_or_distilled, "distill", lambda short, out: write_log(out, *half))
    steps, begin = steps_for(110.0, recipe, tmp_path)
    assert begin == pytest.approx(10, abs=5) and steps == int((110 - begin) / 0.5)
    assert steps_for(110.0, recipe, tmp_path) == (steps, begin)  # kept
    longer, same = steps_for(210.0, recipe, tmp_path)
    assert same == begin and longer == int((210 - begin) / 0.5)
    with pytest.raises(TrainingError, match="pretrain for longer"):
        steps_for(25.0, recipe, tmp_path)


@pytest.mark.slow
def test_a_table_of_both(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(alone_or_distilled, "steps_for", lambda *words: (5, 100.0))
    main(words(alone, tmp_path))
    table = capsys.readouterr().out
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["backbone"] for row in rows] == ["raw pixels", "untrained", "teacher", "alone", "distilled"]
    took = 100 + seconds_of(tmp_path / "work" / "distilled")
    assert f"alone 12 steps in {seconds_of(alone):.0f} s, distilled 5 steps in {took:.0f} s" in table


def test_what_would_not_be_the_same_is_refused(alone: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="data is to be the same"):
        main(words(alone, tmp_path, "data.held_out=0.4"))
    with pytest.raises(SystemExit, match=r"loop\.batch is to be the same"):
        main(words(alone, tmp_path, "loop.batch=4"))
    with pytest.raises(SystemExit, match="init is to be the same"):
        main(words(alone, tmp_path, "init=default"))
    with pytest.raises(SystemExit, match="crops is to be the same"):
        main(words(alone, tmp_path, "crops.flip=0"))
    with pytest.raises(SystemExit, match="that has ended"):
        main(words(tmp_path, tmp_path))


def test_beside_a_pretraining_that_is_still_going(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time to be filled is given; what the pretraining made is asked for when both are to be judged."""
    going, filled = tmp_path / "going", []
    going.mkdir()
    shutil.copy(alone / "recipe.yaml", going)
    monkeypatch.setattr(alone_or_distilled, "steps_for", lambda seconds, *words: filled.append(seconds) or (5, 100.0))
    monkeypatch.setattr(alone_or_distilled, "distill", lambda *words, **named: SimpleNamespace(backbones={"a": "b"}))
    with pytest.raises(SystemExit, match="that has ended"):
        main(words(going, tmp_path, "--seconds", "60"))
    assert filled == [60.0]
