"""Crops of several sizes in one row see what each would see alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from slamfeat.backbones.base import Backbone
from slamfeat.backbones.layers import Attention
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.errors import ConfigError
from slamfeat.pretrain.packed import Layout, attend_by_products, packable, products_are_quicker, run_packed

ARCHITECTURES = {
    "dinov2": Architecture(64, 3, 2, 14, 0, "offset", grid=16, layer_scale=0.5),
    "registers": Architecture(64, 3, 2, 14, 4, "antialias", ffn="swiglu_fused", grid=16),
    "dinov3": Architecture(64, 3, 2, 16, 4, "rope", ffn="swiglu"),
}


def crops(patch: int, global_count: int = 4, local_count: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    large = torch.randn(global_count, 3, 4 * patch, 4 * patch, generator=generator)
    return [large, torch.randn(local_count, 3, 2 * patch, 3 * patch, generator=generator)]


def trainable(name: str, drop_path: float = 0.0) -> Backbone:
    return packable(random_backbone(ARCHITECTURES[name]).requires_grad_(True), drop_path)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rows_have_the_tokens_of_each_size_alone(name: str) -> None:
    plain = random_backbone(ARCHITECTURES[name])
    keys = list(plain.state_dict())
    images = crops(plain.patch_size)
    with torch.no_grad():
        expected = [(plain(one), plain.intermediate(one, [1])[0]) for one in images]
        packed = packable(plain)
        found = run_packed(packed, images, layers=[-1, 1])
    assert list(packed.state_dict()) == keys  # a file of the one is a file of the other
    for (tokens, second), last, middle in zip(expected, *found, strict=True):
        torch.testing.assert_close(last.cls, tokens.cls)
        torch.testing.assert_close(last.registers, tokens.registers)
        torch.testing.assert_close(last.patch, tokens.patch.flatten(2).mT)
        torch.testing.assert_close(middle.patch, second.flatten(2).mT)
        torch.testing.assert_close(packed(images[0]).cls, expected[0][0].cls)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_hidden_patch_is_not_seen(name: str) -> None:
    backbone = trainable(name)
    large = crops(backbone.patch_size)[0]
    masks = torch.zeros(4, 4, 4, dtype=torch.bool)
    masks[0, 1, 2] = True
    patch = backbone.patch_size
    other = large.clone()
    other[0, :, patch : 2 * patch, 2 * patch : 3 * patch] = 7.0
    with torch.no_grad():
        first, second = (run_packed(backbone, [images], [masks])[0][0] for images in (large, other))
        seen = run_packed(backbone, [other])[0][0]
    torch.testing.assert_close(first.patch, second.patch)
    assert not torch.allclose(first.patch[0], seen.patch[0])
    torch.testing.assert_close(first.patch[1:], seen.patch[1:])


def test_activations_computed_again_give_the_same_gradients() -> None:
    gradients = []
    for recompute in (False, True):
        backbone = trainable("dinov2", drop_path=0.4).train()
        torch.manual_seed(3)
        (found,) = run_packed(backbone, crops(14), recompute=recompute)
        torch.stack([part.patch.square().mean() for part in found]).sum().backward()
        gradients.append([p.grad for p in backbone.parameters() if p.grad is not None])
    assert len(gradients[0]) > 30
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_in_bfloat16_are_those_of_single_precision(recompute: bool) -> None:
    """Attention is another computation there, where it needs a gradient and where it does not."""
    gradients, said = [], []
    for reduced in (False, True):
        backbone = trainable("dinov2").train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=reduced):
            (found,) = run_packed(backbone, crops(14), recompute=recompute)
            with torch.no_grad():
                (alone,) = run_packed(backbone, crops(14))
        torch.stack([part.patch.float().square().mean(1)[:, ::7].sum() for part in found]).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in backbone.parameters() if p.grad is not None]))
        said += [found[0].patch.detach().float().flatten(), alone[0].patch.float().flatten()]
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.999
    for one in said[1:]:
        assert torch.nn.functional.cosine_similarity(said[0], one, dim=0) > 0.9995


@pytest.mark.parametrize("turned", [False, True])
def test_products_are_torchs_attention(turned: bool) -> None:
    """In double precision, values and gradients; and single precision's but for bfloat16's digits."""
    attention = Attention(64, 2).double()
    rope = (torch.randn(12, 32).double(), torch.randn(12, 32).double()) if turned else None
    rows = torch.randn(3, 13, 192, dtype=torch.float64)
    said, gradients = [], []
    for way in (attention.attend, lambda qkv, rope: attend_by_products(qkv, 2, rope)):
        qkv = rows.clone().requires_grad_()
        said.append(way(qkv, rope))
        said[-1].square().sum().backward()
        gradients.append(qkv.grad)
    torch.testing.assert_close(said[1], said[0])
    torch.testing.assert_close(gradients[1], gradients[0])
    coarse = attend_by_products(rows.bfloat16(), 2, rope).double()
    assert (coarse - said[0]).norm() < 0.01 * said[0].norm()


def test_products_are_for_few_tokens_in_bfloat16_alone() -> None:
    def way(dtype: torch.dtype, tokens: int) -> bool:
        return products_are_quicker(torch.zeros(1, tokens, 8, dtype=dtype))

    assert way(torch.bfloat16, 65) and not way(torch.bfloat16, 1370) and not way(torch.float32, 65)


def test_sizes_that_are_dropped_in_other_shares_are_made_up_for_alike() -> None:
    """One crop of a size is never dropped and four of five of the other are left: 1 and 5/4 times their residual."""
    block = trainable("dinov2", drop_path=0.2).blocks[0].train()
    row, layout = torch.randn(5 * 2 + 3, 64), Layout(((5, 2), (1, 3)), (None, None))
    with torch.no_grad():
        block.ls2.gamma.zero_()
        block.eval()
        whole = block(row, layout) - row
        block.train()
        residual = block(row, layout) - row
    large = residual[:10].view(5, 2, 64)
    kept = large.abs().amax((1, 2)) > 0
    assert int(kept.sum()) == 4
    torch.testing.assert_close(large[kept], 1.25 * whole[:10].view(5, 2, 64)[kept])
    torch.testing.assert_close(residual[10:], whole[10:])


def test_stochastic_depth_is_right_on_average_and_off_for_judging() -> None:
    """One block: what is dropped is made up for, so that the mean over draws is the block without dropping."""
    block = trainable("dinov2", drop_path=0.5).blocks[0]
    row, layout = torch.randn(8 * 5, 64), Layout(((8, 5),), (None,))
    with torch.no_grad():
        block.eval()
        whole = block(row, layout)
        block.train()
        torch.manual_seed(0)
        once = block(row, layout)
        kept = (once - row).view(8, 5, 64).abs().amax((1, 2)) > 0
        # A crop stays as it is where both residuals leave it out.
        assert 4 <= int(kept.sum()) < 8
        first = block.ls1(block.attn.proj(layout.attend(block.attn, block.norm1(row))))
        block.ls2.gamma.zero_()
        mean = torch.stack([block(row, layout) for _ in range(600)]).mean(0)
    torch.testing.assert_close(mean - row, first, atol=0.15 * float(first.abs().max()), rtol=0)
    assert not torch.equal(once, whole)


def test_no_such_block() -> None:
    with pytest.raises(ConfigError, match=r"blocks 0..2"):
        run_packed(trainable("dinov2"), crops(14), layers=[3])
