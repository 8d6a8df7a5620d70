"""Files that are damaged or belong elsewhere: a WeightsError that names the file and says what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_backbones import random_state

from slamfeat.backbones import load_backbone
from slamfeat.backbones.registry import BACKBONES
from slamfeat.errors import MissingDependencyError, WeightsError


class Evil:
    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return (print, ("unpickled!",))


def _refused(path: Path, pattern: str, name: str = "tiny2") -> None:
    with pytest.raises(WeightsError, match=pattern) as caught:
        load_backbone(name, path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def _write(path: Path, *, name: str = "tiny2", **changes: torch.Tensor | None) -> Path:
    state = random_state(name)
    for key, value in changes.items():
        state.pop(key, None)
        if value is not None:
            state[key] = value
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 3, 100, 0.3, 0.9, 0.999])
def test_truncated(suffix: str, keep: float, tmp_path: Path) -> None:
    path = _write(tmp_path / f"cut{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    _refused(path, "truncated|not a")


@pytest.mark.parametrize("suffix", [".onnx", ".whl"])
def test_truncated_onnx(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(b"PK\x03\x04 not really")
    _refused(path, "truncated")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
def test_garbage(suffix: str, tmp_path: Path) -> None:
    for seed in range(40):
        path = tmp_path / f"garbage{suffix}"
        noise = torch.randint(0, 256, (200,), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        path.write_bytes(noise.numpy().tobytes())
        _refused(path, "not a|truncated")


def test_wrong_keys(tmp_path: Path) -> None:
    path = _write(tmp_path / "keys.pth", **{"norm.weight": None, "head.weight": torch.zeros(2)})
    _refused(path, r"1 missing: norm\.weight; 1 unexpected: head\.weight")


def test_wrong_shape(tmp_path: Path) -> None:
    path = _write(tmp_path / "shape.safetensors", pos_embed=torch.zeros(1, 17, 48))
    _refused(path, r"pos_embed \(1, 17, 48\) instead of \(1, 26, 48\)")


def test_other_architecture_is_named(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = BACKBONES["dinov2-vits14"].architecture.build().state_dict()
    path = tmp_path / "small.safetensors"
    save_file({key: torch.zeros(value.shape, dtype=torch.float16) for key, value in shapes.items()}, path)
    _refused(path, "this looks like dinov2-vits14 .*embed 384.* load it under that name", name="dinov2-vitb14")
    _refused(path, "this looks like dinov2-vits14 ", name="dinov3-vits16")
    path = _write(tmp_path / "three.pth", name="tiny3")
    _refused(path, "this looks like tiny3 ", name="tiny2-reg4")


def test_no_transformer_inside(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(3, 3)}, path)
    _refused(path, "holds no vision transformer")
    torch.save({"epoch": 3}, path)
    _refused(path, "holds no tensors")


def test_nothing_is_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": random_state("tiny2"), "extra": Evil()}, path)
    _refused(path, "not unpickled; save its state dict alone")
    assert "unpickled!" not in capsys.readouterr().out


def test_missing_file_folder_pointer_and_page(tmp_path: Path) -> None:
    _refused(tmp_path / "absent.pth", "no such file")
    _refused(tmp_path, "no such file")
    pointer = tmp_path / "model.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    _refused(pointer, "git lfs pull")
    page = tmp_path / "page.pth"
    page.write_text("<!DOCTYPE html><html>not found</html>")
    _refused(page, "web page")


def test_onnx_package_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "slamfeat\[onnx\]"'):
        load_backbone("tiny2", path)
