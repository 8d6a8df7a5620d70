"""Which engine `auto` takes, and what is said when something cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine_backbones import LAYERS, make_backbone, need, need_engine, random_images, reference

from slamfeat.engines import choose as choosing
from slamfeat.engines import graph, make_engine, plan_engine, quantise
from slamfeat.engines.choose import Means, choose
from slamfeat.errors import ConfigError, InputError, MissingDependencyError, OutputError

LIBRARIES = ("openvino", "nncf", "onnx", "onnxscript", "onnxruntime")
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("there", "processor", "wanted"),
    [
        (("openvino", "nncf", "onnx", "onnxscript"), "bf16 int8", ("openvino", "int8")),
        (("openvino", "nncf", "onnx", "onnxscript"), "int8", ("openvino", "int8")),
        (("openvino", "nncf", "onnx", "onnxscript"), "", ("openvino", "fp32")),
        (("openvino", "onnx", "onnxscript"), "bf16 int8", ("openvino", "bf16")),
        (("openvino", "onnx", "onnxscript"), "int8", ("openvino", "fp32")),
        (("openvino", "nncf"), "bf16 int8", ("torch", "bf16")),
        (("onnxruntime", "onnx", "onnxscript"), "bf16 int8", ("torch", "bf16")),
        (("onnxruntime", "onnx", "onnxscript"), "int8", ("onnx", "fp32")),
        (("onnxruntime",), "int8", ("torch", "fp32")),
        ((), "bf16 int8", ("torch", "bf16")),
        ((), "", ("torch", "fp32")),
    ],
)
def test_auto(
    there: tuple[str, ...], processor: str, wanted: tuple[str, str], hide: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    for name in there:
        need(name)
    hide(*(set(LIBRARIES) - set(there)))
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    monkeypatch.setattr(choosing, "cpu_has_bfloat16", lambda: "bf16" in processor)
    monkeypatch.setattr(choosing, "cpu_has_int8", lambda: "int8" in processor)
    choice = plan_engine(make_backbone("dinov2"), LAYERS)
    assert (choice.engine, choice.precision) == wanted


@pytest.mark.parametrize(("bf16", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_openvino_beside_a_backbone_elsewhere_asks_the_processor(
    bf16: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("openvino")
    monkeypatch.setattr(choosing, "cpu_has_bfloat16", lambda: bf16)
    monkeypatch.setattr(choosing, "native_bfloat16", lambda device: not bf16)
    means = Means(torch.device("cuda"), graph=True, int8=False)
    assert choose("openvino", "auto", means).precision == wanted
    assert choose("torch", "auto", means).precision == ("fp32" if bf16 else "bf16")


def test_a_kept_graph_needs_onnxruntime_alone(
    hide: Callable[..., None], monkeypatch: pytest.MonkeyPatch, export_once: None
) -> None:
    need_engine("onnx")
    backbone = make_backbone("dinov2")
    images = random_images(backbone, 4, 5)
    make_engine(backbone, LAYERS, "onnx")
    hide(*(set(LIBRARIES) - {"onnxruntime"}))
    monkeypatch.setattr(choosing, "cpu_has_bfloat16", lambda: False)
    engine = make_engine(backbone, LAYERS)
    assert engine.name == "onnx"
    torch.testing.assert_close(engine(images)[0], reference(backbone, images)[0], atol=2e-5, rtol=1e-4)


def test_without_8_bit_products_int8_weights_take_half_of_the_range(
    images_folder: Path, monkeypatch: pytest.MonkeyPatch, export_once: None
) -> None:
    need_engine("openvino", "int8")
    backbone = make_backbone("dinov2")
    images, entries = random_images(backbone, 4, 5), []
    for has_int8, largest in ((True, 127), (False, 64)):
        monkeypatch.setattr(quantise, "cpu_has_int8", lambda has_int8=has_int8: has_int8)
        engine = make_engine(backbone, LAYERS, "openvino", "int8", images_folder)
        weights = [
            node.data
            for node in engine._model.get_ops()  # type: ignore[attr-defined]
            if node.get_type_name() == "Constant"
            and node.get_element_type().get_type_name() == "i8"
            and node.data.ndim > 1
        ]
        assert weights and largest - 1 <= max(int(abs(values.astype(int)).max()) for values in weights) <= largest + 1
        assert torch.cosine_similarity(engine(images)[0], reference(backbone, images)[0], dim=1).mean() > 0.99
        entries.append(quantise.quantised_entry(graph.graph_entry(backbone, LAYERS), images_folder))
    assert entries[0].folder != entries[1].folder


@pytest.mark.parametrize(
    "error", [RuntimeError("no kernel\nfor this"), ImportError("libopenvino.so"), OutputError("x")]
)
def test_auto_takes_torch_where_the_chosen_engine_cannot_be_built(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    need_engine("openvino", "int8")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("slamfeat.engines.make._openvino", fail)
    backbone = make_backbone("dinov2")
    for precision, wanted in (("auto", "bf16" if choosing.cpu_has_bfloat16() else "fp32"), ("fp32", "fp32")):
        caplog.clear()
        engine = make_engine(backbone, LAYERS, "auto", precision)
        assert (engine.name, engine.precision) == ("torch", wanted)
        (line,) = [record.message for record in caplog.records]
        assert "openvino failed" in line and "\n" not in line
    for asked in (("openvino", "auto"), ("auto", "int8")):
        with pytest.raises(type(error)):
            make_engine(backbone, LAYERS, *asked)


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


@pytest.mark.parametrize("engine", ["openvino", "auto"])
def test_an_empty_calibration_folder_is_named(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_engine("openvino", "int8")
    monkeypatch.setattr(choosing, "cpu_has_int8", lambda: True)
    with pytest.raises(InputError, match=f"calibration: {tmp_path}: holds no images"):
        make_engine(make_backbone("dinov2"), LAYERS, engine, "auto", tmp_path)


def test_weights_beyond_one_file_take_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    need("openvino")
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    monkeypatch.setattr("slamfeat.engines.graph._MAX_BYTES", 1000)
    backbone = make_backbone("dinov2")
    assert plan_engine(backbone, LAYERS).engine == "torch"
    with pytest.raises(ConfigError, match="2 GB"):
        plan_engine(backbone, LAYERS, "openvino", "fp32")
