"""A teacher's targets: the official ones, plain iterations in float64, logits beyond exp, and shares of processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pretrain_ranks import makers
from safetensors.torch import load_file
from scipy.special import logsumexp, softmax
from torch import Tensor
from torch import distributed as dist

from slamfeat.errors import ConfigError
from slamfeat.pretrain.centring import Centring, SinkhornKnopp

REPO = Path(__file__).parent.parent.parent
PROGRAM = Path(__file__).parent / "pretrain_ranks.py"


def some_logits(rows: int, prototypes: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(rows, prototypes, generator=torch.Generator().manual_seed(seed))


def sinkhorn_by_hand(logits: NDArray[np.float64], temperature: float, iterations: int) -> NDArray[np.float64]:
    """SwAV's: probabilities of all pairs, scaled to equal shares of prototypes and of rows in turn."""
    joint = np.exp(logits / temperature)
    joint /= joint.sum()
    for _ in range(iterations):
        joint /= joint.sum(0, keepdims=True) * joint.shape[1]
        joint /= joint.sum(1, keepdims=True) * joint.shape[0]
    return joint * joint.shape[0]


@pytest.fixture
def official(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "fixtures" / "dinov2_losses.safetensors")


@pytest.mark.shared
@pytest.mark.parametrize("part", ["dino", "ibot"])
def test_sinkhorn_is_the_official_one(official: dict[str, Tensor], part: str) -> None:
    found = SinkhornKnopp()(official[f"{part}.teacher_logits"], 0.05)
    torch.testing.assert_close(found, official[f"{part}.sinkhorn_t0.05"], atol=1e-5, rtol=0)


@pytest.mark.shared
def test_centring_is_the_official_one(official: dict[str, Tensor]) -> None:
    centring = Centring(64)
    centring.centre.copy_(official["dino.center"][0])
    found = centring(official["dino.teacher_logits"], 0.07)
    torch.testing.assert_close(found, official["dino.centered_t0.07"], atol=1e-5, rtol=0)
    torch.testing.assert_close(centring.centre, official["dino.center_after_update_m0.9"][0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_sinkhorn_is_the_plain_iteration(iterations: int) -> None:
    logits = some_logits(20, 7)
    found = SinkhornKnopp(iterations)(logits, 0.1).double().numpy()
    np.testing.assert_allclose(found, sinkhorn_by_hand(logits.double().numpy(), 0.1, iterations), atol=2e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_sinkhorn_uses_prototypes_alike_in_the_end() -> None:
    found = SinkhornKnopp(100)(some_logits(24, 6) + torch.tensor([5.0, 0, 0, 0, 0, 0]), 0.5)
    torch.testing.assert_close(found.sum(0), torch.full((6,), 4.0), atol=1e-3, rtol=0)


def test_sinkhorn_of_logits_whose_exponential_is_infinite() -> None:
    logits = some_logits(16, 5, scale=30.0) + 1000 * torch.arange(5)
    assert bool(torch.exp(logits / 0.04).isinf().any())
    found = SinkhornKnopp()(logits, 0.04).double().numpy()
    exact = logits.double().numpy() / 0.04
    for _ in range(3):
        exact -= logsumexp(exact, axis=0, keepdims=True)
        exact -= logsumexp(exact, axis=1, keepdims=True)
    np.testing.assert_allclose(found, np.exp(exact), atol=0.02)  # 25000 in float32 is known to 0.002
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-3)


def test_centring_takes_off_what_all_rows_share() -> None:
    """The centre follows by a tenth; targets are by the one before; a common bias is gone after a while."""
    bias = torch.tensor([3.0, 0, 0, 0])
    centring = Centring(4)
    batches = [some_logits(50, 4, seed) + bias for seed in range(60)]
    centre = np.zeros(4)
    for logits in batches:
        wanted = softmax((logits.double().numpy() - centre) / 0.5, axis=1)
        np.testing.assert_allclose(centring(logits, 0.5).numpy(), wanted, atol=1e-5)
        centre = 0.9 * centre + 0.1 * logits.double().numpy().mean(0)
    np.testing.assert_allclose(centring.centre.numpy(), centre, atol=1e-5)
    assert float(batches[0].softmax(1).mean(0)[0]) > 0.7
    assert float(centring(batches[0], 1.0).mean(0)[0]) == pytest.approx(0.25, abs=0.05)
    assert list(centring.state_dict()) == ["centre"]


def test_the_centre_stays_in_evaluation() -> None:
    centring = Centring(4).eval()
    targets = centring(some_logits(5, 4), 0.1)
    assert not centring.centre.any()
    torch.testing.assert_close(targets, (some_logits(5, 4) / 0.1).softmax(1))


@pytest.mark.parametrize("name", ["centring", "sinkhorn"])
def test_no_rows_at_all(name: str) -> None:
    maker = makers(6)[name]
    for buffer in maker.buffers():
        buffer.fill_(0.5)
    assert maker(torch.zeros(0, 6), 0.1).shape == (0, 6)
    assert all(bool((buffer == 0.5).all()) for buffer in maker.buffers())


@pytest.mark.parametrize("name", ["centring", "sinkhorn"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_targets_are_single_precision_without_gradient(name: str, dtype: torch.dtype) -> None:
    logits = some_logits(9, 6).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        targets = makers(6)[name](logits, 0.04)
    assert targets.dtype == torch.float32 and not targets.requires_grad
    torch.testing.assert_close(targets, makers(6)[name](logits.detach().float(), 0.04))


@pytest.mark.parametrize("name", ["centring", "sinkhorn"])
def test_one_process_sends_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("sent")

    for call in ("all_reduce", "get_world_size"):
        monkeypatch.setattr(dist, call, refuse)
    assert bool(makers(6)[name](some_logits(9, 6), 0.1).isfinite().all())


@pytest.mark.parametrize("shares", [[7, 4], [11, 0]])
def test_two_processes_have_the_targets_of_one(tmp_path: Path, shares: list[int]) -> None:
    """With unequal shares of the rows, or none in one of them."""
    logits = some_logits(11, 6, scale=3.0)
    torch.save({"logits": logits, "shares": shares}, tmp_path / "in.pt")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(PROGRAM)]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    words = [str(tmp_path / "in.pt"), str(tmp_path / "out")]
    done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = [torch.load(tmp_path / f"out-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, maker in makers(6).items():
        for call in range(2):  # the second time by a centre that has moved
            joined = torch.cat([of_rank[name][call] for of_rank in found])
            torch.testing.assert_close(joined, maker(logits, 0.07), atol=1e-6, rtol=1e-5)
        for of_rank in found:
            torch.testing.assert_close(of_rank[f"{name}.state"], maker.state_dict(), atol=1e-6, rtol=1e-5)


def test_what_cannot_be_made() -> None:
    with pytest.raises(ConfigError, match="momentum"):
        Centring(4, momentum=1.0)
    with pytest.raises(ConfigError, match="iterations"):
        SinkhornKnopp(0)
