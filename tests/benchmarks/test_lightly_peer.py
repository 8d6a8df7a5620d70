"""LightlyTrain as a peer: what it is told, and how both sides' images a second are counted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import lightly_peer
from benchmarks.lightly_method import check_recipe, method_of, views_of
from slamfeat.backbones.own import save_backbone
from slamfeat.config import load_config, to_yaml
from slamfeat.errors import ConfigError
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.train.recipe_files import find_recipe


def recipe_of(*settings: str, name: str = "cpu_vitt14") -> PretrainRecipe:
    return load_config(PretrainRecipe, find_recipe(name, "pretrain"), list(settings))


def test_every_setting_reaches_the_peer() -> None:
    recipe = recipe_of(
        "masks.least=0.2", "masks.most=0.4", "masks.share=0.6", "teacher.targets=centring",
        "teacher.centre_momentum=0.8", "objective.koleo=0.2",
    )  # fmt: skip
    check_recipe(recipe)
    method = method_of(recipe)
    expected = {
        "hidden_dim": 512, "dino_bottleneck_dim": 128, "ibot_bottleneck_dim": 128, "output_dim": 1024,
        "mask_ratio_min": 0.2, "mask_ratio_max": 0.4, "mask_probability": 0.6, "center_method": "softmax",
        "center_momentum": 0.8, "koleo_loss_weight": 0.2, "momentum_start": 0.99,
        "teacher_temp_start": 0.04, "teacher_temp_end": 0.04, "teacher_temp_warmup_steps": 0,
        "student_freeze_last_layer_steps": 60, "reference_batch_size": 64, "weight_decay_end": 0.2,
    }  # fmt: skip
    assert {key: method[key] for key in expected} == expected
    views = views_of(recipe)
    assert views["local_view"]["num_views"] == 4 and views["image_size"] == [84, 84]
    for view in (views, views["global_view_1"], views["local_view"]):
        assert view["gaussian_blur"] == {"sigmas": [0.1, 1.0]}


@pytest.mark.parametrize(
    ("setting", "needed"),
    [
        ("ibot_head.prototypes=2048", "of one size"),
        ("ibot_head.bottleneck=64", "of one size"),
        ("masks.block=6", "masks.block=4"),
        ("model.registers=4", "no registers"),
        ("objective.koleo_group=8", "koleo_group=0"),
        ("loop.accumulate=2", "accumulate=1"),
        ("init=default", "init="),
        ("crops.flip=0.1", "crops.flip=0.5"),
        ("crops.light.hue=0", "crops.light"),
    ],
)
def test_what_it_cannot_do_is_refused(setting: str, needed: str) -> None:
    with pytest.raises(ConfigError, match=needed):
        check_recipe(recipe_of(setting))


def test_heads_of_other_layers_are_refused_and_an_unused_head_is_not_looked_at() -> None:
    check_recipe(recipe_of("ibot_head.prototypes=2048", "objective.separate_heads=false"))
    with pytest.raises(ConfigError, match="heads of 3 layers"):
        check_recipe(recipe_of("dino_head.layers=2", "ibot_head.layers=2"))


class Method:
    """In the place of LightlyTrain's."""

    trainer = SimpleNamespace(global_step=0)

    def on_train_batch_end(self) -> None:
        self.trainer.global_step += 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the last pretraining was asked for; it makes three steps."""
    said: dict[str, Any] = {}
    method = type("DINOv2", (Method,), {})

    def pretrain(**words: Any) -> None:
        said.update(words)
        for _ in range(3):
            method().on_train_batch_end()

    package, inner = ModuleType("lightly_train"), ModuleType("lightly_train._methods.dinov2.dinov2")
    package.pretrain, inner.DINOv2 = pretrain, method  # type: ignore[attr-defined]
    names = ("lightly_train", "lightly_train._methods", "lightly_train._methods.dinov2")
    for name, module in (*((name, package) for name in names), (inner.__name__, inner)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(lightly_peer, "model_of", lambda recipe: None)
    monkeypatch.setattr(lightly_peer, "_declare_operators", lambda: None)
    monkeypatch.setattr(Method, "trainer", SimpleNamespace(global_step=0))
    return said


def test_it_goes_on_where_it_was_and_saves_as_often_as_ours(asked: dict[str, Any], tmp_path: Path) -> None:
    recipe, files = recipe_of("loop.save_every=70", "loop.steps=3000"), [f"{number}.jpg" for number in range(100)]
    ended = lightly_peer.train(recipe, files, tmp_path, 2, "fp32")
    assert [step for step, _ in ended] == [1, 2, 3] and sorted(time for _, time in ended) == [time for _, time in ended]
    assert asked["callbacks"] == {"model_export": None, "model_checkpoint": {"every_n_train_steps": 70}}
    assert asked["loader_args"] == {"persistent_workers": True} and asked["epochs"] == 3000  # of one batch
    assert (asked["resume_interrupted"], asked["overwrite"]) == (False, True) and asked["precision"] == "32-true"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    lightly_peer.train(recipe, files, tmp_path, 2, "fp32")
    assert (asked["resume_interrupted"], asked["overwrite"]) == (True, False)


def test_steps_that_were_saved_and_the_first_ones_do_not_count() -> None:
    recipe, now, ended = recipe_of("loop.save_every=10"), 0.0, list[tuple[int, float]]()
    for step in range(1, 41):
        now += 100.0 if step % 10 == 0 or step < 5 else 0.5
        ended.append((step, now))
    assert lightly_peer.peer_rate(ended, recipe) == pytest.approx(64 / 0.5)
    assert lightly_peer.peer_rate([], recipe) is None
    # A stretch, as a line of our log, is waited for at the beginning of each epoch.
    waits = [(step, 0.5 * step + 3.0 * (step // 12)) for step in range(1, 400)]
    rate = lightly_peer.peer_rate(waits, recipe_of("loop.save_every=1000", "loop.log_every=24"))
    assert rate == pytest.approx(64 * 24 / (24 * 0.5 + 2 * 3.0), rel=0.02)
    begun = [(step, 0.5 * step + 3.0 * -(-step // 12)) for step in range(1, 400)]  # 1, 13, 25 are the first ones
    assert lightly_peer.peer_rate(begun, recipe_of("loop.save_every=1000"), 12) == pytest.approx(64 / 0.5)


def test_the_quickest_way_is_tried_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried, seconds = list[tuple[str, int]](), {("bf16", 2): 1.0, ("fp32", 1): 1.5}

    def trained(
        recipe: PretrainRecipe, files: list[str], run: Path, workers: int, precision: str
    ) -> list[tuple[int, float]]:
        tried.append((precision, workers))
        assert recipe.loop.steps == lightly_peer.TRIAL and not run.exists()
        run.mkdir(parents=True)
        if len(tried) == 3:
            raise KeyboardInterrupt
        return [(step, step * seconds.get((precision, workers), 2.0)) for step in range(1, 20)]

    monkeypatch.setattr(lightly_peer, "train", trained)
    recipe, ours = recipe_of(), ["ours", "--work", str(tmp_path), "--out", "x"]
    with pytest.raises(KeyboardInterrupt):
        lightly_peer.quickest(recipe, [], lightly_peer.parse(ours))
    assert lightly_peer.quickest(recipe, [], lightly_peer.parse(ours)) == ("bf16", 2)
    assert tried.pop(2) == tried[2]  # the one that was interrupted
    assert sorted(tried) == [(precision, workers) for precision in ("bf16", "fp32") for workers in (0, 1, 2)]
    assert lightly_peer.quickest(recipe, [], lightly_peer.parse([*ours, "--precision", "fp32"])) == ("fp32", 1)
    given = lightly_peer.parse([*ours, "--precision", "fp32", "--workers", "0"])
    assert lightly_peer.quickest(recipe, [], given) == ("fp32", 0) and len(tried) == 6  # the rest is remembered


def test_ours_stands_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of("loop.steps=100", "loop.log_every=10", "data.held_out=0.3", name="cpu_tiny")
    ours, out, work = tmp_path / "ours", tmp_path / "lightly", tmp_path / "peer"
    (ours / "run").mkdir(parents=True)
    (ours / "recipe.yaml").write_text(to_yaml(recipe))
    # The first line is of steps that warm up; beside the last one the machine did something else.
    rates = {10: 1.0, 20: 30.0, 30: 31.0, 40: 3.0}
    lines = [{"step": step, "images_per_s": rate} for step, rate in rates.items()]
    lines.insert(1, {"step": 10, "evaluation": {}})
    (ours / "run" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [str(ours), "--work", str(work), "--out", str(out), "--workers", "1"]
    state, asked = recipe.architecture.build().state_dict(), list[str]()

    def trained(
        recipe: PretrainRecipe, files: list[str], run: Path, workers: int, precision: str
    ) -> list[tuple[int, float]]:
        asked.append(precision)
        (run / "exported_models").mkdir(parents=True)
        torch.save(state, run / "exported_models" / "exported_last.pt")
        return [(step, float(step)) for step in range(1, 5)]

    monkeypatch.setattr(lightly_peer, "train", trained)
    with pytest.raises(SystemExit, match=r"no recipe\.yaml in it"):
        lightly_peer.main([str(tmp_path), *command[1:]])
    with pytest.raises(SystemExit, match="has not ended; the same command"):
        lightly_peer.main([*command, "--precision", "bf16"])  # the two may go on beside each other
    save_backbone(state, recipe.architecture, ours / "backbone.safetensors", name="tiny14")
    lightly_peer.main([*command, "--precision", "bf16"])
    shown, rows = capsys.readouterr().out, json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [row["backbone"] for row in rows] == ["raw pixels", "untrained", "LightlyTrain", "slamfeat"]
    assert [row["images_per_s"] for row in rows] == [None, None, float(recipe.loop.batch), 30.0]
    assert rows[2]["correspondence"] == rows[3]["correspondence"]  # of the same weights
    assert (
        "precision fp32, LightlyTrain's bf16, workers 1, LightlyTrain's 1" in shown
        and "| LightlyTrain | 8.0 |" in shown
    )
    lightly_peer.main([*command, "--precision", "bf16"])  # what is there is not trained again
    assert capsys.readouterr().out == shown and asked == ["bf16"]
    lightly_peer.main(command)  # whatever is not asked for otherwise
    with pytest.raises(SystemExit, match="a run with precision bf16"):
        lightly_peer.main([*command, "--precision", "fp32"])
    (ours / "recipe.yaml").write_text(to_yaml(recipe_of("loop.lr=0.5", name="cpu_tiny")))
    with pytest.raises(SystemExit, match="holds a run of another recipe"):
        lightly_peer.main(command)
