"""Exported graphs of frontends with trained heads say what the frontend says; on frames the export never saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx_helpers import SLOTS, assert_same_features, backbone, frames, run_openvino
from torch import Tensor, nn

from slamfeat.engines.base import EngineName
from slamfeat.engines.libraries import installed
from slamfeat.engines.torch_engine import TorchEngine
from slamfeat.errors import ConfigError
from slamfeat.export import onnx as exporting
from slamfeat.export.matcher_graph import MatcherGraph
from slamfeat.export.onnx_check import run
from slamfeat.frontend import Frontend, FrontendConfig, MatcherConfig, RefineConfig
from slamfeat.frontend.grid_choice import layers_of
from slamfeat.frontend.heads.bundle import Heads, HeadsAbout
from slamfeat.frontend.heads.compiled import CompiledFine, CompiledMatcher
from slamfeat.frontend.heads.descriptor import DescriptorConfig
from slamfeat.frontend.heads.fine import FineBranch
from slamfeat.frontend.heads.matcher import AttentionConfig, AttentionMatcher
from slamfeat.frontend.heads.saliency import SaliencyConfig
from slamfeat.types import Features

# Not `importorskip`: importing ONNX Runtime or OpenVINO plainly starts their telemetry.
pytestmark = pytest.mark.skipif(
    not installed("onnx", "onnxscript", "onnxruntime"), reason='exporter not installed: pip install "slamfeat[onnx]"'
)
needs_openvino = pytest.mark.skipif(not installed("openvino"), reason="openvino is not installed")

SIZE = (300, 220)  # cropped to 280x196 for the backbone, resized to 288x192 for the fine branch
LAYERS = 3
Runner = Callable[[Path, Sequence[str], Sequence[Tensor]], dict[str, Tensor]]
RUNNERS = [pytest.param(run, id="onnxruntime"), pytest.param(run_openvino, id="openvino", marks=needs_openvino)]


def make_frontend(fine: str, matcher: MatcherConfig | None = None, token_dim: int = 48) -> Frontend:
    """Of random weights: tokens and descriptors decide in part, and some keypoints have no partner."""
    one = backbone()
    config = FrontendConfig(matcher=matcher or MatcherConfig(), refine=RefineConfig(method="none"))
    torch.manual_seed(11)
    sizes = AttentionConfig(token_dim=token_dim, token_width=24, dim=64, layers=LAYERS)
    heads = Heads(HeadsAbout(one.name, layers_of(one, config)[0], fine, sizes, notes={"data": "none"}))
    assert heads.matcher is not None
    if fine in ("xfeat", "finer"):
        spread_descriptors(heads.fine)
    sharpen(heads.matcher)
    return Frontend(one, config, heads=heads)


def spread_descriptors(branch: FineBranch) -> None:
    """As initialised, a branch describes all keypoints alike: its norms know no image."""
    for part in branch.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the mean of what it has seen, and not mostly what it began with
    with torch.no_grad():
        branch.train().features(torch.rand(4, 3, 96, 128))
    branch.eval()


def sharpen(matcher: AttentionMatcher) -> None:
    """As initialised, no pair is likelier than another, and tokens are not let in."""
    for head in matcher.assignment:
        head.project.weight.data += 2 * torch.eye(len(head.project.weight))
    if matcher.tokens is not None:
        for part in matcher.tokens.into_layer:
            nn.init.normal_(part.weight, std=0.05)
        nn.init.normal_(matcher.tokens.into_cross, std=0.1)
        nn.init.normal_(matcher.tokens.into_similarity, std=0.1)


def attention(**settings: Any) -> MatcherConfig:
    """About half of what is mutual is likely enough."""
    return MatcherConfig("attention", min_probability=5e-4, **settings)


def inputs_of(*sets: Features) -> dict[str, Tensor]:
    found = {}
    for number, features in enumerate(sets):
        assert features.grid is not None
        parts = {"keypoints": features.keypoints, "descriptors": features.descriptors, "mask": features.mask}
        found |= {f"{name}{number}": value for name, value in parts.items()}
        found[f"tokens{number}"] = features.grid.tokens
    return found


def assert_same_matches(found: dict[str, Tensor], one: Frontend, sets: Sequence[Features], least: int) -> None:
    expected = one.match(*sets)
    assert len(expected) >= least
    same = found["indices0"] == expected.indices
    assert same.float().mean() > 0.998
    torch.testing.assert_close(found["scores"][same], expected.scores[same], atol=1e-5, rtol=2e-3)


@pytest.mark.parametrize("fine", ["xfeat", "finer", "sift"])
def test_frontend(fine: str, sample: Path, tmp_path: Path) -> None:
    one, out = make_frontend(fine), tmp_path / "frontend.onnx"
    exporting.export_frontend(one, frames(sample, SIZE, 0, 4), SLOTS, out)
    runners: list[Runner] = [run, run_openvino] if installed("openvino") else [run]
    for numbers in ((20,), (20, 30, 40)):
        images = frames(sample, SIZE, *numbers)
        expected = one.extract(images, SLOTS)
        assert expected.descriptors[expected.mask].std(0).mean() > 0.02  # they differ
        for runner in runners:
            assert_same_features(runner(out, ["image"], [images]), expected)


@pytest.fixture(scope="module")
def matched(sample: Path) -> Frontend:
    return make_frontend("xfeat", attention())


@pytest.fixture(scope="module")
def matcher_file(matched: Frontend, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 256 and 200 slots."""
    out = tmp_path_factory.mktemp("onnx") / "matcher.onnx"
    sets = matched.extract(frames(sample, SIZE, 0, 4), SLOTS), matched.extract(frames(sample, SIZE, 2, 6), 200)
    figures = exporting.export_matcher(matched, *sets, out)
    assert figures is not None and figures["matches_equal"] > 0.99
    return out


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("numbers", [(20,), (20, 30, 40)])
def test_matcher(runner: Runner, numbers: tuple[int, ...], matched: Frontend, matcher_file: Path, sample: Path) -> None:
    others = [n + 3 for n in numbers]
    sets = matched.extract(frames(sample, SIZE, *numbers), SLOTS), matched.extract(frames(sample, SIZE, *others), 200)
    inputs = inputs_of(*sets)
    found = runner(matcher_file, list(inputs), list(inputs.values()))
    assert_same_matches(found, matched, sets, 15 * len(numbers))


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_image_without_texture_has_nothing_to_match(
    runner: Runner, matched: Frontend, matcher_file: Path, sample: Path
) -> None:
    images0, images1 = frames(sample, SIZE, 20, 30, 40), frames(sample, SIZE, 23, 33, 43)
    images0[1] = images1[2] = 0.5
    sets = matched.extract(images0, SLOTS), matched.extract(images1, 200)
    assert not sets[0].mask[1].any() and not sets[1].mask[2].any()
    inputs = inputs_of(*sets)
    found = runner(matcher_file, list(inputs), list(inputs.values()))
    assert not (found["indices0"][1:] >= 0).any() and not found["scores"][1:].any()
    assert_same_matches(found, matched, sets, 15)


