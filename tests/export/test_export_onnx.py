"""Exported graphs, read by ONNX Runtime and OpenVINO, say what the frontend says; on frames the export never saw."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx_helpers import (
    ARCHITECTURES,
    MATCHER_INPUTS,
    SLOTS,
    assert_same_features,
    backbone,
    frames,
    matcher_inputs,
    run_openvino,
)
from torch import Tensor
from torch.nn import functional as F

from slamfeat.engines.libraries import installed
from slamfeat.errors import ConfigError, MissingDependencyError, OutputError
from slamfeat.export import onnx as exporting
from slamfeat.export.graphs import Graph
from slamfeat.export.onnx_check import compare_features, compare_matches, run
from slamfeat.export.onnx_ops import max_of_cells
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.matcher import MatcherConfig
from slamfeat.frontend.refine import RefineConfig
from slamfeat.frontend.selector import SelectorConfig

# Not `importorskip`: importing ONNX Runtime or OpenVINO plainly starts their telemetry.
pytestmark = pytest.mark.skipif(
    not installed("onnx", "onnxscript", "onnxruntime"), reason='exporter not installed: pip install "slamfeat[onnx]"'
)


@pytest.fixture(scope="module")
def frontend() -> Frontend:
    return Frontend(backbone(), FrontendConfig(refine=RefineConfig(method="none")))


@pytest.fixture(scope="module")
def frontend_file(frontend: Frontend, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At 300x220, which is cropped to 280x196."""
    out = tmp_path_factory.mktemp("onnx") / "frontend.onnx"
    figures = exporting.export_frontend(frontend, frames(sample, (300, 220), 0, 4), SLOTS, out)
    assert figures is not None and figures["keypoints_equal"] >= 0.98
    return out


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_backbone(name: str, sample: Path, tmp_path: Path) -> None:
    one = backbone(name)
    size = (9 * one.patch_size, 7 * one.patch_size)
    out = tmp_path / "backbone.onnx"
    exporting.export_backbone(Frontend(one, FrontendConfig(layers=[0, -1])), frames(sample, size, 0, 4), out)
    for images in (frames(sample, size, 20), frames(sample, size, 20, 30, 40)):
        found = run(out, ["image"], [images])
        assert list(found) == ["tokens_0", "tokens_-1"]
        for tokens, expected in zip(found.values(), one.intermediate(one.normalize(images), [0, -1]), strict=True):
            assert tokens.shape == expected.shape == (len(images), 48, 7, 9)
            torch.testing.assert_close(tokens, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("numbers", [(20,), (20, 30, 40)])
def test_frontend(frontend: Frontend, frontend_file: Path, sample: Path, numbers: tuple[int, ...]) -> None:
    images = frames(sample, (300, 220), *numbers)
    found = run(frontend_file, ["image"], [images])
    assert list(found) == ["keypoints", "scores", "descriptors", "mask", "tokens"]
    assert_same_features(found, frontend.extract(images, SLOTS))


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (FrontendConfig(fit="pad", local="none", sampling="floor"), (300, 220)),
        (
            FrontendConfig(
                fit="resize", center=False, selector=SelectorConfig(saliency="shi_tomasi", coverage=0, splits=2)
            ),
            (290, 230),
        ),
    ],
    ids=["pad", "resize"],
)
def test_frontend_with_other_settings(
    config: FrontendConfig, size: tuple[int, int], sample: Path, tmp_path: Path
) -> None:
    one, out = Frontend(backbone(), config), tmp_path / "frontend.onnx"
    exporting.export_frontend(one, frames(sample, size, 0, 4), SLOTS, out)
    images = frames(sample, size, 30, 40)
    assert_same_features(run(out, ["image"], [images]), one.extract(images, SLOTS))


def test_an_image_without_texture_has_no_keypoints(frontend_file: Path, sample: Path) -> None:
    images = frames(sample, (300, 220), 20, 30)
    images[0] = 0.5
    found = run(frontend_file, ["image"], [images])
    assert not found["mask"][0].any() and found["mask"][1].any()
    for name in ("keypoints", "scores", "descriptors"):
        assert not found[name][0].any()


def test_openvino_reads_the_frontend(frontend: Frontend, frontend_file: Path, sample: Path) -> None:
    if not installed("openvino"):
        pytest.skip("OpenVINO is not installed")
    images = frames(sample, (300, 220), 20, 30)
    assert_same_features(run_openvino(frontend_file, ["image"], [images]), frontend.extract(images, SLOTS))


