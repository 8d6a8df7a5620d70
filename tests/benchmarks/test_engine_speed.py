"""Speed of the engines: what is counted as an operation, what the peak multiplies, and a small run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import engine_times, engines
from benchmarks.engine_profile import operation_times
from slamfeat.backbones.load import parse_device
from slamfeat.bench import peak
from slamfeat.engines import make_engine
from slamfeat.engines.libraries import installed, openvino_core
from slamfeat.errors import ConfigError
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.image import read_image
from tests.backbones.tiny_backbones import make_backbone


def test_operations_of_a_vit_small_are_counted_as_in_its_paper() -> None:
    backbone, _ = load_pretrained("dinov2-vits14-int8", parse_device("cpu"))
    width, tokens, blocks = 384, 17 * 22 + 1, 9
    # Twelve width^2 weights a block (query, key, value, projection, and the MLP's two by four).
    linear = 2 * tokens * 12 * width**2
    attention = 2 * 2 * tokens**2 * width
    embedding = 2 * (tokens - 1) * 3 * 14**2 * width
    expected = blocks * (linear + attention) + embedding
    assert peak.backbone_operations(backbone, [8], 17, 22) == pytest.approx(expected)
    assert peak.backbone_operations(backbone, [0], 17, 22) == pytest.approx(linear + attention + embedding)


def test_the_int8_peak_multiplies_integers_and_is_right() -> None:
    if not installed("openvino"):
        pytest.skip("OpenVINO is an optional extra")
    generator = np.random.default_rng(0)
    first, second = (generator.uniform(-1, 1, (128, 128)).astype(np.float32) for _ in range(2))
    compiled = openvino_core().compile_model(peak._product_model(second, quantised=True), "CPU")
    product = compiled(first)[0]
    # Each factor is off by at most half a step, 1/256: 128 products of both, at random.
    assert np.abs(product - first @ second).max() < 0.2
    kinds = {op.get_rt_info()["layerType"]: op.get_rt_info()["runtimePrecision"] for op in _operations(compiled)}
    product_kind = next(kind for kind in kinds if kind in ("FullyConnected", "MatMul"))
    assert kinds[product_kind] in ("u8", "i8"), kinds


def _operations(compiled: object) -> list[object]:
    return list(compiled.get_runtime_model().get_ordered_ops())  # type: ignore[attr-defined]


def test_peaks_are_of_every_precision_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "SIZES", (64,))
    found = peak.matmul_peaks()
    assert set(found) == {"fp32", "bf16", "int8"}
    assert found["fp32"] and found["fp32"] > 0
    monkeypatch.setattr("slamfeat.engines.libraries.installed", lambda *names: False)
    without = peak.matmul_peaks()
    assert without["int8"] is None and without["bf16"] and without["bf16"] > 0


def test_the_profile_accounts_for_the_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed("openvino", "onnx", "onnxscript"):
        pytest.skip("OpenVINO and the exporter are optional extras")
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    backbone = make_backbone("tiny2").requires_grad_(False)
    engine = make_engine(backbone, [backbone.depth - 1], engine="openvino", precision="fp32")
    found = operation_times(engine, torch.rand(1, 3, 56, 70))
    assert sum(row["share_percent"] for row in found) == pytest.approx(100)
    kinds = {row["operation"] for row in found}
    assert "attention" in kinds and {"FullyConnected", "MatMul"} & kinds
    assert [row["ms"] for row in found] == sorted((row["ms"] for row in found), reverse=True)


def test_a_small_run_names_what_is_not_there(
    tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch, photo: np.ndarray
) -> None:
    import cv2

    combinations = (("torch", "fp32"), ("torch", "bf16"), ("torch", "int8"))
    monkeypatch.setattr(engine_times, "COMBINATIONS", combinations)
    monkeypatch.setattr(peak, "SIZES", (64,))
    for folder in ("handheld/ngp_fox_50/images", "unlabelled/kodak24"):
        (tmp_path / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / folder / "a.png"), read_image(sorted((sample / "rgb").iterdir())[3]))
    words = ["--weights", "default", "--sizes", "70x56", "--threads", "1", "--rounds", "1", "--here"]
    engines.main([str(tmp_path), "--out", str(tmp_path / "out"), *words])
    stored = json.loads((tmp_path / "out.json").read_text())
    rows = {row["arithmetic"]: row for row in stored["rows"]}
    assert rows["fp32"]["cosine"] == pytest.approx(1, abs=1e-5) and rows["fp32"]["tokens"] == 20
    assert 0.99 < rows["bf16"]["lowest_cosine"] <= rows["bf16"]["cosine"] < 1
    assert "openvino" in rows["int8"]["note"] and "median_ms" not in rows["int8"]
    assert rows["fp32"]["of_own_peak_percent"] > 0
    assert (tmp_path / "out.png").stat().st_size > 3000 and "torch" in (tmp_path / "out.md").read_text()
    assert not list(tmp_path.glob("*.part"))


def test_a_failed_run_keeps_earlier_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(work: object) -> None:
        raise ConfigError("no engine today")

    monkeypatch.setattr(engines, "measure", fail)
    for suffix in (".json", ".md", ".png"):
        (tmp_path / f"out{suffix}").write_text("kept")
    with pytest.raises(SystemExit, match="no engine today"):
        engines.main([str(tmp_path), "--out", str(tmp_path / "out"), "--threads", "1", "--here"])
    assert {file.read_text() for file in tmp_path.iterdir()} == {"kept"} and len(list(tmp_path.iterdir())) == 3
