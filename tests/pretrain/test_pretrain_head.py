"""The projection head: the official one's outputs, unit lengths at any size and precision, what its weights mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from slamfeat.errors import ConfigError
from slamfeat.pretrain.head import HeadConfig, ProjectionHead, Prototypes

SMALL = HeadConfig(hidden=40, bottleneck=24, layers=3, prototypes=64)


def a_head(config: HeadConfig = SMALL, dim: int = 48) -> ProjectionHead:
    torch.manual_seed(0)
    return ProjectionHead(dim, config)


@pytest.mark.shared
def test_head_is_the_official_one(shared: Path) -> None:
    tensors = load_file(shared / "fixtures" / "dinov2_losses.safetensors")
    prefix = "head.weights."
    official = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    head = ProjectionHead(48, SMALL)
    assert bool((official.pop("last_layer.weight_g") == 1).all())  # magnitudes, which ours does not have
    official["last_layer.weight"] = official.pop("last_layer.weight_v")
    head.load_state_dict(official)
    with torch.no_grad():
        torch.testing.assert_close(head(tensors["head.input"]), tensors["head.output"], atol=1e-5, rtol=0)


def test_head_is_its_formula() -> None:
    head = a_head().double()
    x = torch.randn(5, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = {name: value.numpy() for name, value in head.state_dict().items()}
    hidden = x.numpy()
    for index in (0, 2, 4):
        hidden = hidden @ weights[f"mlp.{index}.weight"].T + weights[f"mlp.{index}.bias"]
        if index < 4:
            hidden = F.gelu(torch.from_numpy(hidden)).numpy()
    rows = weights["last_layer.weight"]
    cosines = hidden @ rows.T / np.linalg.norm(hidden, axis=1)[:, None] / np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(head(x).detach().numpy(), cosines, atol=1e-12)


def test_the_prototypes_are_one_tensor_whose_length_does_not_count() -> None:
    head = a_head()
    assert [name for name in head.state_dict() if name.startswith("last_layer")] == ["last_layer.weight"]
    x = torch.randn(5, 48)
    before = head(x)
    with torch.no_grad():
        head.last_layer.weight.mul_(torch.linspace(0.01, 100, 64)[:, None])
    torch.testing.assert_close(head(x), before, atol=1e-6, rtol=1e-5)


def test_first_weights_are_as_in_the_paper() -> None:
    head = a_head(HeadConfig(hidden=200, bottleneck=100, prototypes=300), dim=150)
    for name, value in head.named_parameters():
        if name.endswith("bias"):
            assert not value.any()
        else:
            assert float(value.detach().std()) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_any_number_of_layers(layers: int) -> None:
    head = a_head(HeadConfig(hidden=8, bottleneck=6, layers=layers, prototypes=5), dim=7)
    linears = [part for part in head.mlp if isinstance(part, torch.nn.Linear)]
    assert len(linears) == layers and len(head.mlp) == 2 * layers - 1
    assert (linears[0].in_features, linears[-1].out_features) == (7, 6)
    assert head(torch.randn(2, 3, 7)).shape == (2, 3, 5)


@pytest.mark.parametrize("size", [1e-30, 1e-4, 1.0, 1e15])
def test_bf16_prototypes_see_unit_vectors_of_any_size(size: float) -> None:
    torch.manual_seed(0)
    prototypes = Prototypes(16, 32).bfloat16()
    x = torch.randn(4, 16)
    found = prototypes((x * size).bfloat16())
    assert found.dtype == torch.bfloat16 and bool(found.isfinite().all())
    if size > 1e-6:
        wanted = F.normalize(x, dim=1) @ F.normalize(prototypes.weight.float(), dim=1).T
        torch.testing.assert_close(found.float(), wanted, atol=0.02, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_no_vector_is_divided_by_zero(dtype: torch.dtype) -> None:
    prototypes = Prototypes(16, 32).to(dtype)
    assert torch.equal(prototypes(torch.zeros(2, 16, dtype=dtype)), torch.zeros(2, 32, dtype=dtype))


def test_autocast_and_zero_tokens_leave_finite_gradients() -> None:
    head = a_head()
    with torch.no_grad():
        head.mlp[4].weight.zero_()  # every token at the bottleneck's origin
    x = torch.randn(3, 48, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        head(x).float().square().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in (x, *head.parameters()) if p.grad is not None)
    assert x.grad is not None


def test_prototypes_have_the_derivatives_of_their_values() -> None:
    torch.manual_seed(0)
    prototypes = Prototypes(4, 3).double()
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)

    def cosines(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(prototypes, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(cosines, (x, prototypes.weight))


def test_what_cannot_be_a_head() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        HeadConfig(layers=0)
