"""The table of backbones: one row each, raw pixels and untrained weights among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.backbones import COLUMNS, main, random_like
from slamfeat.backbones.own import save_backbone
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.pretrain.recipe import ModelConfig
from slamfeat.sample import sample_path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture = ModelConfig(embed_dim=32, depth=2, num_heads=1).architecture(56)
    backbone = architecture.build("small14")
    backbone.init_weights()
    file = tmp_path_factory.mktemp("own") / "small14.safetensors"
    return save_backbone(backbone.state_dict(), architecture, file, name="small14")


def test_a_row_each(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = tmp_path / "groups.txt"
    names = sorted(path.name for path in (sample_path() / "rgb").iterdir())
    groups.write_text("".join(f"{'odd' if i % 2 else 'even'} {name}\n" for i, name in enumerate(names)))
    words = ["default", str(small), "--images", str(sample_path() / "rgb"), "--groups", str(groups)]
    main([*words, "--held-out", "0.3", "--count", "4", "--out", str(tmp_path / "table")])
    table = capsys.readouterr().out
    rows = {row["backbone"]: row for row in json.loads((tmp_path / "table.json").read_text())["rows"]}
    assert list(rows) == ["raw pixels", "small14, untrained", "default", "small14"]
    assert all(heading in table for key, heading in COLUMNS.items() if not key.startswith("auc"))
    # A ViT-S/14 (22.06 M with its mask token) but for three of its twelve blocks: 12 C^2 + 15 C numbers each.
    shipped = 22_056_576 - 3 * (12 * 384**2 + 15 * 384)
    assert rows["default"]["parameters_m"] == pytest.approx(shipped / 1e6)
    assert rows["default"]["ms"] > rows["small14"]["ms"] > 0 and rows["raw pixels"]["ms"] is None
    assert rows["default"]["correspondence"] > rows["small14"]["correspondence"]
    assert all(0 <= row[key] <= 100 for row in rows.values() for key in ("knn", "linear", "correspondence"))


def test_untrained_is_of_the_same_kind_and_untrained() -> None:
    backbone, _ = load_pretrained("default", torch.device("cpu"))
    before = torch.random.get_rng_state()
    untrained = random_like(backbone)
    assert torch.equal(before, torch.random.get_rng_state())
    shapes = {name: value.shape for name, value in backbone.state_dict().items()}
    assert {name: value.shape for name, value in untrained.state_dict().items()} == shapes
    own, other = backbone.state_dict(), untrained.state_dict()
    changed = [name for name in shapes if not torch.equal(own[name], other[name])]
    assert set(shapes) - set(changed) <= {"cls_token", "mask_token"}


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="check the path"):
        main([str(tmp_path / "none.safetensors"), "--images", str(tmp_path), "--out", str(tmp_path / "t")])
