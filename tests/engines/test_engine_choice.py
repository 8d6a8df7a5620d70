"""Which engine `auto` takes, and what is said when something cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine_backbones import LAYERS, make_backbone, need, random_images, reference

from slamfeat.engines import choose as choosing
from slamfeat.engines import make_engine, plan_engine
from slamfeat.engines.choose import Means, choose
from slamfeat.errors import ConfigError, InputError, MissingDependencyError

LIBRARIES = ("openvino", "nncf", "onnx", "onnxscript", "onnxruntime")
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("there", "bf16", "wanted"),
    [
        (("openvino", "nncf", "onnx", "onnxscript"), True, ("openvino", "int8")),
        (("openvino", "onnx", "onnxscript"), True, ("openvino", "bf16")),
        (("openvino", "onnx", "onnxscript"), False, ("openvino", "fp32")),
        (("openvino", "nncf"), True, ("torch", "bf16")),
        (("onnxruntime", "onnx", "onnxscript"), True, ("torch", "bf16")),
        (("onnxruntime", "onnx", "onnxscript"), False, ("onnx", "fp32")),
        (("onnxruntime",), False, ("torch", "fp32")),
        ((), True, ("torch", "bf16")),
        ((), False, ("torch", "fp32")),
    ],
)
def test_auto(
    there: tuple[str, ...], bf16: bool, wanted: tuple[str, str], hide: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    for name in there:
        need(name)
    hide(*(set(LIBRARIES) - set(there)))
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    monkeypatch.setattr(choosing, "cpu_has_bfloat16", lambda: bf16)
    choice = plan_engine(make_backbone("dinov2"), LAYERS)
    assert (choice.engine, choice.precision) == wanted


def test_another_device_takes_torch() -> None:
    choice = choose("auto", "auto", Means(torch.device("mps"), graph=True, int8=True))
    assert (choice.engine, choice.precision) == ("torch", "fp32")


def test_everything_works_without_optional_libraries(hide: Callable[..., None]) -> None:
    hide(*LIBRARIES)
    backbone = make_backbone("dinov3")
    images = random_images(backbone, 4, 5)
    engine = make_engine(backbone, LAYERS)
    assert engine.name == "torch"
    cosine = torch.nn.functional.cosine_similarity(engine(images)[0], reference(backbone, images)[0], dim=1)
    assert cosine.mean() > 0.999


@pytest.mark.parametrize(
    ("engine", "precision", "missing", "message"),
    [
        ("openvino", "auto", "openvino", 'openvino.*pip install "slamfeat\\[openvino\\]"'),
        ("openvino", "int8", "nncf", 'nncf.*pip install "slamfeat\\[openvino\\]"'),
        ("openvino", "fp32", "onnxscript", 'onnxscript.*pip install "slamfeat\\[openvino\\]"'),
        ("onnx", "auto", "onnxruntime", 'onnxruntime.*pip install "slamfeat\\[onnx\\]"'),
        ("onnx", "fp32", "onnx", 'needs onnx;.*pip install "slamfeat\\[onnx\\]"'),
    ],
)
def test_what_is_missing_is_named(
    engine: str, precision: str, missing: str, message: str, hide: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    need("openvino")
    need("onnxruntime")
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    hide(missing)
    with pytest.raises(MissingDependencyError, match=message):
        make_engine(make_backbone("dinov2"), LAYERS, engine, precision)


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("tensorrt", "auto", "engine: unknown 'tensorrt'; use one of auto, torch, openvino, onnx"),
        ("auto", "fp16", "precision: unknown 'fp16'; use one of auto, fp32, bf16, int8"),
        ("torch", "int8", 'int8 needs engine=openvino \\(pip install "slamfeat\\[openvino\\]"\\)'),
        ("onnx", "bf16", "onnx offers fp32, not bf16"),
        ("onnx", "int8", "onnx offers fp32"),
    ],
)
def test_mistakes(engine: str, precision: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_engine(make_backbone("dinov2"), LAYERS, engine, precision)


def test_an_empty_calibration_folder_is_named(tmp_path: Path) -> None:
    for name in ("onnxscript", "openvino", "nncf"):
        need(name)
    with pytest.raises(InputError, match=f"no images in {tmp_path}"):
        make_engine(make_backbone("dinov2"), LAYERS, "openvino", "int8", tmp_path)


def test_weights_beyond_one_file_take_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    need("openvino")
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    monkeypatch.setattr("slamfeat.engines.graph._MAX_BYTES", 1000)
    backbone = make_backbone("dinov2")
    assert plan_engine(backbone, LAYERS).engine == "torch"
    with pytest.raises(ConfigError, match="2 GB"):
        plan_engine(backbone, LAYERS, "openvino", "fp32")
