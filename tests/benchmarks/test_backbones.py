"""The table of backbones: one row each, raw pixels and untrained weights among them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from benchmarks import backbones
from benchmarks.backbones import candidates, main, parse, poses, random_like, shown_names
from benchmarks.backbones_table import COLUMNS, uncertainty
from slamfeat.backbones.own import save_backbone
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.pretrain.probes import Probes
from slamfeat.pretrain.recipe import ModelConfig
from slamfeat.sample import sample_path
from slamfeat.train.textures import is_held_out, photo_name


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture = ModelConfig(embed_dim=32, depth=2, num_heads=1, layer_scale=0.1).architecture(56)
    backbone = architecture.build("small14")
    backbone.init_weights()
    with torch.no_grad():
        for parameter in backbone.parameters():  # as training would
            parameter.add_(0.01 * torch.randn(parameter.shape))
    file = tmp_path_factory.mktemp("own") / "small14.safetensors"
    return save_backbone(backbone.state_dict(), architecture, file, name="small14")


def test_a_row_each(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    judge = Probes.judge
    monkeypatch.setattr(Probes, "judge", lambda own, *words: sizes.append(own._side(14)) or judge(own, *words))
    groups = tmp_path / "groups.txt"
    photos = sorted(path.name for path in (sample_path() / "rgb").iterdir())
    groups.write_text("".join(f"{'odd' if i % 2 else 'even'} {name}\n" for i, name in enumerate(photos)))
    names = ["dinov2-vits14-int8", "default", str(small)]
    words = [*names, "--images", str(sample_path() / "rgb"), "--groups", str(groups)]
    main([*words, "--held-out", "0.3", "--count", "4", "--size", "112", "--out", str(tmp_path / "table")])
    table = capsys.readouterr().out
    assert sizes == [112] * 5 and "size 112" in table
    rows = {row["backbone"]: row for row in json.loads((tmp_path / "table.json").read_text())["rows"]}
    assert list(rows) == ["raw pixels", "small14, untrained", "dinov2-vits14-int8", "default", "small14"]
    assert all(heading in table for key, heading in COLUMNS.items() if key not in ("auc_5", "auc_20", "images_per_s"))
    # A ViT-S/14 (22.06 M with its mask token) but for three of its twelve blocks: 12 C^2 + 15 C numbers each.
    shipped = 22_056_576 - 3 * (12 * 384**2 + 15 * 384)
    assert rows["dinov2-vits14-int8"]["parameters_m"] == pytest.approx(shipped / 1e6)
    assert rows["dinov2-vits14-int8"]["ms"] > rows["default"]["ms"] > rows["small14"]["ms"] > 0
    assert rows["raw pixels"]["ms"] is None
    assert rows["default"]["correspondence"] > rows["small14"]["correspondence"]
    assert all(0 <= row[key] <= 100 for row in rows.values() for key in ("knn", "linear", "correspondence"))
    assert {row["asked"] for row in rows.values()} == {sum(is_held_out(photo_name(Path(name)), 0.3) for name in photos)}


def test_a_table_says_how_far_chance_moves_it() -> None:
    assert "64 images are asked for their class: of 20 % one standard error is 5.0." in uncertainty([{"asked": 64}])
    assert "error is 5.0 (among all: 400, 2.0)." in uncertainty([{"asked": 64, "asked_all": 400}])
    assert uncertainty([{"backbone": "x"}]) == ""


def test_untrained_is_of_the_same_kind_and_untrained(small: Path) -> None:
    for weights, layer_scale in (("dinov2-vits14-int8", 1.0), ("default", 1.0), (str(small), 0.1)):
        backbone, _ = load_pretrained(weights, torch.device("cpu"))
        before = torch.random.get_rng_state()
        untrained = random_like(backbone, weights)
        assert torch.equal(before, torch.random.get_rng_state())
        own, other = backbone.state_dict(), untrained.state_dict()
        assert {name: v.shape for name, v in own.items()} == {name: v.shape for name, v in other.items()}
        assert not any(torch.equal(own[name], other[name]) for name in own if name not in ("cls_token", "mask_token"))
        for name, value in other.items():  # nothing of it was trained
            if name.endswith("gamma"):
                assert torch.equal(value, torch.full_like(value, layer_scale)), name
            elif "norm" in name:
                assert torch.equal(value, torch.full_like(value, float(name.endswith("weight")))), name


def test_files_of_one_name_are_told_apart(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / folder / "backbone.safetensors" for folder in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        shutil.copy(small, file)
    names = ["default", str(files[0]), str(files[1]), str(small)]
    assert shown_names(names) == ["default", "a/backbone", "b/backbone", "small14"]
    deep = [str(tmp_path / end / "run" / "backbone.safetensors") for end in ("a", "b")]
    assert shown_names(deep) == ["a/run/backbone", "b/run/backbone"]
    assert shown_names(["default", "default"]) == ["default", "default"]
    found = candidates(names)
    given = parse([*names, "--images", "x", "--out", "y", "--data", str(tmp_path), "--work", str(tmp_path / "work")])
    monkeypatch.setattr(backbones, "rooted", lambda config, data: config)
    monkeypatch.setattr(backbones, "run_tasks", lambda *words, **settings: {"matching": None})
    monkeypatch.setattr(backbones, "data_figure", lambda results, *words: words[2])
    said = poses(found, given, print)
    assert list(said) == [2, 3, 4, 5] and len({row["auc_5"] for row in said.values()}) == 4
    weights = [json.loads(Path(row["auc_5"]).read_text())["weights"] for row in said.values()]
    assert weights == names


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="check the path"):
        main([str(tmp_path / "none.safetensors"), "--images", str(tmp_path), "--out", str(tmp_path / "t")])
