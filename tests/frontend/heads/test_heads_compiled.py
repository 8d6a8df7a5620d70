"""Heads in OpenVINO give what they give in torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from slamfeat.backbones import Backbone
from slamfeat.backbones.load import parse_device
from slamfeat.cpu import cpu_has_bfloat16
from slamfeat.engines.libraries import installed
from slamfeat.engines.torch_engine import TorchEngine
from slamfeat.errors import ConfigError
from slamfeat.frontend.config import FrontendConfig
from slamfeat.frontend.frontend import Frontend
from slamfeat.frontend.grid_choice import layers_of
from slamfeat.frontend.heads import compiled
from slamfeat.frontend.heads.bundle import Heads, HeadsAbout
from slamfeat.frontend.heads.compiled import CompiledFine, CompiledMatcher, CompiledRefiner, compile_heads
from slamfeat.frontend.heads.describe import describe_fine
from slamfeat.frontend.heads.descriptor import DescriptorConfig
from slamfeat.frontend.heads.matcher import AttentionConfig, MatcherInput
from slamfeat.frontend.heads.refiner import RefinerConfig
from slamfeat.frontend.heads.saliency import SaliencyConfig
from slamfeat.frontend.matcher import MatcherConfig
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.frontend.refine import RefineConfig
from slamfeat.frontend.selector import SelectorConfig

pytestmark = pytest.mark.skipif(not installed("openvino"), reason="openvino is not installed")
needs_bfloat16 = pytest.mark.skipif(not cpu_has_bfloat16(), reason="the processor does not compute in bf16")
LAYERS = 3


@pytest.fixture(scope="session")
def engines_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slamfeat_home")


@pytest.fixture(autouse=True)
def home(engines_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLAMFEAT_HOME", str(engines_home))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_pretrained("default", parse_device("cpu"))[0]


@pytest.fixture(scope="module")
def heads(backbone: Backbone) -> Heads:
    """Random, with the tokens let in."""
    torch.manual_seed(11)
    sizes = AttentionConfig(layers=LAYERS)
    layer = layers_of(backbone, FrontendConfig())[0]
    made = Heads(HeadsAbout(backbone.name, layer, "xfeat", sizes, RefinerConfig(reach=2, patch=15)))
    assert made.matcher is not None and made.matcher.tokens is not None
    for part in made.matcher.tokens.into_layer:
        nn.init.normal_(part.weight, std=0.05)
    nn.init.normal_(made.matcher.tokens.into_cross, std=0.1)
    nn.init.normal_(made.matcher.tokens.into_similarity, std=0.1)
    return made


def image(count: int, seed: int, empty: int, batch: int = 1) -> MatcherInput:
    generator = torch.Generator().manual_seed(seed)

    def values(channels: int) -> Tensor:
        return nn.functional.normalize(torch.randn(batch, count, channels, generator=generator), dim=2)

    mask = (torch.arange(count) < count - empty).expand(batch, -1)
    return MatcherInput(values(2), values(64), values(384), mask)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(480, 640), (250, 333)])
def test_fine_descriptors_are_the_same_at_every_size(heads: Heads, size: tuple[int, int]) -> None:
    fine = CompiledFine(heads.fine, "fp32").eval()
    picture, points = torch.rand(1, 3, *size), torch.rand(1, 50, 2) * 200 + 20
    wanted = describe_fine(heads.fine, picture, points)
    torch.testing.assert_close(describe_fine(fine, picture, points), wanted, atol=1e-4, rtol=0)
    for found, all_maps in zip(fine(picture[..., :224, :320]), heads.fine(picture[..., :224, :320]), strict=True):
        assert torch.equal(found, all_maps)


@torch.inference_mode()
def test_features_alone_are_those_of_the_maps(heads: Heads) -> None:
    picture = torch.rand(2, 3, 96, 128)
    torch.testing.assert_close(heads.fine.features(picture), heads.fine(picture).features)


@needs_bfloat16
@torch.inference_mode()
def test_fine_descriptors_in_bfloat16_point_the_same_way(heads: Heads) -> None:
    fine = CompiledFine(heads.fine, "bf16").eval()
    picture, points = torch.rand(1, 3, 224, 320), torch.rand(1, 50, 2) * 180 + 20
    cosine = (describe_fine(fine, picture, points) * describe_fine(heads.fine, picture, points)).sum(2)
    assert cosine.mean() > 0.999 and cosine.min() > 0.97


@torch.inference_mode()
@pytest.mark.parametrize(("counts", "empty", "batch"), [((60, 60), 0, 1), ((60, 60), 7, 2), ((50, 70), 3, 1)])
@pytest.mark.parametrize("layers", [None, 2])
def test_scores_are_the_same(heads: Heads, counts: tuple[int, int], empty: int, batch: int, layers: int | None) -> None:
    assert heads.matcher is not None
    matcher = CompiledMatcher(heads.matcher, "fp32").eval()
    images = image(counts[0], 1, empty, batch), image(counts[1], 2, 0, batch)
    found, wanted = matcher(*images, layers), heads.matcher(*images, layers)
    assert found.similarity.shape == wanted.similarity.shape
    torch.testing.assert_close(found.log_assignment().exp(), wanted.log_assignment().exp(), atol=1e-4, rtol=1e-3)
    for one, other in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(one.sigmoid(), other.sigmoid(), atol=1e-4, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("count", [0, 5, 128, 300])
def test_refinements_are_the_same_for_any_number(heads: Heads, count: int) -> None:
    assert heads.refiner is not None
    refiner = CompiledRefiner(heads.refiner, "fp32").eval()
    picture = 255 * torch.rand(1, 1, 120, 160)
    points = torch.rand(count, 2) * torch.tensor([120.0, 80.0]) + 20
    affine = (torch.eye(2) + 0.1 * torch.randn(count, 2, 2)).reshape(count, 2, 2)
    found, said = refiner.refine(picture, picture, points, points + 1, affine)
    wanted, meant = heads.refiner.refine(picture, picture, points, points + 1, affine)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)
    for one, other in zip(said, meant, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


@needs_bfloat16
@torch.inference_mode()
def test_refinements_in_bfloat16_are_close(heads: Heads) -> None:
    assert heads.refiner is not None
    refiner = CompiledRefiner(heads.refiner, "bf16").eval()
    first, second = torch.randn(2, 200, 1, 15, 15)
    found = refiner.compare_patches(refiner.describe(first), second)
    wanted = heads.refiner.compare_patches(heads.refiner.describe(first), second)
    assert (found.offset - wanted.offset).abs().max() < 0.02
    assert (found.logit - wanted.logit).abs().max() < 0.02


def test_what_cannot_be_converted_stays_in_torch(
    heads: Heads, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no conversion rule")

    monkeypatch.setattr(compiled, "compile_module", fail)
    found = compile_heads(heads, "fp32", matcher="fp32", refiner=True)
    assert "fine branch runs in torch" in caplog.text and "no conversion rule" in caplog.text
    assert type(found.fine) is type(heads.fine) and found.matcher is heads.matcher and found.refiner is heads.refiner


def frontend(backbone: Backbone, heads: Heads, engine: str, precision: str, **matcher: float) -> Frontend:
    """Tokens come from torch, whatever the engine calls itself."""
    config = FrontendConfig(
        num_keypoints=150,
        matcher=MatcherConfig("attention", min_probability=0.0, **matcher),  # type: ignore[arg-type]
        refine=RefineConfig(method="learned", min_confidence=0.0),
    )
    tokens = TorchEngine(backbone, layers_of(backbone, config))
    tokens.name, tokens.precision = engine, precision  # type: ignore[assignment]
    return Frontend(backbone, config, engine=tokens, heads=heads)


def test_a_frontend_with_openvino_matches_as_one_with_torch(backbone: Backbone, heads: Heads, sample: Path) -> None:
    frames = sorted((sample / "rgb").iterdir())[:9:8]
    slow, fast = frontend(backbone, heads, "torch", "fp32"), frontend(backbone, heads, "openvino", "fp32")
    assert slow.heads is heads and isinstance(heads.matcher, nn.Module) and not isinstance(heads.fine, CompiledFine)
    assert fast.heads is not None and isinstance(fast.heads.fine, CompiledFine)
    assert isinstance(fast.heads.matcher, CompiledMatcher) and isinstance(fast.heads.refiner, CompiledRefiner)
    wanted, found = (one.match(*(one.extract(frame) for frame in frames)) for one in (slow, fast))
    assert (found.mask != wanted.mask).float().mean() < 0.02
    both = found.mask & wanted.mask
    assert int(both.sum()) > 50
    assert (found.points1 - wanted.points1)[both].norm(dim=1).quantile(0.95) < 0.01


def test_heads_from_nothing_see_the_same(backbone: Backbone, heads: Heads, sample: Path) -> None:
    """FinerCNN in OpenVINO, the joined descriptor and the learned saliency in torch on what it gives."""
    torch.manual_seed(5)
    matcher = AttentionConfig(input_dim=96, token_dim=0, dim=32, layers=2)
    layer = heads.about.layer
    about = HeadsAbout(
        backbone.name, layer, "finer", matcher, None, DescriptorConfig([layer], dim=96), SaliencyConfig()
    )
    joint, frame = Heads(about), next((sample / "rgb").iterdir())
    seen = []
    for engine in ("torch", "openvino"):
        one = frontend(backbone, heads, engine, "fp32")
        config = replace(one.config, selector=SelectorConfig(saliency="learned"), refine=RefineConfig(method="none"))
        seen.append(Frontend(backbone, config, engine=one.engine, heads=joint).extract(frame))
    assert torch.equal(seen[0].mask, seen[1].mask) and seen[0].mask.any()
    torch.testing.assert_close(seen[1].keypoints, seen[0].keypoints, atol=1e-2, rtol=0)
    torch.testing.assert_close(seen[1].descriptors, seen[0].descriptors, atol=1e-3, rtol=0)


def test_which_precision_each_part_has(backbone: Backbone, heads: Heads) -> None:
    reduced = "bf16" if cpu_has_bfloat16() else "fp32"
    for precision, bf16, fine, matcher in (
        ("fp32", True, "fp32", "fp32"), ("int8", False, reduced, "fp32"), ("int8", True, reduced, reduced),
        ("bf16", False, reduced, reduced),
    ):  # fmt: skip
        found = frontend(backbone, heads, "openvino", precision, bf16=bf16).heads
        assert found is not None and isinstance(found.matcher, CompiledMatcher)
        assert isinstance(found.fine, CompiledFine) and found.fine._network.precision == fine
        assert found.matcher._network(LAYERS).precision == matcher


def test_early_exit_is_torchs_and_depths_are_checked(backbone: Backbone, heads: Heads) -> None:
    adaptive = frontend(backbone, heads, "openvino", "fp32", exit=0.9)
    assert adaptive.heads is not None and not isinstance(adaptive.heads.matcher, CompiledMatcher)
    for engine in ("torch", "openvino"):
        with pytest.raises(ConfigError, match=r"matcher\.layers"):
            frontend(backbone, heads, engine, "fp32", layers=LAYERS + 1)
