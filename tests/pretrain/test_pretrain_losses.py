"""Losses of pretraining against the official ones, formulas written out, and what their gradients lead to."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import log_softmax
from torch import Tensor

from slamfeat.errors import ConfigError
from slamfeat.pretrain.losses import dino_loss, gram_loss, ibot_loss, koleo_loss, soft_cross_entropy


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_targets(*shape: int, seed: int = 1) -> Tensor:
    return (2 * some(*shape, seed=seed)).softmax(-1)


@pytest.fixture
def official(shared: Path) -> dict[str, Tensor]:
    return load_file(shared / "fixtures" / "dinov2_losses.safetensors")


@pytest.mark.shared
@pytest.mark.parametrize(("targets", "loss"), [("sinkhorn_t0.05", "sinkhorn"), ("centered_t0.07", "centered")])
def test_dino_is_the_official_one(official: dict[str, Tensor], targets: str, loss: str) -> None:
    """The fixture is the plain sum over three crops and one view."""
    student, teacher = official["dino.student_logits"], official[f"dino.{targets}"]
    wanted = float(official[f"dino.loss_{loss}"])
    assert float(soft_cross_entropy(student, teacher, 0.1).mean(1).sum()) == pytest.approx(wanted, rel=1e-6)
    assert 3 * float(dino_loss(student[:1], student, teacher[None])) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.shared
def test_ibot_is_the_official_one(official: dict[str, Tensor]) -> None:
    masks = official["ibot.mask"].bool()
    found = ibot_loss(official["ibot.student_logits"], official["ibot.sinkhorn_t0.05"], masks)
    assert float(found) == pytest.approx(float(official["ibot.loss_sinkhorn"]), rel=1e-6)


@pytest.mark.shared
def test_koleo_is_the_official_one(official: dict[str, Tensor]) -> None:
    assert float(koleo_loss(official["koleo.input"])) == pytest.approx(float(official["koleo.loss"]), abs=1e-5)


@pytest.mark.parametrize(("views", "local"), [(2, 8), (2, 0), (3, 2), (1, 2)])
def test_dino_is_the_mean_over_its_pairs(views: int, local: int) -> None:
    of_global, of_local, targets = some(views, 4, 6), some(local, 4, 6, seed=2), some_targets(views, 4, 6)
    terms: dict[str, list[float]] = {"global": [], "local": []}
    for v in range(views):
        for kind, crops in (("global", of_global), ("local", of_local)):
            for number, crop in enumerate(crops):
                if (kind, number) != ("global", v):
                    each = -(targets[v].numpy() * log_softmax(crop.numpy() / 0.2, axis=1)).sum(1)
                    terms[kind].append(float(each.mean()))
    found = dino_loss(of_global, of_local if local else None, targets, 0.2)
    both = terms["global"] + terms["local"]
    assert len(both) == views * (views - 1 + local)
    assert float(found) == pytest.approx(np.mean(both), rel=1e-12)


def test_dino_has_the_officials_denominators() -> None:
    """16 local terms and one of both global crops that counts twice, over 18."""
    of_global, of_local, targets = some(2, 4, 6), some(8, 4, 6, seed=2), some_targets(2, 4, 6)

    def plain_sum(student: list[Tensor], teacher: list[Tensor]) -> float:
        return sum(float(soft_cross_entropy(s, t, 0.1).mean()) for s in student for t in teacher)

    swapped = torch.cat([targets[1], targets[0]])
    wanted = plain_sum(list(of_local), list(targets)) / 18 + 2 * plain_sum([of_global.flatten(0, 1)], [swapped]) / 18
    assert float(dino_loss(of_global, of_local, targets)) == pytest.approx(wanted, rel=1e-12)


def test_a_view_never_judges_its_own_crop() -> None:
    of_global, targets = some(2, 4, 6).requires_grad_(), some_targets(2, 4, 6)
    before = torch.autograd.grad(dino_loss(of_global, None, targets), of_global)[0]
    targets[0] = some_targets(4, 6, seed=9)
    after = torch.autograd.grad(dino_loss(of_global, None, targets), of_global)[0]
    assert torch.equal(before[0], after[0]) and not torch.allclose(before[1], after[1])


def test_cross_entropy_teaches_the_student_alone() -> None:
    logits, targets = some(2, 3, 4).requires_grad_(), some_targets(2, 3, 4).requires_grad_()
    local = some(2, 3, 4, seed=3).requires_grad_()
    dino_loss(logits, local, targets).backward()
    assert targets.grad is None and logits.grad is not None
    assert torch.autograd.gradcheck(lambda g, p: dino_loss(g, p, targets.detach(), 0.5), (logits, local))
    masks = torch.tensor([[True, False, True], [False, True, False]])
    rows = some(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: ibot_loss(z, some_targets(3, 4), masks, 0.5), (rows,))


def test_huge_and_half_logits() -> None:
    targets = some_targets(2, 3, 4).float()
    huge = (1e4 * some(2, 3, 4).float()).requires_grad_()
    loss = dino_loss(huge, None, targets)
    loss.backward()
    assert math.isfinite(loss.item()) and huge.grad is not None and bool(huge.grad.isfinite().all())
    half = some(2, 3, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = dino_loss(half, half, targets)
        masked = ibot_loss(half[0], targets[0], torch.ones(1, 3, dtype=torch.bool))
    assert found.dtype == masked.dtype == torch.float32
    assert float(found) == pytest.approx(float(dino_loss(half.double(), half.double(), targets.double())), rel=1e-5)


def test_every_image_counts_alike_in_ibot() -> None:
    """Whatever is masked of it; one without any counts as 0; the order is row by row; what fills up is left out."""
    masks = torch.zeros(4, 2, 3, dtype=torch.bool)
    masks[0, 0, 1] = masks[0, 1, 0] = masks[0, 1, 2] = masks[2, 0, 0] = masks[3] = True
    logits, targets = some(10, 5), some_targets(10, 5)
    each = -(targets.numpy() * log_softmax(logits.numpy() / 0.1, axis=1)).sum(1)
    wanted = (each[:3].mean() + 0 + each[3] + each[4:].mean()) / 4
    assert float(ibot_loss(logits, targets, masks)) == pytest.approx(wanted, rel=1e-12)
    nothing = torch.full((2, 5), torch.nan, dtype=torch.float64)
    padded = ibot_loss(torch.cat([logits, nothing]), torch.cat([targets, nothing]), masks.flatten(1))
    assert float(padded) == pytest.approx(wanted, rel=1e-12)


def test_nothing_masked_costs_nothing() -> None:
    logits = some(2, 5).requires_grad_()
    loss = ibot_loss(logits, some_targets(2, 5), torch.zeros(3, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()


@pytest.mark.parametrize("group", [0, 3, 6])
def test_koleo_by_all_distances(group: int) -> None:
    features = some(12, 5)
    points = features.numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)
    logs = []
    for i in range(12):
        size = group or 12
        others = [j for j in range(12) if j != i and j // size == i // size]
        logs.append(-math.log(min(float(np.linalg.norm(points[i] - points[j])) for j in others) + 1e-8))
    assert float(koleo_loss(features, group)) == pytest.approx(np.mean(logs), rel=1e-9)


def test_koleo_derivatives_and_autocast() -> None:
    features = some(6, 4).requires_grad_()
    assert torch.autograd.gradcheck(koleo_loss, (features,))
    spread = (1 + 0.01 * some(40, 32)).float()  # cosines that bfloat16 cannot tell apart
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(koleo_loss(spread), koleo_loss_without_autocast(spread))
        assert koleo_loss(spread.bfloat16()).dtype == torch.float32


def koleo_loss_without_autocast(features: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return koleo_loss(features)


def test_koleo_spreads_what_lies_together() -> None:
    features = (torch.tensor([1.0, 0, 0]) + 0.01 * some(8, 3).float()).requires_grad_()
    before = float(koleo_loss(features.detach()))
    optimizer = torch.optim.Adam([features], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        koleo_loss(features).backward()
        optimizer.step()
    assert before > 3 and float(koleo_loss(features.detach())) < 0.2  # corners of a cube: -log(2 / sqrt 3)


def test_koleo_of_the_same_image_twice_is_finite() -> None:
    features = torch.ones(3, 4)
    features[2] = torch.tensor([1.0, 0, 0, 0])
    features.requires_grad_()
    loss = koleo_loss(features)
    loss.backward()
    assert math.isfinite(loss.item()) and features.grad is not None and bool(features.grad.isfinite().all())
    assert bool(koleo_loss(torch.zeros(3, 4)).isfinite())


def test_koleo_needs_neighbours() -> None:
    with pytest.raises(ConfigError, match="two images or more"):
        koleo_loss(some(1, 4))
    with pytest.raises(ConfigError, match="two images or more"):
        koleo_loss(some(4, 4), group=1)
    with pytest.raises(ConfigError, match="groups of 3 do not divide a process's batch of 4"):
        koleo_loss(some(4, 4), group=3)


@pytest.mark.parametrize("negatives", ["keep", "clip", "clip_teacher"])
def test_gram_entry_by_entry(negatives: str) -> None:
    ours, theirs = some(2, 5, 3), some(2, 5, 4, seed=1)
    squares = []
    for a, b in zip(ours.numpy(), theirs.numpy(), strict=True):
        for i in range(5):
            for j in range(5):
                s, t = (x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for x in (a, b))
                if negatives == "clip" or (negatives == "clip_teacher" and t < 0):
                    s = max(s, 0.0)
                squares.append((s - (t if negatives == "keep" else max(t, 0.0))) ** 2)
    assert float(gram_loss(ours, theirs, negatives)) == pytest.approx(np.mean(squares), rel=1e-12)


def test_gram_is_zero_for_turned_and_scaled_features() -> None:
    patches = some(2, 6, 4)
    turn = torch.linalg.qr(some(4, 4, seed=3))[0]
    assert float(gram_loss(3 * patches @ turn, patches)) == pytest.approx(0, abs=1e-24)
    assert float(gram_loss(patches[:, [1, 0, 2, 3, 4, 5]], patches)) > 0.01


def test_gram_derivatives_precision_and_names() -> None:
    patches, teacher = some(2, 4, 3).requires_grad_(), some(2, 4, 3, seed=1).requires_grad_()
    gram_loss(patches, teacher).backward()
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda p: gram_loss(p, teacher, "clip_teacher"), (patches,))
    half = some(2, 4, 3).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = gram_loss(half, teacher.detach().float())
    assert float(found) == pytest.approx(float(gram_loss(half.double(), teacher.detach())), rel=1e-5)
    with pytest.raises(ConfigError, match="'drop'; use one of keep, clip, clip_teacher"):
        gram_loss(patches, teacher, "drop")  # type: ignore[arg-type]