def test_few_layers_and_no_tokens(sample: Path, tmp_path: Path) -> None:
    """The file then holds no others, and takes none."""
    import onnx

    any_mutual = MatcherConfig("attention", layers=1, min_probability=0.0)
    one, out = make_frontend("xfeat", any_mutual, token_dim=0), tmp_path / "matcher.onnx"
    sets = [one.extract(frames(sample, SIZE, *n), SLOTS) for n in ((0, 4), (2, 6))]
    exporting.export_matcher(one, *sets, out)
    model = onnx.load(str(out))
    names = [item.name for item in model.graph.initializer]
    assert any("within.0" in name for name in names) and not any("within.1" in name for name in names)
    sets = [one.extract(frames(sample, SIZE, *n), SLOTS) for n in ((20, 30, 40), (23, 33, 43))]
    inputs = {name: value for name, value in inputs_of(*sets).items() if "tokens" not in name}
    assert [item.name for item in model.graph.input] == list(inputs)
    assert_same_matches(run(out, list(inputs), list(inputs.values())), one, sets, 15)


def test_the_file_says_whose_heads_it_holds(matched: Frontend, matcher_file: Path) -> None:
    import onnx

    facts = {item.key.removeprefix("slamfeat."): item.value for item in onnx.load(str(matcher_file)).metadata_props}
    assert facts["graph"] == "matcher" and facts["keypoints"] == "256 200"
    about = json.loads(facts["heads_about"])
    assert (about["fine"], about["notes"]) == ("xfeat", {"data": "none"})
    other = make_frontend("xfeat", token_dim=0)
    assert facts["heads_sha256"] == exporting._about_heads(matched.heads)["heads_sha256"]
    assert facts["heads_sha256"] != exporting._about_heads(other.heads)["heads_sha256"]


