"""The small int8 form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_backbones import TINY, make_backbone, random_images

from slamfeat.backbones import load_backbone, packed, store
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.own import save_backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.errors import ConfigError, WeightsError


@pytest.mark.parametrize("name", list(TINY))
def test_close_to_the_full_one(name: str, tmp_path: Path) -> None:
    full = make_backbone(name).freeze()
    path = packed.pack(full.state_dict(), tmp_path / "p.safetensors", name=name)
    small = load_backbone(name, path)
    images = random_images(full.patch_size)
    for expected, got in zip(full.intermediate(images, [0, 1, 2]), small.intermediate(images, [0, 1, 2]), strict=True):
        assert torch.cosine_similarity(expected, got, dim=1).min() > 0.995
    assert small.dtype == torch.float32 and small.frozen


def test_fewer_blocks(tmp_path: Path) -> None:
    full = make_backbone("tiny2").freeze()
    path = packed.pack(full.state_dict(), tmp_path / "p.safetensors", name="tiny2", depth=2, source="s", note="n")
    small = load_backbone("tiny2", path)
    images = random_images(14)
    assert small.depth == len(small.blocks) == 2
    cosine = torch.cosine_similarity(full.intermediate(images, [1])[0], small(images).patch, dim=1)
    assert cosine.min() > 0.995
    with pytest.raises(ConfigError, match=r"0\.\.1"):
        small.intermediate(images, [2])
    state, metadata = packed.unpack(path)
    assert len(metadata.pop("sha256")) == 64
    assert metadata == {"format": packed.FORMAT, "name": "tiny2", "depth": "2", "source": "s", "note": "n"}
    assert not any(key.startswith("blocks.2.") or "::" in key for key in state)


def test_flipped_bits_are_noticed(tmp_path: Path) -> None:
    path = packed.pack(make_backbone("tiny2").state_dict(), tmp_path / "p.safetensors", name="tiny2")
    data = bytearray(path.read_bytes())
    data[-200] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"p\.safetensors.*checksum"):
        load_backbone("tiny2", path)


def test_size(tmp_path: Path) -> None:
    state = make_backbone("tiny2").state_dict()
    path = packed.pack(state, tmp_path / "p.safetensors", name="tiny2")
    numbers = sum(value.numel() for value in state.values())
    assert path.stat().st_size < numbers * 1.35 + 20_000


def test_rounding_is_within_half_a_step() -> None:
    weight = torch.randn(20, 30) * torch.logspace(-6, 2, 20)[:, None]
    back = packed.unpack_tensors(packed._quantize("x.weight", weight))["x.weight"]
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((back - weight).abs() <= step * 0.6 + 1e-5).all()


def test_refused(tmp_path: Path) -> None:
    state = make_backbone("tiny2").state_dict()
    with pytest.raises(ConfigError, match="between 1 and 3"):
        packed.pack(state, tmp_path / "p.safetensors", name="tiny2", depth=4)
    path = packed.pack(state, tmp_path / "p.safetensors", name="tiny2")
    with pytest.raises(WeightsError, match=r"p\.safetensors: packed weights of tiny2, but tiny3 was asked for"):
        load_backbone("tiny3", path)
    plain = tmp_path / "plain.pth"
    torch.save(state, plain)
    with pytest.raises(WeightsError, match="not a packed backbone"):
        packed.unpack(plain)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(WeightsError, match="truncated"):
        load_backbone("tiny2", path)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    out = tmp_path / "out.safetensors"
    with pytest.raises(SystemExit) as stopped:
        packed.main(["tiny2", str(out)])
    assert stopped.value.code == 1 and "slamfeat weights get tiny2" in capsys.readouterr().err
    state = make_backbone("tiny2").state_dict()
    store.save_stored("tiny2", state, source="here", source_sha256="0", note="a note")
    assert packed.main(["tiny2", str(out), "--depth", "1"]) == 0
    _, metadata = packed.unpack(out)
    assert (metadata["depth"], metadata["source"], metadata["note"]) == ("1", "here", "a note")


def test_of_a_backbone_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    architecture = Architecture(32, 2, 1, 14, 0, "offset", "mlp", 4.0, 4, 1.0, output_dim=64, imitates="tiny2/1")
    full = random_backbone(architecture, "own14").freeze()
    file, out = tmp_path / "own.safetensors", tmp_path / "small.safetensors"
    save_backbone(full.state_dict(), architecture, file, name="own14", notes={"recipe": "r", "commit": "c"})
    assert packed.main([str(file), str(out)]) == 0
    small = load_backbone("own14", out)
    images = random_images(14)
    assert torch.cosine_similarity(full(images).patch, small(images).patch, dim=1).min() > 0.995
    assert small.imitates == ("tiny2", 1) and 2 * out.stat().st_size < file.stat().st_size
    _, metadata = packed.unpack(out)
    assert (metadata["source"], metadata["recipe"]) == ("trained by slamfeat at commit c", "r")
    for wrong, said in ((out, "slamfeat distill wrote"), (tmp_path / "none.safetensors", "none.safetensors")):
        with pytest.raises(SystemExit):
            packed.main([str(wrong), str(tmp_path / "x.safetensors")])
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        packed.main([str(file), str(tmp_path / "x.safetensors"), "--depth", "1"])
    assert "keep all 2 blocks" in capsys.readouterr().err
