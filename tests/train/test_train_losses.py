"""Losses against formulas written out, SciPy's distributions, angles known by heart, and what descent on them finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import multivariate_normal
from torch import Tensor

from slamfeat.errors import ConfigError
from slamfeat.frontend.heads.assignment import NEVER, Scores, mutual_matches
from slamfeat.frontend.heads.matcher import AttentionConfig, AttentionMatcher, MatcherInput
from slamfeat.train.losses import (
    PoseLossSchedule,
    assignment_divergence,
    deep_matching_nll,
    matching_nll,
    offset_log_density,
    offset_nll,
    partners,
    pose_loss,
    precision_recall,
    repeatability_loss,
    settled_losses,
    settled_nll,
)


def some_scores(count0: int, count1: int, seed: int = 0, batch: int = 1) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((batch, count0, count1), (batch, count0), (batch, count1))
    return Scores(*(2 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes))


INDEX0 = torch.tensor([[2, -1, 0, -2, -1, -2], [-1, -1, -2, -1, -1, -1]])
INDEX1 = torch.tensor([[2, -1, 0, -2, -1], [-1, -2, -1, -1, -1]])


def likelihood_by_hand(scores: Scores, index0: Tensor, index1: Tensor) -> tuple[list[float], list[float]]:
    """The two parts of each pair, from the probabilities themselves."""
    positive, negative = [], []
    for S, z0, z1, labels0, labels1 in zip(*(x.numpy() for x in (*scores, index0, index1)), strict=True):
        sigma0, sigma1 = 1 / (1 + np.exp(-z0)), 1 / (1 + np.exp(-z1))
        soft = np.exp(S) / np.exp(S).sum(1, keepdims=True) * np.exp(S) / np.exp(S).sum(0, keepdims=True)
        P = sigma0[:, None] * sigma1[None] * soft
        matched = [-math.log(P[i, j]) for i, j in enumerate(labels0) if j >= 0]
        alone0 = [-math.log(1 - sigma0[i]) for i, j in enumerate(labels0) if j == -1]
        alone1 = [-math.log(1 - sigma1[j]) for j, i in enumerate(labels1) if i == -1]
        positive.append(float(np.mean(matched)) if matched else 0.0)
        negative.append(0.5 * sum(float(np.mean(alone)) if alone else 0.0 for alone in (alone0, alone1)))
    return positive, negative


@pytest.mark.parametrize("balance", [0.5, 0.0, 0.3, 1.0])
def test_matching_loss_is_the_formula(balance: float) -> None:
    scores = some_scores(6, 5, batch=2)
    found = matching_nll(scores, INDEX0, INDEX1, balance)
    positive, negative = likelihood_by_hand(scores, INDEX0, INDEX1)
    wanted = np.mean([balance * p + (1 - balance) * n for p, n in zip(positive, negative, strict=True)])
    assert float(found.loss) == pytest.approx(wanted, rel=1e-12)
    assert float(found.statistics["positive"]) == pytest.approx(np.mean(positive), rel=1e-12)
    assert float(found.statistics["negative"]) == pytest.approx(np.mean(negative), rel=1e-12)
    assert float(found.statistics["matches"]) == 1.0 and float(found.statistics["unmatchable"]) == 6.5


def test_matching_loss_has_the_derivatives_of_its_values() -> None:
    inputs = [x.clone().requires_grad_() for x in some_scores(6, 5, batch=2)]
    assert torch.autograd.gradcheck(lambda *x: matching_nll(Scores(*x), INDEX0, INDEX1).loss, inputs)


def test_empty_slots_cost_nothing() -> None:
    scores = some_scores(6, 5, batch=2)
    pad = torch.nn.functional.pad
    padded = Scores(
        pad(scores.similarity, (0, 3, 0, 2), value=NEVER),
        pad(scores.matchable0, (0, 2), value=NEVER),
        pad(scores.matchable1, (0, 3), value=NEVER),
    )
    index0, index1 = pad(INDEX0, (0, 2), value=-2), pad(INDEX1, (0, 3), value=-2)
    inputs = [x.requires_grad_() for x in padded]
    loss = matching_nll(Scores(*inputs), index0, index1).loss
    torch.testing.assert_close(loss, matching_nll(scores, INDEX0, INDEX1).loss)
    loss.backward()
    for x in inputs:
        assert x.grad is not None and torch.isfinite(x.grad).all()
    assert inputs[0].grad is not None and (inputs[0].grad[:, 6:] == 0).all() and (inputs[0].grad[:, :, 5:] == 0).all()


def test_extreme_and_half_precision_scores_are_finite() -> None:
    scores = Scores(*(1e4 * x.float() for x in some_scores(6, 5, batch=2)))
    inputs = [x.requires_grad_() for x in scores]
    loss = matching_nll(Scores(*inputs), INDEX0, INDEX1).loss
    loss.backward()
    assert torch.isfinite(loss) and all(x.grad is not None and torch.isfinite(x.grad).all() for x in inputs)
    exact = some_scores(6, 5, batch=2)
    half = matching_nll(Scores(*(x.bfloat16() for x in exact)), INDEX0, INDEX1).loss
    assert half.dtype == torch.float32
    rounded = Scores(*(x.bfloat16().double() for x in exact))
    assert float(half) == pytest.approx(float(matching_nll(rounded, INDEX0, INDEX1).loss), rel=1e-5)


def test_descent_on_the_matching_loss_finds_the_matches() -> None:
    inputs = [x.requires_grad_() for x in some_scores(6, 5, batch=2)]
    optimizer = torch.optim.Adam(inputs, lr=0.2)
    before = matching_nll(Scores(*inputs), INDEX0, INDEX1).loss.item()
    for _ in range(100):
        optimizer.zero_grad()
        matching_nll(Scores(*inputs), INDEX0, INDEX1).loss.backward()
        optimizer.step()
    scores = Scores(*(x.detach() for x in inputs))
    assert float(matching_nll(scores, INDEX0, INDEX1).loss) < 0.05 * before
    found, _ = mutual_matches(scores, 0.5)
    assert found[0, [0, 1, 2, 4]].tolist() == [2, -1, 0, -1] and found[1, [0, 1, 3, 4, 5]].tolist() == [-1] * 5


def test_deep_supervision_is_the_mean_over_layers() -> None:
    layers = [some_scores(6, 5, seed, batch=2) for seed in range(3)]
    each = [matching_nll(scores, INDEX0, INDEX1) for scores in layers]
    deep = deep_matching_nll(layers, INDEX0, INDEX1)
    assert float(deep.loss) == pytest.approx(sum(float(one.loss) for one in each) / 3)
    assert deep.statistics["positive"] == each[-1].statistics["positive"]
    assert deep.statistics["nll"] == each[-1].loss


def kullback_leibler(wanted: np.ndarray, given: np.ndarray) -> float:
    """Of two lists of probabilities."""
    return float(np.sum(wanted * np.log(wanted / given)))


def test_forgotten_matches_by_hand() -> None:
    """Of two true matches the teacher finds one; of the second pair's nothing."""
    scores, teacher = some_scores(6, 5, seed=1, batch=2), some_scores(6, 5, seed=2, batch=2)
    for i, j in ((0, 2), (3, 4)):  # sure of both, of which the second is wrong
        teacher.similarity[0, i, j] = 9.0
        teacher.matchable0[0, i], teacher.matchable1[0, j] = 4.0, 5.0
    index0 = torch.tensor([[2, 1, -1, 0, -1, -2], [-1] * 6])
    found, _ = mutual_matches(teacher, 0.1)
    assert found[0, 0] == 2 and found[0, 1] != 1 and found[0, 3] == 4
    parts = []
    for S, z0, z1 in ([x[0].numpy() for x in one] for one in (teacher, scores)):
        soft, columns = np.exp(S[0]), np.exp(S[:, 2])
        sure = [1 / (1 + np.exp(-z)) for z in (z0[0], z1[2])]
        parts.append([soft / soft.sum(), columns / columns.sum(), *(np.array([p, 1 - p]) for p in sure)])
    wanted = sum(kullback_leibler(t, s) for t, s in zip(*parts, strict=True)) / 2
    assert float(assignment_divergence(scores, teacher, index0)) == pytest.approx(wanted, rel=1e-9)


