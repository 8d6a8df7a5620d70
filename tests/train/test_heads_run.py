"""From a recipe to heads that match: the whole way, interrupted and not, alone and under torchrun."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from train_runs import command, environment, kill_once_there, run, same
from typer.testing import CliRunner

from slamfeat.cli.main import app
from slamfeat.config import load_config
from slamfeat.errors import ConfigError, InputError
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.heads.bundle import load_heads
from slamfeat.frontend.heads.matcher import AttentionMatcher
from slamfeat.train.cache import PairCache
from slamfeat.train.draw import HELD_OUT_SEED
from slamfeat.train.heads_run import make_heads
from slamfeat.train.labels import IGNORE
from slamfeat.train.matcher_task import MatcherTask
from slamfeat.train.recipe import HeadsRecipe
from slamfeat.train.recipe_files import find_recipe

SMALL = [
    "matcher.rows=6", "matcher.held_out=3", "matcher.keypoints=96", "matcher.task.keypoints=64",
    "matcher.loop.steps=60", "matcher.loop.evaluate_every=30", "matcher.loop.save_every=4", "matcher.loop.log_every=4",
    "refiner.rows=4", "refiner.held_out=2", "refiner.loop.steps=90", "refiner.loop.save_every=4",
    "refiner.loop.evaluate_every=30",
]  # fmt: skip
"""Stages that last for some seconds, so that a kill finds them at work."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small")
    run(out, *SMALL)
    return out


