"""The joined descriptor and the learned saliency: by themselves, in a file, and in a frontend."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from slamfeat.backbones import Backbone
from slamfeat.errors import ConfigError
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.descriptor import tokens_at
from slamfeat.frontend.heads.bundle import Heads, HeadsAbout, load_heads, save_heads
from slamfeat.frontend.heads.describe import describe_fine
from slamfeat.frontend.heads.descriptor import DescriptorConfig, JoinedDescriptor
from slamfeat.frontend.heads.matcher import AttentionConfig
from slamfeat.frontend.heads.refiner import RefinerConfig
from slamfeat.frontend.heads.saliency import SaliencyConfig, SaliencyHead
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.frontend.selector import SelectorConfig, select_keypoints
from slamfeat.image import to_batch

MATCHER = AttentionConfig(input_dim=192, token_dim=0, dim=48, layers=2)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_pretrained("dinov2-vits14-int8", torch.device("cpu"))[0]


@pytest.fixture(scope="module")
def heads() -> Heads:
    """Random."""
    torch.manual_seed(3)
    about = HeadsAbout("dinov2-vits14", 5, "finer", MATCHER, None, DescriptorConfig(), SaliencyConfig())
    made = Heads(about)
    assert made.saliency is not None
    torch.nn.init.normal_(made.saliency.offset.weight, std=0.3)
    return made


def settings(saliency: str = "gradient", method: str = "mutual", layers: tuple[int, ...] = (5,)) -> FrontendConfig:
    config = FrontendConfig(num_keypoints=256, layers=list(layers), selector=SelectorConfig(saliency=saliency))
    config.matcher.method, config.matcher.min_probability, config.refine.method = method, 0.0, "none"
    return config


def test_descriptors_have_unit_length_and_see_both_parts() -> None:
    torch.manual_seed(0)
    joined = JoinedDescriptor(DescriptorConfig([3, 5], 768, 16, 24))
    tokens, fine = torch.randn(2, 7, 768, requires_grad=True), torch.randn(2, 7, 16, requires_grad=True)
    descriptors = joined(tokens, fine)
    assert descriptors.shape == (2, 7, 24)
    torch.testing.assert_close(descriptors.norm(dim=2), torch.ones(2, 7))
    descriptors[..., 0].sum().backward()
    assert tokens.grad is not None and fine.grad is not None
    assert tokens.grad.abs().sum() > 0 and fine.grad.abs().sum() > 0


def test_saliency_begins_where_the_detector_put_them_and_stays_within_reach() -> None:
    torch.manual_seed(0)
    head = SaliencyHead(SaliencyConfig(16, 8, 0.75))
    judged = head(torch.randn(2, 9, 16))
    assert judged.logit.shape == (2, 9) and judged.offset.shape == (2, 9, 2) and not judged.offset.any()
    torch.nn.init.normal_(head.offset.weight, std=100)
    assert 0.7 < float(head(torch.randn(2, 9, 16)).offset.detach().abs().max()) <= 0.75


@pytest.mark.parametrize(
    "make", [lambda: DescriptorConfig([]), lambda: DescriptorConfig(dim=0), lambda: SaliencyConfig(0)]
)
def test_sizes_that_cannot_be_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_a_file_holds_them(heads: Heads, tmp_path: Path) -> None:
    loaded = load_heads(save_heads(heads, tmp_path / "h.safetensors"))
    assert loaded.about == heads.about
    assert loaded.state_dict().keys() == heads.state_dict().keys()
    for name, value in heads.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-4, rtol=1e-3)


def test_heads_without_them_are_written_as_before_and_older_files_load(tmp_path: Path) -> None:
    """What an older package wrote has neither key; a file that has neither is what an older package reads."""
    torch.manual_seed(0)
    about = HeadsAbout("dinov2-vits14", 8, "sift", AttentionConfig(input_dim=128, dim=32, layers=1), RefinerConfig())
    path = save_heads(Heads(about), tmp_path / "h.safetensors")
    with safe_open(path, "pt") as file:
        written = json.loads(file.metadata()["about"])
    assert written.keys() == {"backbone", "layer", "fine", "matcher", "refiner", "notes"}
    loaded = load_heads(path)
    assert loaded.descriptor is None and loaded.saliency is None and loaded.about == about


def test_a_frontend_describes_with_joined_descriptors(heads: Heads, backbone: Backbone, photo: np.ndarray) -> None:
    """The very numbers of the parts."""
    features = Frontend(backbone, settings(), heads=heads).extract(photo)
    assert features.descriptors.shape == (1, 256, 192) and features.grid is not None and heads.descriptor is not None
    with torch.inference_mode():
        fine = describe_fine(heads.fine, to_batch(photo), features.keypoints)
        wanted = heads.descriptor(tokens_at(features.grid, features.keypoints), fine)
    torch.testing.assert_close(features.descriptors[features.mask], wanted[features.mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(features.descriptors[features.mask].norm(dim=1), torch.ones(int(features.mask.sum())))


@pytest.mark.parametrize("saliency", ["gradient", "learned"])
@pytest.mark.parametrize("method", ["mutual", "attention"])
def test_two_frames_are_matched_by_any_method(
    heads: Heads, backbone: Backbone, sample: Path, method: str, saliency: str
) -> None:
    """Even by untrained heads there are mutual neighbours, and they lie in the images."""
    frontend = Frontend(backbone, settings(saliency, method), heads=heads)
    frames = sorted((sample / "rgb").iterdir())[:2]
    matches = frontend.match(*(frontend.extract(frame) for frame in frames))
    points0, points1, _ = matches.numpy()
    assert len(points0) > (50 if method == "mutual" else 0)
    for points in (points0, points1):
        assert (points >= 0).all() and (points <= [639, 479]).all()


def test_learned_saliency_ranks_and_moves_what_the_detector_proposes(
    heads: Heads, backbone: Backbone, photo: np.ndarray
) -> None:
    still = Heads(dataclasses.replace(heads.about))
    still.load_state_dict(heads.state_dict())
    assert still.saliency is not None
    torch.nn.init.zeros_(still.saliency.offset.weight)
    torch.nn.init.zeros_(still.saliency.offset.bias)
    moved, unmoved = (Frontend(backbone, settings("learned"), heads=h).extract(photo) for h in (heads, still))
    untrained = Frontend(backbone, settings(), heads=heads).extract(photo)
    shift = (moved.keypoints - unmoved.keypoints).abs()
    assert 0 < float(shift.max()) <= 1 and torch.equal(moved.scores, unmoved.scores)
    assert not torch.equal(untrained.keypoints, unmoved.keypoints)
    assert (moved.scores[0, :-1] >= moved.scores[0, 1:]).all() and moved.mask.all()
    with torch.inference_mode():
        judged = still.saliency(describe_fine(still.fine, to_batch(photo), unmoved.keypoints))
    near = (judged.logit.sigmoid() - unmoved.scores).abs()  # scored at the pixel, placed to sub-pixel
    assert float(near.median()) < 0.05


def test_a_black_image_has_no_keypoints_whatever_was_learned(heads: Heads, backbone: Backbone) -> None:
    features = Frontend(backbone, settings("learned"), heads=heads).extract(np.zeros((224, 224, 3), np.uint8))
    assert not features.mask.any()


def test_settings_without_fitting_heads_are_refused(heads: Heads, backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match=r"selector\.saliency=learned: need trained heads"):
        Frontend(backbone, settings("learned"))
    bare = Heads(dataclasses.replace(heads.about, saliency=None))
    with pytest.raises(ConfigError, match="these heads have no saliency"):
        Frontend(backbone, settings("learned"), heads=bare)
    with pytest.raises(ConfigError, match=r"trained on block 5 of dinov2-vits14, not on \[3\]"):
        Frontend(backbone, settings(layers=(3,)), heads=heads)
    with pytest.raises(ConfigError, match="saliency head"):
        select_keypoints(torch.rand(1, 1, 28, 28), 14, 5, SelectorConfig(saliency="learned"))