def test_a_pupil_that_is_its_teacher_has_forgotten_nothing() -> None:
    teacher = some_scores(6, 5, batch=2)
    found, _ = mutual_matches(teacher, 0.1)
    assert (found >= 0).any()
    inputs = [x.clone().requires_grad_() for x in teacher]
    loss = assignment_divergence(Scores(*inputs), teacher, found)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    assert all(x.grad is not None and x.grad.abs().max() < 1e-12 for x in inputs)
    assert torch.autograd.gradcheck(
        lambda *x: assignment_divergence(Scores(*x), teacher, found),
        [x.requires_grad_() for x in some_scores(6, 5, 3, 2)],
    )


def test_precision_and_recall_by_hand() -> None:
    truth = torch.tensor([[3, 4, -1, -2, 0, 1]])
    found = torch.tensor([[3, 2, 5, 1, -1, 1]])  # right, wrong, wrong, not known, missed, right
    precision, recall = precision_recall(found, truth)
    assert float(precision) == pytest.approx(2 / 4) and float(recall) == pytest.approx(2 / 4)
    nothing = precision_recall(torch.full((1, 6), -1), torch.full((1, 6), -2))
    assert [float(x) for x in nothing] == [0, 0]


def poses(rotvecs: list[list[float]], translations: list[list[float]]) -> tuple[Tensor, Tensor]:
    R = torch.from_numpy(Rotation.from_rotvec(rotvecs).as_matrix())
    return R, torch.tensor(translations, dtype=torch.float64)