def test_what_cannot_work_is_said_before_pairs_are_prepared(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_config(HeadsRecipe, find_recipe("cpu_tiny"), [f"data.photos=[{tmp_path}/nowhere]", *SMALL])
    with pytest.raises(InputError, match=r"data\.photos: no such folder: .*nowhere; set data\.photos="):
        make_heads(recipe, tmp_path / "out")
    assert not (tmp_path / "out" / "cache").exists()  # or other photographs would be refused its place
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(sorted((sample / "rgb").iterdir())[0], photos / "alone.png")  # there, but none for judging
    alone = load_config(HeadsRecipe, find_recipe("cpu_tiny"), [f"data.photos=[{photos}]", *SMALL])
    with pytest.raises((ConfigError, InputError), match="held_out"):
        make_heads(alone, tmp_path / "out")
    assert not (tmp_path / "out" / "cache").exists()
    batch = recipe.matcher.loop.batch
    monkeypatch.setattr("slamfeat.train.heads_run.rank_and_world", lambda: (0, batch + 1))
    with pytest.raises(ConfigError, match=rf"matcher\.loop\.batch={batch} cannot be shared by {batch + 1} processes"):
        make_heads(recipe, tmp_path / "out")


def test_a_session_whose_minutes_are_over_is_no_failure(tmp_path: Path) -> None:
    """Under torchrun another exit code would start it again, as often as it may."""
    few = ["matcher.rows=2", "matcher.held_out=2", "matcher.keypoints=96", "matcher.loop.max_minutes=0.0001"]
    done = CliRunner().invoke(app, command(tmp_path / "run", *few)[3:])
    assert done.exit_code == 0 and "its minutes are over; the same command goes on: slamfeat" in done.stderr
    assert not (tmp_path / "run" / "heads.safetensors").exists()


def test_pairs_of_other_photographs_are_not_gone_on_with(sample: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for file in sorted((sample / "rgb").iterdir()):
        shutil.copy(file, photos)
    recipe = load_config(HeadsRecipe, find_recipe("cpu_tiny"), [f"data.photos=[{photos}]", *SMALL])
    assert make_heads(recipe, out, command="first", stop=lambda: True).heads is None
    before = (out / "recipe.yaml").read_text()
    sorted(photos.iterdir())[0].unlink()
    with pytest.raises(ConfigError, match="matcher_train: its pairs are of other photographs or sequences than are"):
        make_heads(recipe, out, command="second", stop=lambda: True)
    assert (out / "recipe.yaml").read_text() == before


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_it_would_have_had(small: Path, tmp_path: Path) -> None:
    """Killed three times, while pairs are prepared and while heads are trained."""
    out = tmp_path / "killed"
    for place in ("cache/matcher_train/done.u8", "matcher/checkpoints", "refiner/checkpoints"):
        kill_once_there(out / place, command(out, *SMALL))
    run(out, *SMALL)
    assert same(load_heads(out / "heads.safetensors"), load_heads(small / "heads.safetensors"))


@pytest.mark.slow
def test_the_same_command_again_makes_nothing_anew(small: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (small / "cache").rglob("*.bin")}
    done = run(small, *SMALL)
    assert "preparing" not in done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.slow
def test_another_recipe_is_refused_the_folder(small: Path) -> None:
    before = (small / "recipe.yaml").read_text()
    done = subprocess.run(command(small, *SMALL, "data.seed=3"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "made with other settings (data)" in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run(command(small, *SMALL, "refiner.loop.lr=0.1"), capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "begun with other settings: loop.lr" in done.stderr
    assert (small / "recipe.yaml").read_text() == before


@pytest.mark.slow
def test_under_torchrun_by_the_same_command(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = command(tmp_path / "two", *SMALL, "matcher.loop.batch=2", "refiner.loop.batch=2")[1:]
    done = subprocess.run([*launch, *words], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert load_heads(tmp_path / "two/heads.safetensors").matcher is not None


def nearest_neighbours(task: MatcherTask) -> dict[str, float]:
    """Precision and recall of mutual nearest descriptors, on the keypoints that a task is judged by."""
    batch = task._batch(task.held_out, range(task.held_out.count), HELD_OUT_SEED)
    names = ("descriptors0", "descriptors1", "mask0", "mask1", "index0")
    right = said = true = 0
    for first, second, mask0, mask1, index in zip(*(batch[name].numpy() for name in names), strict=True):
        similarity = np.where(mask0[:, None] & mask1, first @ second.T, -2)
        best = similarity.argmax(1)
        mutual = mask0 & (similarity.argmax(0)[best] == np.arange(len(best)))
        right += int((mutual & (best == index)).sum())
        said, true = said + int((mutual & (index != IGNORE)).sum()), true + int((index >= 0).sum())
    return {"precision": right / said, "recall": right / true}


@pytest.mark.slow
def test_the_tiny_recipe_learns_to_match(tmp_path: Path, sample: Path) -> None:
    """On held-out photographs: untrained the matcher is sure of nothing.

    Two minutes are too few to be better than the mutual nearest neighbours of its descriptors: it is at most 0.1 less
    precise, and finds at least a third of what they find.
    """
    run(tmp_path, "workers=2")
    heads = load_heads(tmp_path / "heads.safetensors")
    assert heads.matcher is not None
    recipe = load_config(HeadsRecipe, find_recipe("cpu_tiny"))
    torch.manual_seed(recipe.matcher.loop.seed)
    untrained = AttentionMatcher(heads.matcher.config)
    held_out = PairCache.open(tmp_path / "cache/matcher_held_out")
    tasks = [
        MatcherTask(recipe.matcher.task, matcher.eval(), held_out, held_out) for matcher in (untrained, heads.matcher)
    ]
    before, after = (task.evaluate() for task in tasks)
    neighbours = nearest_neighbours(tasks[0])
    assert before["recall"] < 0.01
    assert after["precision"] > neighbours["precision"] - 0.1 > 0.2
    assert after["recall"] > neighbours["recall"] / 3 > 0.15
    config = FrontendConfig(num_keypoints=256, heads=str(tmp_path / "heads.safetensors"))
    config.matcher.method, config.refine.method = "attention", "learned"
    config.matcher.min_probability, config.refine.min_confidence = 0.01, 0.0  # two minutes make no sure matches
    frontend = Frontend.from_pretrained("default", config=config, engine="torch", precision="fp32")
    frames = sorted((sample / "rgb").iterdir())[:2]
    matches = frontend.match(*(frontend.extract(frame) for frame in frames))
    assert matches.mask.sum() > 30
