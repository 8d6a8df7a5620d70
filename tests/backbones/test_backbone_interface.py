"""Shapes, indices, refusals, precision and the frozen state."""

from __future__ import annotations

import hashlib

import pytest
import torch
from tiny_backbones import TINY, make_backbone, random_images
from torch import nn

from slamfeat.backbones import list_backbones, load_backbone
from slamfeat.backbones.registry import BACKBONES
from slamfeat.errors import ConfigError, InputError

NAMES = list(TINY)


def _bytes(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        digest.update(key.encode() + value.detach().numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_layers(name: str) -> None:
    backbone = make_backbone(name).freeze()
    images = random_images(backbone.patch_size)
    tokens = backbone(images)
    assert tokens.patch.shape == (2, 48, 4, 7)
    assert tokens.cls.shape == (2, 48)
    assert tokens.registers.shape == (2, backbone.num_registers, 48)
    last, first, again = backbone.intermediate(images, [-1, 0, 2])
    assert torch.equal(last, tokens.patch) and torch.equal(last, again)
    assert first.shape == last.shape and not torch.equal(first, last)
    assert backbone.intermediate(images, []) == []


def test_no_block_beyond_the_deepest_asked_for() -> None:
    backbone = make_backbone("tiny2").freeze()
    ran: list[int] = []
    for index, block in enumerate(backbone.blocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    backbone.intermediate(random_images(14), [1, 0])
    assert ran == [0, 1]


@pytest.mark.parametrize("index", [3, -4, 100])
def test_layer_out_of_range(index: int) -> None:
    with pytest.raises(ConfigError, match=r"0\.\.2"):
        make_backbone("tiny2").intermediate(random_images(14), [index])


@pytest.mark.parametrize("shape", [(1, 3, 28, 30), (1, 3, 27, 28), (1, 1, 28, 28), (3, 28, 28), (1, 3, 0, 28)])
def test_refused_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        make_backbone("tiny2")(torch.zeros(shape))


def test_the_refusal_tells_the_fix() -> None:
    with pytest.raises(InputError, match=r"30x28.*slamfeat\.image\.fit_to_patch\(image, 14\)"):
        make_backbone("tiny2")(torch.zeros(1, 3, 28, 30))
    with pytest.raises(InputError, match="takes floats, got uint8; divide by 255 first"):
        make_backbone("tiny2")(torch.zeros(1, 3, 28, 28, dtype=torch.uint8))


def test_normalize() -> None:
    white = make_backbone("tiny2").normalize(torch.ones(1, 3, 2, 2))
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    assert torch.allclose(white[0, :, 0, 0], expected)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_close(name: str) -> None:
    wide = load_backbone(name, "random")
    narrow = load_backbone(name, "random", dtype=torch.bfloat16)
    images = random_images(wide.patch_size)
    expected, got = wide(images).patch, narrow(images).patch
    assert got.dtype == torch.bfloat16
    assert torch.cosine_similarity(expected, got.float(), dim=1).min() > 0.999


def test_rotary_periods_stay_fp32_and_come_back() -> None:
    backbone = make_backbone("tiny3").freeze()
    before = backbone(random_images(16)).patch
    periods = backbone.rope_embed.periods.clone()
    backbone.to(torch.bfloat16)
    assert backbone.rope_embed.periods.dtype == torch.float32
    assert torch.equal(backbone.to(torch.float32).rope_embed.periods, periods)
    assert torch.cosine_similarity(before, backbone(random_images(16)).patch, dim=1).min() > 0.99


def test_cached_positions_follow_the_weights() -> None:
    backbone = make_backbone("tiny2").freeze()
    images = random_images(14)
    backbone(images)
    backbone.load_state_dict(make_backbone("tiny2", seed=5).state_dict())
    assert torch.equal(backbone(images).patch, make_backbone("tiny2", seed=5)(images).patch)


def test_the_cache_of_sizes_is_bounded() -> None:
    backbone = make_backbone("tiny2").freeze()
    for columns in range(1, 15):
        backbone(random_images(14, 1, columns, batch=1))
    assert len(backbone._size_cache) <= 8


class Model(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Conv2d(48, 4, 1)


@pytest.mark.parametrize("name", ["tiny2-reg4", "tiny3"])
def test_training_a_head_leaves_the_backbone_as_it_was(name: str) -> None:
    model = Model(make_backbone(name).freeze()).train()
    before = _bytes(model.backbone)
    assert not model.backbone.training and model.head.training
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in trainable} == {id(p) for p in model.head.parameters()}
    optimizer = torch.optim.AdamW(trainable, lr=0.1, weight_decay=0.1)
    images = random_images(model.backbone.patch_size)
    features = model.backbone(images)
    assert not features.patch.requires_grad and not features.patch.is_inference()
    model.head(features.patch).square().mean().backward()
    optimizer.step()
    assert _bytes(model.backbone) == before
    assert all(p.grad is None for p in model.backbone.parameters())


@pytest.mark.parametrize("name", ["tiny2", "tiny3"])
def test_frozen_is_a_state(name: str) -> None:
    backbone = make_backbone(name).freeze()
    images = random_images(backbone.patch_size)
    fixed = backbone(images).patch
    backbone.unfreeze().train()
    assert backbone.training and not backbone.frozen
    trained = backbone(images).patch
    assert torch.equal(trained, fixed)
    trained.sum().backward()
    unused = {"mask_token"}
    assert {key for key, p in backbone.named_parameters() if p.grad is None} == unused


def test_registry() -> None:
    assert {"dinov2-vits14", "dinov2-vitg14-reg4", "dinov3-vits16", "dinov3-vith16plus"} <= set(list_backbones())
    for name, entry in BACKBONES.items():
        if name not in TINY:
            with torch.device("meta"):
                backbone = entry.architecture.build(name)
            assert sum(p.numel() for p in backbone.parameters()) == entry.parameters, name
            assert entry.gated == name.startswith("dinov3")


def test_unknown_name_is_suggested() -> None:
    with pytest.raises(ConfigError, match="did you mean 'dinov2-vits14-reg4'"):
        load_backbone("dinov2_vits14_reg")
    with pytest.raises(ConfigError, match="known: dinov2-vits14"):
        load_backbone("resnet50")


def test_devices() -> None:
    with pytest.raises(ConfigError, match="unknown device"):
        load_backbone("tiny2", "random", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="use cpu"):
            load_backbone("tiny2", "random", device="cuda")


def test_random_weights_repeat_and_leave_the_global_state() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = load_backbone("tiny3", "random"), load_backbone("tiny3", "random")
    assert torch.equal(torch.rand(1), expected)
    assert _bytes(first) == _bytes(second)