def test_settled_keypoints_by_hand() -> None:
    """Of two pairs of images, with the layer's matches and the last one's counted by themselves."""
    early, last = some_scores(6, 5, seed=1, batch=2), some_scores(6, 5, seed=2, batch=2)
    generator = torch.Generator().manual_seed(3)
    logits = tuple(torch.randn(2, count, generator=generator).double().requires_grad_() for count in (6, 5))
    masks = (torch.rand(2, 6, generator=generator) > 0.2, torch.rand(2, 5, generator=generator) > 0.2)
    loss = settled_nll((logits[0], logits[1]), early, partners(last), masks)
    costs = []
    for pair in range(2):
        both = []
        for scores in (early, last):
            found = mutual_matches(scores, 0.1)[0][pair].tolist()
            both.append((found, [found.index(i) if i in found else -1 for i in range(5)]))
        for side in (0, 1):
            for place in range((6, 5)[side]):
                if masks[side][pair, place]:
                    sure = 1 / (1 + math.exp(-float(logits[side][pair, place].detach())))
                    settled = both[0][side][place] == both[1][side][place]
                    costs.append(-math.log(sure if settled else 1 - sure))
    assert float(loss.detach()) == pytest.approx(np.mean(costs), rel=1e-5)
    assert 0 < sum(cost < -math.log(0.5) for cost in costs) < len(costs)
    loss.backward()
    assert all(
        bool((one.grad != 0).any()) and not one.grad[~mask].any() for one, mask in zip(logits, masks, strict=True)
    )


def test_confidences_are_learnt_and_move_nothing_else() -> None:
    torch.manual_seed(0)
    matcher = AttentionMatcher(AttentionConfig(input_dim=8, token_dim=0, dim=16, layers=3, heads=2)).double()
    sides = [
        MatcherInput(torch.rand(2, n, 2).double(), torch.randn(2, n, 8).double(), None, torch.ones(2, n).bool())
        for n in (7, 9)
    ]
    outputs = list(matcher.layer_outputs(sides[0], sides[1], range(3)))
    settled_losses(matcher, outputs, (sides[0].mask, sides[1].mask)).backward()
    touched = {name for name, value in matcher.named_parameters() if value.grad is not None and value.grad.any()}
    assert touched == {f"confidence.{layer}.{part}" for layer in (0, 1) for part in ("weight", "bias")}
    assert float(settled_losses(matcher, outputs[-1:], (sides[0].mask, sides[1].mask))) == 0


def test_pose_loss_in_the_papers_unit() -> None:
    """0 at the truth; 3.14 a degree of rotation; 6.98 a degree of direction; lengths do not matter."""
    degree = math.radians(1)
    R, t = poses([[0.3, -0.2, 0.5]], [[0.0, 0.0, 2.0]])
    assert float(pose_loss(R, t, R, 0.1 * t).loss) == pytest.approx(0, abs=1e-9)
    turned = R @ torch.from_numpy(Rotation.from_rotvec([0, degree, 0]).as_matrix())
    found = pose_loss(turned, t, R, t)
    assert float(found.loss) == pytest.approx(math.pi, rel=1e-9)
    assert float(found.rotation_deg) == pytest.approx(1) and float(found.direction_deg) == 0
    aside = torch.tensor([[0.0, math.sin(degree), math.cos(degree)]], dtype=torch.float64)
    found = pose_loss(R, aside, R, t)
    assert float(found.loss) == pytest.approx(6.98, abs=2e-3)
    assert float(found.direction_deg) == pytest.approx(1) and float(found.rotation_deg) == pytest.approx(0, abs=1e-6)


