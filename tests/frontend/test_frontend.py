"""The frontend as its users call it, on the shipped weights and on a tiny random backbone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import slamfeat as sf
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.errors import ConfigError, ImageError, InputError, WeightsError
from slamfeat.frontend import Frontend, FrontendConfig, MatcherConfig, RefineConfig, SelectorConfig

TINY = Architecture(embed_dim=48, depth=3, num_heads=3, patch_size=14, registers=0, position="offset", grid=9)


def tiny(**settings: object) -> Frontend:
    return Frontend(random_backbone(TINY).freeze(), FrontendConfig(**settings))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def default() -> Frontend:
    return Frontend.from_pretrained("default", engine="torch", precision="fp32")


def shifted(photo: np.ndarray, dx: int = 40, dy: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Two crops of one photograph; what is at (x, y) in the first is at (x - dx, y - dy) in the second."""
    return photo[:-dy, :-dx], photo[dy:, dx:]


def test_shipped_weights_match_a_shifted_photo_to_sub_pixel(default: Frontend, photo: np.ndarray) -> None:
    first, second = shifted(photo)
    matches = default.match(default.extract(first), default.extract(second))
    points0, points1, scores = matches.numpy()
    error = np.linalg.norm(points0 - points1 - [40, 20], axis=1)
    assert len(points0) > 250
    assert (error < 0.5).mean() > 0.95
    assert scores.min() >= 0 and scores.max() <= 1


def test_every_input_gives_the_same_features(default: Frontend, photo: np.ndarray, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), photo[..., ::-1])
    tensor = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    forms = [tmp_path / "a.png", photo, tensor]
    features = [default.extract(form, num_keypoints=100) for form in forms]
    for other in features[1:]:
        assert torch.allclose(other.keypoints, features[0].keypoints)
        assert torch.allclose(other.descriptors, features[0].descriptors, atol=1e-4)
    assert features[0].image_size.tolist() == [[640, 480]]


def test_a_batch_equals_its_images_one_by_one(photo: np.ndarray) -> None:
    frontend = tiny(num_keypoints=150)
    first, second = shifted(photo)
    batch = torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for image in (first, second)])
    together = frontend.extract(batch)
    assert together.keypoints.shape == (2, 150, 2) and together.mask.shape == (2, 150)
    for b, image in enumerate((first, second)):
        alone = frontend.extract(image)
        assert torch.allclose(together.keypoints[b], alone.keypoints[0], atol=1e-4)
        assert torch.allclose(together.descriptors[b], alone.descriptors[0], atol=1e-4)
    matches = frontend.match(together, frontend.extract(batch.flip(0)))
    assert matches.points0.shape == (2, 150, 2) and matches.mask.shape == (2, 150)


@pytest.mark.parametrize("fit", ["crop", "pad", "resize"])
@pytest.mark.parametrize("cell", [0, 28])
def test_keypoints_are_in_original_pixels(photo: np.ndarray, fit: str, cell: int) -> None:
    """A lone dot is found where it is, whatever the image is fitted to."""
    image = np.full((135, 181, 3), 30, np.uint8)
    cv2.circle(image, (97, 61), 1, (250, 250, 250), -1)
    settings = SelectorConfig(saliency="shi_tomasi", sigma=1.5)
    features = tiny(fit=fit, cell=cell, num_keypoints=1, selector=settings).extract(image)
    found = features.keypoints[0][features.mask[0]]
    assert len(found) == 1 and torch.allclose(found[0], torch.tensor([97.0, 61.0]), atol=1.0)


def test_descriptors_are_unit_tokens_at_the_keypoints(default: Frontend, photo: np.ndarray) -> None:
    features = default.extract(photo)
    assert torch.allclose(
        features.descriptors.norm(dim=2)[features.mask], torch.ones(int(features.mask.sum())), atol=1e-5
    )
    assert not features.descriptors[~features.mask].any()
    described = default.describe(photo, features.keypoints)
    assert torch.allclose(described.descriptors[features.mask], features.descriptors[features.mask], atol=1e-5)


@pytest.mark.parametrize("method", ["mutual", "dual_softmax", "guided"])
@pytest.mark.parametrize("refine", ["none", "lk"])
@pytest.mark.parametrize("local", ["none", "sift"])
def test_every_combination_runs_and_keeps_its_promises(photo: np.ndarray, method: str, refine: str, local: str) -> None:
    frontend = tiny(
        local=local, matcher=MatcherConfig(method=method), refine=RefineConfig(method=refine), num_keypoints=300
    )
    first, second = shifted(photo)
    f0, f1 = frontend.extract(first), frontend.extract(second)
    matches = frontend.match(f0, f1)
    assert not matches.points1[~matches.mask].any() and not matches.scores[~matches.mask].any()
    assert (f0.mask | ~matches.mask).all()
    assert (matches.indices[~matches.mask] == -1).all()
    linked = matches.indices >= 0
    if linked.any():
        at_keypoint = (matches.points1[linked] - f1.keypoints[0][matches.indices[linked]]).norm(dim=1)
        assert at_keypoint.max() <= 3.0
        assert len(matches.indices[linked].unique()) == linked.sum() and f1.mask[0][matches.indices[linked]].all()
    if method != "guided" and refine == "none":
        assert torch.equal(linked, matches.mask)