@pytest.mark.parametrize(
    "matcher",
    [MatcherConfig(), MatcherConfig(method="dual_softmax", radius=40.0, gate=0.5, min_similarity=0.3)],
    ids=["mutual", "dual_softmax"],
)
def test_matcher(
    matcher: MatcherConfig, frontend: Frontend, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, out = Frontend(frontend.backbone, replace(frontend.config, matcher=matcher)), tmp_path / "matcher.onnx"
    sets = [one.extract(frames(sample, (300, 220), *n), SLOTS) for n in ((0, 4), (2, 6))]
    exporting.export_matcher(one, *sets, out)
    monkeypatch.setattr("slamfeat.frontend.matching.cpu_has_bfloat16", lambda: False)  # as no graph has
    images = frames(sample, (300, 220), 20, 30, 24, 33)
    images[1] = 0.5  # an image without texture has nothing to match
    sets = [one.extract(images[:2], SLOTS), one.extract(images[2:], SLOTS)]
    found, expected = run(out, MATCHER_INPUTS, matcher_inputs(*sets)), one.match(*sets)
    assert list(found) == ["indices0", "scores"]
    assert len(expected) > 50
    assert (found["indices0"] == expected.indices).float().mean() > 0.998
    assert not (found["indices0"][1] >= 0).any() and not found["scores"][1].any()
    agreeing = found["indices0"] == expected.indices
    torch.testing.assert_close(found["scores"][agreeing], expected.scores[agreeing], atol=1e-4, rtol=0)


def test_matcher_without_gate_takes_no_tokens(frontend: Frontend, sample: Path, tmp_path: Path) -> None:
    one, out = (
        Frontend(frontend.backbone, replace(frontend.config, matcher=MatcherConfig(gate=1.0))),
        tmp_path / "m.onnx",
    )
    sets = [one.extract(frames(sample, (300, 220), *n), SLOTS) for n in ((0, 4), (2, 6))]
    figures = exporting.export_matcher(one, *sets, out)
    assert figures is not None and figures["matches_equal"] > 0.99
    few = [
        (name, value) for name, value in zip(MATCHER_INPUTS, matcher_inputs(*sets), strict=True) if "tok" not in name
    ]
    assert torch.equal(run(out, *zip(*few, strict=True))["indices0"], one.match(*sets).indices)


def test_what_cannot_be_a_graph_is_said(frontend: Frontend, sample: Path, tmp_path: Path) -> None:
    images, out = frames(sample, (300, 220), 0, 4), tmp_path / "x.onnx"
    with pytest.raises(ConfigError, match=r"300x220.*whole patches of 14.*--size 294x224"):
        exporting.export_backbone(frontend, images, out)
    features = frontend.extract(images, SLOTS)
    guided = Frontend(frontend.backbone, replace(frontend.config, matcher=MatcherConfig(method="guided")))
    with pytest.raises(ConfigError, match="guided"):
        exporting.export_matcher(guided, features, features, out)
    half = Frontend(backbone().bfloat16().freeze(), frontend.config)
    with pytest.raises(ConfigError, match="float32"):
        exporting.export_backbone(half, frames(sample, (126, 98), 0, 4), out)
    assert list(tmp_path.iterdir()) == []


Spoil = Callable[[Tensor], Tensor]


def noise(value: Tensor) -> Tensor:
    return value + torch.randn(value.shape, generator=torch.Generator().manual_seed(0))


def nan(value: Tensor) -> Tensor:
    """In one place of the last image."""
    value = value.clone()
    value[(-1, *(0 for _ in value.shape[1:]))] = torch.nan
    return value


@pytest.fixture
def trace_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing takes seconds; only what comes of it is looked at."""
    trace, traced = exporting._trace, {}

    def remember(graph: Graph, inputs: tuple[Tensor, ...]) -> object:
        if "program" not in traced:
            traced["program"] = trace(graph, inputs)
        return traced["program"]

    monkeypatch.setattr(exporting, "_trace", remember)


@pytest.mark.parametrize(
    ("part", "outputs"),
    [
        ("backbone", ("tokens_0", "tokens_-1")),
        ("frontend", ("keypoints", "scores", "descriptors", "tokens")),
        ("matcher", ("scores",)),
    ],
)
def test_a_graph_that_disagrees_is_not_written(
    part: str, outputs: tuple[str, ...], frontend: Frontend, sample: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, trace_once: None,
) -> None:  # fmt: skip
    out = tmp_path / f"{part}.onnx"
    images = frames(sample, (126, 98), 0, 4)

    def export() -> object:
        if part == "backbone":
            return exporting.export_backbone(Frontend(frontend.backbone, FrontendConfig(layers=[0, -1])), images, out)
        if part == "frontend":
            return exporting.export_frontend(frontend, images, 64, out)
        return exporting.export_matcher(frontend, frontend.extract(images, 64), frontend.extract(images, 64), out)

    assert export() is not None
    out.write_bytes(b"an earlier export")
    for name in outputs:
        for spoil in (noise, nan):

            def spoilt(*arguments: Any, name: str = name, spoil: Spoil = spoil) -> dict[str, Tensor]:
                found = run(*arguments)
                return {**found, name: spoil(found[name])}

            monkeypatch.setattr(exporting, "run", spoilt)
            with pytest.raises(OutputError, match="does not agree with torch"):
                export()
            assert out.read_bytes() == b"an earlier export"
            assert list(tmp_path.iterdir()) == [out]


def test_other_matches_disagree() -> None:
    expected = {"indices0": torch.arange(100)[None], "scores": torch.ones(1, 100)}
    assert compare_matches(expected, expected) == {"matches_equal": 1.0, "scores_max_abs": 0.0}
    with pytest.raises(OutputError, match="matches_equal 0,"):
        compare_matches({**expected, "indices0": expected["indices0"] + 1}, expected)


def test_features_without_one_equal_keypoint_disagree(frontend: Frontend, sample: Path) -> None:
    """All within a pixel, but then no descriptor has been compared."""
    features = frontend.extract(frames(sample, (126, 98), 0, 4), 64)
    assert features.grid is not None
    expected = {
        "keypoints": features.keypoints, "scores": features.scores, "descriptors": features.descriptors,
        "mask": features.mask, "tokens": features.grid.tokens,
    }  # fmt: skip
    assert compare_features(expected, expected)["scores_max_relative"] == 0
    with pytest.raises(OutputError, match="keypoints_equal 0, keypoints_within_1px 1,"):
        compare_features({**expected, "keypoints": expected["keypoints"] + 0.1}, expected)


def test_the_file_says_what_it_is(frontend: Frontend, frontend_file: Path) -> None:
    import onnx

    from slamfeat.backbones.checkpoints import state_digest

    model = onnx.load(str(frontend_file))
    onnx.checker.check_model(model, full_check=True)
    facts = {item.key.removeprefix("slamfeat."): item.value for item in model.metadata_props}
    assert (facts["graph"], facts["size"], facts["keypoints"]) == ("frontend", "300x220", str(SLOTS))
    assert facts["weights_sha256"] == state_digest(frontend.backbone.state_dict())
    assert json.loads(facts["config"])["local"] == frontend.config.local
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    limits = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    sorted_at_once = [int(limits[node.input[1]].max()) for node in model.graph.node if node.op_type == "TopK"]
    assert sorted_at_once and max(sorted_at_once) <= 3840  # TensorRT's limit


def test_without_optional_packages(
    frontend: Frontend, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = frames(sample, (126, 98), 0, 4), tmp_path / "backbone.onnx"
    monkeypatch.setattr(exporting, "installed", lambda *names: False)
    assert exporting.export_backbone(frontend, images, out) is None  # written, but nothing to check it with
    assert run(out, ["image"], [images])["tokens"].shape == (2, 48, 7, 9)
    monkeypatch.setattr("slamfeat.engines.libraries.installed", lambda *names: "onnxscript" not in names)
    with pytest.raises(MissingDependencyError, match=r'onnxscript.*pip install "slamfeat\[onnx\]"'):
        exporting.export_backbone(frontend, images, tmp_path / "other.onnx")


def test_cells_maximum_is_the_pooling_it_replaces() -> None:
    image = torch.rand(2, 1, 35, 42, generator=torch.Generator().manual_seed(0))
    image = (image * 8).round() / 8  # with ties
    expected = F.max_pool2d(image, 7, return_indices=True)
    for found, wanted in zip(max_of_cells(image, [7, 7]), expected, strict=True):
        assert torch.equal(found, wanted)