def test_rotation_part_is_the_angle_for_all_angles() -> None:
    """Against SciPy, from a millionth of a degree to half a turn."""
    rng = np.random.default_rng(0)
    angles = np.radians([1e-6, 1e-3, 0.1, 5, 60, 120, 179, 179.999, 180])
    axes = rng.normal(size=(len(angles), 3))
    first = Rotation.from_rotvec(rng.normal(size=(len(angles), 3)))
    second = Rotation.from_rotvec(axes / np.linalg.norm(axes, axis=1, keepdims=True) * angles[:, None]) * first
    R0, R1 = (torch.from_numpy(x.as_matrix()) for x in (first, second))
    t = torch.ones(len(angles), 3, dtype=torch.float64)
    np.testing.assert_allclose(pose_loss(R1, t, R0, t).rotation_deg.numpy(), np.degrees(angles), rtol=1e-6, atol=1e-9)
    assert float(pose_loss(R1, t, R0, t).loss) == pytest.approx(180 * angles.mean())


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, math.pi - 1e-6, math.pi])
def test_pose_loss_has_finite_derivatives(angle: float) -> None:
    R, t = poses([[angle, 0, 0]], [[0.0, 0.0, 1.0]])
    R_true, _ = poses([[0.0, 0, 0]], [[0.0, 0.0, 1.0]])
    for direction in ([0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.0, 0.0, 0.0]):
        inputs = [R.clone().requires_grad_(), t.clone().requires_grad_()]
        pose_loss(inputs[0], inputs[1], R_true, torch.tensor([direction], dtype=torch.float64)).loss.backward()
        for x in inputs:
            assert x.grad is not None and torch.isfinite(x.grad).all() and float(x.grad.abs().max()) < 1e4


def test_pose_loss_has_the_derivatives_of_its_values() -> None:
    R, t = poses([[0.3, -0.2, 0.5], [2.0, 1.0, -1.5]], [[0.4, 0.2, 2.0], [1.0, 0.0, 0.3]])
    R_true, t_true = poses([[0.1, -0.2, 0.5], [-0.1, 0.0, 0.3]], [[0.0, 0.0, 1.0], [0.0, 0.1, -1.0]])
    inputs = (R.requires_grad_(), t.requires_grad_())
    assert torch.autograd.gradcheck(lambda R, t: pose_loss(R, t, R_true, t_true).loss, inputs)


def test_a_camera_that_stands_still_has_no_direction_to_learn() -> None:
    R, t = poses([[0.0, 0, 0]] * 2, [[0.0, 0, 1], [0, 0, 1]])
    found = pose_loss(R, t, R, torch.tensor([[1e-9, 0, 0], [1.0, 0, 0]], dtype=torch.float64))
    assert found.direction_deg.tolist() == [0, pytest.approx(90)]
    assert float(found.loss) == pytest.approx(0.5 * 400 * math.sqrt(2))


def test_the_pose_comes_in_slowly() -> None:
    schedule = PoseLossSchedule(start=1000)
    assert [schedule.share(step) for step in (0, 1000)] == [0, 0]
    assert schedule.share(1001) == pytest.approx(1.5e-4) and schedule.share(5000) == pytest.approx(0.6)
    assert [schedule.share(step) for step in (7000, 10**7)] == [pytest.approx(0.9), 0.9]
    assert float(schedule.mix(torch.tensor(2.0), torch.tensor(10.0), 5000)) == pytest.approx(0.4 * 2 + 0.6 * 10)
    half = schedule.mix(torch.tensor(2.0), torch.tensor(10.0), 5000, posed=0.5)
    assert float(half) == pytest.approx(0.7 * 2 + 0.3 * 10)
    with pytest.raises(ConfigError):
        PoseLossSchedule(start=0, most=1.5)


def covariances(count: int) -> tuple[Tensor, np.ndarray]:
    """Cholesky parameters and the covariances they stand for."""
    cholesky = np.random.default_rng(0).normal(0, 1, (count, 3))
    L = np.zeros((count, 2, 2))
    L[:, 0, 0], L[:, 1, 1], L[:, 1, 0] = np.exp(cholesky[:, 0]), np.exp(cholesky[:, 1]), cholesky[:, 2]
    return torch.from_numpy(cholesky), L @ L.transpose(0, 2, 1)


