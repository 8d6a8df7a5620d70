"""Backbones of one's own: files that say how they are built."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import slamfeat as sf
from slamfeat.backbones.checkpoints import read_metadata
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.own import save_backbone
from slamfeat.backbones.packed import pack
from slamfeat.backbones.registry import Architecture
from slamfeat.errors import ConfigError, OutputError, WeightsError

ARCHITECTURE = Architecture(64, 3, 2, 14, 2, "antialias", grid=8, layer_scale=1e-5)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    state = random_backbone(ARCHITECTURE).state_dict()
    return save_backbone(state, ARCHITECTURE, tmp_path / "mine.safetensors", name="mine", notes={"recipe": "x"})


def test_a_file_is_enough(file: Path, photo: object) -> None:
    backbone = sf.load_backbone(str(file))
    assert (backbone.name, backbone.depth, backbone.num_registers) == ("mine", 3, 2)
    expected = random_backbone(ARCHITECTURE)
    images = torch.randn(1, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(backbone(images).patch, expected(images).patch)
    frontend = sf.Frontend.from_pretrained(file)
    assert frontend.backbone.name == "mine" and int(frontend.extract(photo).mask.sum()) > 100
    assert read_metadata(file)["recipe"] == "x"


def test_a_full_disk_is_told(
    file: Path, tmp_path: Path, small_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    before = file.read_bytes()
    with pytest.raises(OutputError, match=r"cannot write .*mine.safetensors"), small_disk(1000):
        save_backbone(load_file(file), ARCHITECTURE, file, name="mine")
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == [file.name]


def test_it_can_be_packed(file: Path, tmp_path: Path) -> None:
    packed = pack(load_file(file), tmp_path / "small.safetensors", name="mine", depth=2, architecture=ARCHITECTURE)
    assert packed.stat().st_size < 0.5 * file.stat().st_size
    small = sf.load_backbone(str(packed))
    images = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    first, second = (backbone.intermediate(images, [1])[0] for backbone in (small, sf.load_backbone(str(file))))
    assert small.depth == 2
    assert float(torch.cosine_similarity(first, second, dim=1).min()) > 0.999


def test_one_that_imitates_another_serves_its_heads(tmp_path: Path, photo: object) -> None:
    """Its last block's tokens are mapped, and no others; presets and shipped heads take them for the imitated ones."""
    imitating = replace(ARCHITECTURE, output_dim=384, imitates="dinov2-vits14/5")
    made = random_backbone(imitating)
    save_backbone(made.state_dict(), imitating, tmp_path / "like.safetensors", name="like")
    pack(made.state_dict(), tmp_path / "packed.safetensors", name="like", architecture=imitating)
    images = torch.randn(1, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    for name in ("like", "packed"):
        backbone = sf.load_backbone(str(tmp_path / f"{name}.safetensors"))
        assert backbone.imitates == ("dinov2-vits14", 5) and backbone.output is not None
        first, last = backbone.intermediate(images, [0, -1])
        assert (first.shape[1], last.shape[1]) == (64, 384)
        plain = backbone(images).patch
        expected = torch.nn.functional.linear(plain.movedim(1, -1), backbone.output.weight, backbone.output.bias)
        torch.testing.assert_close(last, expected.movedim(-1, 1))
    frontend = sf.Frontend.from_pretrained(tmp_path / "like.safetensors")  # "balanced", with the light heads
    assert frontend.config.heads == "light" and frontend.layers == [2]
    features = frontend.extract(photo)
    assert features.grid is not None and features.grid.tokens.shape[1] == 384
    assert int(frontend.match(features, features).mask.sum()) > 100
    with pytest.raises(ConfigError, match="trained on block 5 of dinov2-vits14"):
        sf.Frontend(made, replace(frontend.config, layers=[1]))
    other = replace(imitating, imitates="dinov2-vits14/7").build()
    save_backbone(
        other.state_dict(), replace(imitating, imitates="dinov2-vits14/7"), tmp_path / "o.safetensors", name="o"
    )
    assert sf.Frontend.from_pretrained(tmp_path / "o.safetensors").config.heads == ""  # none know that block
    with pytest.raises(ConfigError, match="trained on block 5 of dinov2-vits14"):
        sf.Frontend(other, frontend.config)
    with pytest.raises(ConfigError, match="with its last block; keep all 3 blocks"):
        pack(made.state_dict(), tmp_path / "cut.safetensors", name="like", depth=2, architecture=imitating)


def test_what_a_file_cannot_say(file: Path, tmp_path: Path) -> None:
    state, metadata = load_file(file), read_metadata(file)
    with pytest.raises(ConfigError, match="a name that no published one has"):
        save_backbone(state, ARCHITECTURE, tmp_path / "x.safetensors", name="dinov2-vits14")
    with pytest.raises(WeightsError, match=r"holds mine, not dinov2-vits14"):
        sf.load_backbone("dinov2-vits14", file)
    odd = tmp_path / "odd.safetensors"
    save_file(state, odd, metadata={**metadata, "architecture": json.dumps({"wings": 2})})
    with pytest.raises(WeightsError, match="describe no backbone"):
        sf.load_backbone(str(odd))
    blockless = json.dumps(asdict(replace(ARCHITECTURE, output_dim=8, imitates="dinov2-vits14")))
    save_file(state, odd, metadata={**metadata, "architecture": blockless})
    with pytest.raises(WeightsError, match="describe no backbone"):
        sf.load_backbone(str(odd))
    nameless = tmp_path / "nameless.safetensors"
    save_file(state, nameless)
    with pytest.raises(WeightsError, match="does not say how its backbone is built"):
        sf.load_backbone(str(nameless))
    save_file(state | {"norm.bias": torch.ones(64)}, odd, metadata=metadata)
    with pytest.raises(WeightsError, match="checksum"):
        sf.load_backbone(str(odd))
    with pytest.raises(WeightsError, match="no such file"):
        sf.load_backbone(str(tmp_path / "absent.safetensors"))