class OpenVinoByName(TorchEngine):
    """Torch, but heads follow OpenVINO."""

    name: EngineName = "openvino"


@needs_openvino
def test_heads_that_openvino_computes_are_exported_as_in_torch(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path / "home"))
    plain, out = make_frontend("finer", attention(layers=1)), tmp_path / "frontend.onnx"
    engine = OpenVinoByName(plain.backbone, plain.layers)
    one = Frontend(plain.backbone, plain.config, engine=engine, heads=plain.heads)
    assert one.heads is not None
    assert isinstance(one.heads.fine, CompiledFine) and isinstance(one.heads.matcher, CompiledMatcher)
    exporting.export_frontend(one, frames(sample, SIZE, 0, 4), SLOTS, out)
    images = frames(sample, SIZE, 20)
    assert_same_features(run(out, ["image"], [images]), plain.extract(images, SLOTS))
    graph = MatcherGraph(one, plain.extract(images, SLOTS), plain.extract(images, SLOTS))
    assert type(graph.matcher) is AttentionMatcher


@pytest.mark.parametrize("setting", ["exit", "prune"])
def test_deciding_pair_by_pair_is_refused(setting: str, matched: Frontend, sample: Path, tmp_path: Path) -> None:
    config = replace(matched.config, matcher=attention(**{setting: 0.9}))
    one = Frontend(matched.backbone, config, heads=matched.heads)
    features = one.extract(frames(sample, SIZE, 0, 4), SLOTS)
    with pytest.raises(ConfigError, match=r"pair by pair.*matcher.exit=0 matcher.prune=0"):
        exporting.export_matcher(one, features, features, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_aliked_is_refused(sample: Path, tmp_path: Path) -> None:
    one = make_frontend("aliked")
    with pytest.raises(ConfigError, match=r"aliked.*deformable.*xfeat"):
        exporting.export_frontend(one, frames(sample, SIZE, 0, 4), SLOTS, tmp_path / "f.onnx")
    assert list(tmp_path.iterdir()) == []


def make_joined() -> Frontend:
    """With a joined descriptor and a saliency head, of random weights."""
    one = backbone()
    config = FrontendConfig(matcher=MatcherConfig(), refine=RefineConfig(method="none"))
    layer = layers_of(one, config)[0]
    torch.manual_seed(11)
    joined = DescriptorConfig([layer], token_dim=48, dim=32)
    about = HeadsAbout(one.name, layer, "finer", descriptor=joined, saliency=SaliencyConfig())
    return Frontend(one, config, heads=Heads(about))


def test_joined_descriptors_are_exported(sample: Path, tmp_path: Path) -> None:
    one, out, images = make_joined(), tmp_path / "f.onnx", frames(sample, SIZE, 20)
    exporting.export_frontend(one, frames(sample, SIZE, 0, 4), SLOTS, out)
    expected = one.extract(images, SLOTS)
    assert expected.descriptors.shape[2] == 32
    assert_same_features(run(out, ["image"], [images]), expected)


def test_learned_saliency_is_refused(sample: Path, tmp_path: Path) -> None:
    one = make_joined()
    one.config.selector.saliency = "learned"
    with pytest.raises(ConfigError, match=r"selector\.saliency=gradient"):
        exporting.export_frontend(one, frames(sample, SIZE, 0, 4), SLOTS, tmp_path / "f.onnx")
    assert list(tmp_path.iterdir()) == []