def test_black_images_have_no_keypoints_and_match_nothing(photo: np.ndarray) -> None:
    frontend = tiny()
    black, seen = frontend.extract(np.zeros_like(photo)), frontend.extract(photo)
    assert not black.mask.any()
    assert len(frontend.match(black, seen)) == 0 and len(frontend.match(seen, black)) == 0


def test_masks_keep_keypoints_inside(photo: np.ndarray) -> None:
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[100:300, 200:420] = 255
    features = tiny().extract(photo, mask=mask)
    x, y = features.keypoints[features.mask].unbind(1)
    assert len(x) > 10 and x.min() >= 199 and x.max() <= 420 and y.min() >= 99 and y.max() <= 300
    with pytest.raises(InputError, match="mask"):
        tiny().extract(photo, mask=mask[:10])


def test_extraction_is_repeatable_and_touches_no_random_state(photo: np.ndarray) -> None:
    frontend = tiny()
    state = torch.random.get_rng_state()
    first = frontend.match(frontend.extract(photo), frontend.extract(photo))
    assert torch.equal(torch.random.get_rng_state(), state)
    second = frontend.match(frontend.extract(photo), frontend.extract(photo))
    assert torch.equal(first.points1, second.points1) and torch.equal(first.mask, second.mask)


def test_mistakes_are_named(photo: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="layers"):
        tiny(layers=[5])
    with pytest.raises(ConfigError, match=r"selector\.splits=3 does not divide the cell of 28"):
        tiny(selector=SelectorConfig(splits=3))
    with pytest.raises(ImageError, match="10x10"):
        tiny().extract(np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(WeightsError, match=r"nothere\.safetensors"):
        Frontend.from_pretrained(tmp_path / "nothere.safetensors")
    with pytest.raises(WeightsError, match=r"these are heads, not a backbone; use frontend\.heads=.*heads-light"):
        Frontend.from_pretrained(Path(sf.__file__).parent / "assets" / "heads-light.safetensors")
    with pytest.raises(ConfigError, match="dinov2-vits14"):
        Frontend.from_pretrained("dinov2-vits15")
    with pytest.raises(ConfigError, match="fp16"):
        Frontend.from_pretrained("default", precision="fp16")
    frontend = tiny()
    one, two = frontend.extract(photo), frontend.extract(torch.zeros(2, 3, 64, 64))
    with pytest.raises(InputError, match="1 and 2"):
        frontend.match(one, two)
    with pytest.raises(InputError, match="different frontends"):
        frontend.match(one, tiny(layers=[0, 1]).extract(photo))


def test_bfloat16_gives_nearly_the_same_features(default: Frontend, photo: np.ndarray) -> None:
    half = Frontend.from_pretrained("default", engine="torch", precision="bf16").extract(photo)
    full = default.extract(photo)
    assert torch.equal(half.keypoints, full.keypoints)
    cosine = (half.descriptors * full.descriptors).sum(2)[full.mask]
    assert cosine.mean() > 0.999


def test_the_front_door_is_complete() -> None:
    assert sorted(sf.__all__) == sf.__all__ or set(sf.__all__) == set(dir(sf))
    for name in sf.__all__:
        assert getattr(sf, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = sf.nonsense  # type: ignore[attr-defined]


def test_padding_has_no_keypoints(photo: np.ndarray) -> None:
    features = tiny(fit="pad", num_keypoints=3000).extract(photo[:455, :620])
    x, y = features.keypoints[features.mask].unbind(1)
    assert len(x) > 100 and x.max() <= 619.5 and y.max() <= 454.5


def test_images_that_were_never_read_are_named() -> None:
    with pytest.raises(ImageError, match="NoneType"):
        tiny().extract(None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="num_keypoints"):
        tiny().extract(np.zeros((64, 64, 3), np.uint8), num_keypoints=0)


def test_dual_softmax_matches_no_empty_slots(photo: np.ndarray) -> None:
    frontend = tiny(
        matcher=MatcherConfig(method="dual_softmax"), refine=RefineConfig(method="none"), num_keypoints=5000
    )
    features = frontend.extract(photo)
    matches = frontend.match(features, features)
    assert not features.mask.all() and (features.mask | ~matches.mask).all()


def test_cells_are_checked_before_an_engine_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slamfeat.frontend.frontend.make_engine", lambda *_: pytest.fail("an engine was made"))
    with pytest.raises(ConfigError, match="cell of 30"):
        Frontend.from_pretrained("default", config=FrontendConfig(cell=30, selector=SelectorConfig(splits=4)))


def test_a_local_descriptor_without_weight_is_not_computed(photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tiny(local="none").extract(photo)
    monkeypatch.setattr("slamfeat.frontend.frontend.dense_root_sift", lambda *_: pytest.fail("computed"))
    assert torch.equal(tiny(local_weight=0.0).extract(photo).descriptors, expected.descriptors)