def test_offset_density_is_scipys() -> None:
    cholesky, covariance = covariances(20)
    residual = np.random.default_rng(1).normal(0, 2, (20, 2))
    wanted = np.array([multivariate_normal([0, 0], c).logpdf(x) for c, x in zip(covariance, residual, strict=True)])
    found = offset_log_density(torch.from_numpy(residual), cholesky)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)
    np.testing.assert_allclose(offset_nll(torch.from_numpy(residual), cholesky, outlier=0).numpy(), -wanted, rtol=1e-9)
    mixed = -np.log(0.9 * np.exp(wanted) + 0.1 / 64)
    np.testing.assert_allclose(
        offset_nll(torch.from_numpy(residual), cholesky, outlier=0.1, area=64.0).numpy(), mixed, rtol=1e-9
    )


def test_offset_loss_finds_the_covariance() -> None:
    _, covariance = covariances(3)
    samples = np.random.default_rng(2).multivariate_normal([0, 0], covariance[1], 4000)
    cholesky = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([cholesky], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        offset_nll(torch.from_numpy(samples), cholesky.expand(4000, 3), outlier=0).mean().backward()
        optimizer.step()
    a, b, c = cholesky.detach().tolist()
    L = np.array([[math.exp(a), 0], [c, math.exp(b)]])
    np.testing.assert_allclose(L @ L.T, samples.T @ samples / 4000, rtol=1e-3, atol=1e-3)


def test_wrong_labels_do_not_pull() -> None:
    """A normal alone is drawn by an error as strongly as it is large; the mixture lets go, and its cost has an end."""
    cholesky = torch.tensor([[-1.5, -1.5, 0.1]], dtype=torch.float64)

    def pull(distance: float, outlier: float) -> tuple[float, float]:
        residual = torch.tensor([[distance, -distance]], dtype=torch.float64, requires_grad=True)
        loss = offset_nll(residual, cholesky, outlier).sum()
        (grad,) = torch.autograd.grad(loss, residual)
        return float(loss.detach()), float(grad.norm())

    assert pull(0.2, 0.02)[1] == pytest.approx(pull(0.2, 0)[1], rel=0.05)
    assert pull(8.0, 0)[1] > 100 and pull(8.0, 0.02)[1] < 1e-6
    assert pull(8.0, 0.02)[0] == pytest.approx(math.log(100 / 0.02))


@pytest.mark.parametrize("outlier", [0.0, 0.02])
def test_offset_loss_is_finite_in_single_precision(outlier: float) -> None:
    for log in (-15.0, 0.0, 15.0):
        for distance in (0.0, 1e-3, 1e3):
            inputs = [torch.tensor([[distance, distance]]), torch.tensor([[log, log, 3.0]])]
            inputs = [x.requires_grad_() for x in inputs]
            loss = offset_nll(inputs[0], inputs[1], outlier).sum()
            loss.backward()
            assert torch.isfinite(loss)
            assert all(x.grad is not None and torch.isfinite(x.grad).all() for x in inputs)


def test_offset_loss_refuses_shares_that_are_none() -> None:
    with pytest.raises(ConfigError, match="outlier"):
        offset_nll(torch.zeros(1, 2), torch.zeros(1, 3), outlier=1.0)


def test_repeatability_loss_by_hand() -> None:
    logits = torch.tensor([2.0, -1.0, 5.0, 0.5], requires_grad=True)
    found = torch.tensor([1, 0, -2, 1])
    loss, repeatability = repeatability_loss(logits, found)
    sigma = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0, 0.5)]
    assert loss.item() == pytest.approx(-(math.log(sigma[0]) + math.log(1 - sigma[1]) + math.log(sigma[2])) / 3)
    assert float(repeatability) == pytest.approx(2 / 3)
    loss.backward()
    assert logits.grad is not None and logits.grad[2] == 0
    assert logits.grad[0] < 0 < logits.grad[1]  # descent raises what is found again and lowers what is not
    nothing = torch.zeros(2, requires_grad=True)
    lost = repeatability_loss(nothing, torch.tensor([-2, -2])).loss
    lost.backward()
    assert lost.item() == 0 and nothing.grad is not None and (nothing.grad == 0).all()


def test_the_logit_becomes_the_log_odds() -> None:
    """Cells of one kind are found again three times of four: their logit goes to log 3."""
    logit = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logit], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        repeatability_loss(logit.expand(5), torch.tensor([1, 1, 0, 1, -2])).loss.backward()
        optimizer.step()
    assert float(logit.detach()) == pytest.approx(math.log(3), abs=1e-3)
