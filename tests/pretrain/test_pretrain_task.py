"""One step of pretraining, looked at from inside."""

from __future__ import annotations

import copy
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from pretrain_runs import losses, small_recipe
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from slamfeat.backbones.own import save_backbone
from slamfeat.errors import ConfigError, WeightsError
from slamfeat.pretrain.distill_networks import StudentOutputs
from slamfeat.pretrain.recipe import ModelConfig, PretrainRecipe
from slamfeat.pretrain.run import make_task, open_data, pretrain
from slamfeat.pretrain.task import PretrainTask
from slamfeat.train.distributed import Ranks
from slamfeat.train.loader import Loaded
from slamfeat.train.meter import Meter
from slamfeat.train.stepper import Stepper


def made(*words: str) -> PretrainTask:
    recipe = small_recipe(*words)
    return make_task(recipe, *open_data(recipe.data))


def test_the_loss_is_the_papers() -> None:
    """Written out crop by crop, on the networks' own outputs; only Sinkhorn's targets are taken, which have tests."""
    task = made("model.drop_path=0", "model.layer_scale=1", "objective.koleo=0.1")
    task.module.train()
    batch = task.batch([0, 1, 2, 3])
    state = {name: value.clone() for name, value in task.module.state_dict().items()}
    loss, parts = task.loss(batch)
    module, recipe = task.module, task.recipe
    module.load_state_dict(state)
    crops, masks = task._crops(batch), batch["masks"]
    with torch.no_grad():
        taught = module.teacher([crops[0]], masks, hide=False)
        said = module.student(crops, masks, hide=True)
        targets = module.dino_targets(taught.logits, recipe.teacher.final_temperature)
        patches = module.ibot_targets(taught.masked_logits, recipe.teacher.final_temperature)
    logs = (said.logits / 0.1).log_softmax(1)
    views = {crop: range(4 * crop, 4 * crop + 4) for crop in range(4)}  # 2 global and 2 local crops of 4 images
    terms = [
        -(targets[4 * teacher + image] * logs[views[student][image]]).sum()
        for teacher in (0, 1) for student in range(4) for image in range(4) if student != teacher
    ]  # fmt: skip
    assert float(parts["dino"]) == pytest.approx(float(sum(terms)) / len(terms), rel=1e-5)
    each = -(patches * (said.masked_logits / 0.1).log_softmax(1)).sum(1)
    image = masks.flatten(1).nonzero()[:, 0]
    per_image = [float(each[image == i].mean()) if (image == i).any() else 0.0 for i in range(8)]
    assert float(parts["ibot"]) == pytest.approx(np.mean(per_image), rel=1e-5)
    spread = 0.0
    for view in said.cls[:8].chunk(2):
        unit = F.normalize(view, dim=1)
        distance = torch.cdist(unit.double(), unit.double()).fill_diagonal_(9).amin(1)
        spread -= float((distance + 1e-8).log().mean())
    assert float(parts["koleo"]) == pytest.approx(spread, rel=1e-3)
    whole = float(parts["dino"]) + float(parts["ibot"]) + 0.1 * float(parts["koleo"])
    assert float(loss.detach()) == pytest.approx(whole, rel=1e-5)


def test_what_networks_say_is_seen_by_hooks() -> None:
    """FSDP2 looks for the outputs' tensors as torch's trees do."""
    task = made()
    batch = task.batch([0, 1])
    said = task.module.student(task._crops(batch), batch["masks"], hide=True)
    assert len(tree_leaves(said)) == 4 and all(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(said))
    tokens = torch.zeros(2, 3)
    assert len(tree_leaves(StudentOutputs([tokens], [tokens, tokens], tokens, None, tokens))) == 6


def test_the_teacher_follows_and_has_no_gradient() -> None:
    task = made("teacher.momentum=0.9", "teacher.final_momentum=0.9", "model.drop_path=0.2")
    task.module.train()
    assert not task.module.teacher.training
    before = copy.deepcopy(task.module.teacher.state_dict())
    task.loss(task.batch([0, 1, 2, 3]))[0].backward()
    assert all(p.grad is None for p in task.module.teacher.parameters())
    assert all(p.grad is not None for p in task.module.student.parameters())
    with torch.no_grad():
        for parameter in task.module.student.parameters():
            parameter.add_(1.0)
    task.after_step(1)
    after = task.module.teacher.state_dict()
    assert int(task.module.step) == 1
    for name, value in after.items():
        torch.testing.assert_close(value, before[name] + 0.1, msg=name)


def test_momentum_and_temperature_are_those_of_the_step() -> None:
    """By the official curves: entry k for the step that is made after k others."""
    task = made(
        "loop.steps=4", "teacher.momentum=0.5", "teacher.final_momentum=0.9", "teacher.warmup=3",
        "teacher.temperature=0.04", "teacher.final_temperature=0.07",
    )  # fmt: skip
    module, temperatures = task.module.train(), list[float]()
    module.dino_targets.register_forward_pre_hook(lambda _, given: temperatures.append(given[1]))
    for step in range(4):
        task.loss(task.batch([0, 1]))
        with torch.no_grad():
            module.student.backbone.cls_token.add_(1.0)
        apart = module.student.backbone.cls_token - module.teacher.backbone.cls_token
        task.after_step(step + 1)
        left = module.student.backbone.cls_token - module.teacher.backbone.cls_token
        momentum = 0.9 - 0.4 * (1 + np.cos(np.pi * step / 4)) / 2
        torch.testing.assert_close(left, momentum * apart, msg=str(step))
    np.testing.assert_allclose(temperatures, [0.04, 0.055, 0.07, 0.07])


def test_an_images_crops_change_from_epoch_to_epoch() -> None:
    task = made()
    count = len(task._order._numbers)
    first = [task._order.image(n) for n in range(count)]
    second = [task._order.image(count + n) for n in range(count)]
    assert sorted(first) == sorted(second) and first != second
    sample = next(n for n in range(count, 2 * count) if task._order.image(n) == first[0])
    once, again, later = task.batch([0]), task.batch([0]), task.batch([sample])
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not torch.equal(once["global"], later["global"])


def test_the_prototypes_wait() -> None:
    task = made("rates.last_layer_from=7", "rates.layer_decay=0.9")
    groups = {group["name"]: group for group in task.parameter_groups()}
    assert groups["last_layer"]["from_step"] == 7 and "from_step" not in groups["heads"]
    assert groups["block0"]["lr_scale"] == pytest.approx(0.9**4)
    counted = sum(p.numel() for group in groups.values() for p in group["params"])
    assert counted == sum(p.numel() for p in task.module.student.parameters())


def test_rate_and_decay_are_the_official_curves() -> None:
    """Written out from ssl_default_config: the warm-up begins at 0, and the end would come a step later."""
    words = "loop.steps=10", "loop.warmup=4", "loop.lr=2e-3", "loop.weight_decay=0.04", "loop.final_weight_decay=0.2"
    task = made(*words, "loop.final_lr=1e-5", "rates.last_layer_from=3")
    stepper = Stepper(task, task.recipe.loop, Ranks(0, 1, torch.device("cpu")))
    task.module.train()
    rates, decays, last_layer = list[float](), list[float](), list[float]()
    for step in range(10):
        stepper.step(step, iter([Loaded([0], task.batch([0, 1, 2, 3]), 0.0)]), Meter(4))
        groups = {group["name"]: group for group in stepper.optimizer.param_groups}
        rates.append(groups["heads"]["lr"])
        decays.append(groups["heads"]["weight_decay"])
        last_layer.append(groups["last_layer"]["lr"])
    falling = [1e-5 + (2e-3 - 1e-5) * (1 + np.cos(np.pi * k / 6)) / 2 for k in range(6)]
    assert last_layer == [0, 0, 0, *rates[3:]]
    np.testing.assert_allclose(rates, [0, 2e-3 / 3, 4e-3 / 3, 2e-3, *falling], rtol=1e-12)
    np.testing.assert_allclose(decays, [0.2 - 0.16 * (1 + np.cos(np.pi * k / 10)) / 2 for k in range(10)], rtol=1e-12)


def test_positions_are_stretched_for_the_student_alone() -> None:
    """Between a half and twice as far, evenly by the logarithm, and not where it is judged."""
    task = made("model.position=rope", "model.rope_jitter=2", "model.layer_scale=1", "model.drop_path=0")
    module, batch = task.module.train(), task.batch([0, 1])
    crops, masks = task._crops(batch), batch["masks"]
    with torch.no_grad():
        seen = [module.student(crops, masks, hide=True).patches for _ in range(2)]
        taught = [module.teacher(crops[:1], masks, hide=False).patches for _ in range(2)]
    assert not torch.allclose(*seen, atol=1e-5) and torch.equal(*taught)
    backbone = module.student.backbone
    plain = backbone.eval().tables(4, 4)[0][0, 0, 7].asin()  # the slowest of the channels that turn with y
    logs = torch.stack([(backbone.train().tables(4, 4)[0][0, 0, 7].asin() / plain).log2() for _ in range(400)])
    assert -1 - 1e-5 < float(logs.min()) < -0.9 and 0.9 < float(logs.max()) < 1 + 1e-5
    assert abs(float(logs.mean())) < 0.15


def test_recomputing_changes_nothing_but_the_work() -> None:
    """Blocks run once more for the gradient, and drop the same crops then."""
    found: list[tuple[int, dict[str, torch.Tensor]]] = []
    for words in ((), ("model.recompute=true",)):
        task = made("model.drop_path=0.3", "model.layer_scale=1", *words)
        calls = Mock(return_value=None)
        task.module.train().student.backbone.blocks[1].register_forward_pre_hook(calls)
        torch.manual_seed(3)
        task.loss(task.batch([0, 1, 2, 3]))[0].backward()
        found.append((calls.call_count, {n: p.grad for n, p in task.module.student.named_parameters()}))
    assert [count for count, _ in found] == [1, 2]
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, msg=name)


def test_accumulated_steps_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    """With targets that do not look at other images, and neighbours within each micro-batch."""
    words = (
        "loop.steps=4", "loop.evaluate_every=0", "model.drop_path=0", "model.layer_scale=1", "teacher.targets=centring",
        "teacher.centre_momentum=0.9999999", "objective.koleo_group=2", "loop.workers=0",
    )  # fmt: skip
    pretrain(small_recipe(*words, "loop.batch=8"), tmp_path / "once")
    pretrain(small_recipe(*words, "loop.batch=4", "loop.accumulate=2"), tmp_path / "twice")
    for once, twice in zip(losses(tmp_path / "once"), losses(tmp_path / "twice"), strict=True):
        for part in ("loss", "dino", "ibot", "koleo"):
            assert twice[part] == pytest.approx(once[part], rel=1e-5), (once["step"], part)


@pytest.mark.slow
def test_one_batch_can_be_learnt_by_heart(tmp_path: Path) -> None:
    """Of a teacher that stands still: what is left of the loss nears the targets' entropy, which no student beats."""
    words = (
        "loop.overfit=true", "loop.steps=80", "loop.evaluate_every=0", "teacher.momentum=1", "objective.koleo=0",
        "model.drop_path=0", "model.layer_scale=1", "rates.last_layer_from=0", "masks.share=1",
    )  # fmt: skip
    recipe = small_recipe(*words)
    task = make_task(recipe, *open_data(recipe.data))
    batch = task.batch([0, 1, 2, 3])
    dino, ibot = task._teach(task._crops(batch)[0], batch["masks"])
    assert ibot is not None
    least = sum(float(-(part * part.clamp_min(1e-30).log()).sum(1).mean()) for part in (dino, ibot))
    pretrain(recipe, tmp_path / "run")
    first, *_, last = losses(tmp_path / "run")
    assert 0 < last["loss"] - least < 0.2 * (first["loss"] - least)


@pytest.mark.parametrize("separate", ["true", "false"])
def test_without_a_weight_classes_are_not_scored(separate: str) -> None:
    task = made("objective.dino=0", f"objective.separate_heads={separate}")
    task.module.train()
    called = list[int]()
    task.module.student.dino_head.register_forward_pre_hook(lambda *given: called.append(1))
    loss, parts = task.loss(task.batch([0, 1, 2, 3]))
    loss.backward()
    assert len(called) == (separate == "false")
    assert set(parts) == {"ibot", "koleo"} and torch.isfinite(loss)
    scored = any(p.grad is not None for p in task.module.student.dino_head.parameters())
    assert scored == (separate == "false")  # where it scores patches


def test_one_head_for_both() -> None:
    task = made("objective.separate_heads=false")
    assert task.module.student.ibot_head is None
    task.module.train()
    loss, _ = task.loss(task.batch([0, 1, 2, 3]))
    assert torch.isfinite(loss)


def test_a_run_may_begin_with_weights(tmp_path: Path) -> None:
    first = made()
    backbone, file = first.module.student.backbone, tmp_path / "first.safetensors"
    with torch.no_grad():
        backbone.cls_token.fill_(3.0)
    save_backbone(backbone.state_dict(), first.recipe.architecture, file, name="first")
    second = made(f"init={file}")
    for network in (second.module.student, second.module.teacher):
        assert bool((network.backbone.cls_token == 3.0).all())


def test_other_weights_are_refused() -> None:
    with pytest.raises(
        WeightsError,
        match=r"init=dinov2-vits14-int8: does not fit tiny14 in cls_token \(1, 1, 384\) instead .* more; give the",
    ):
        made("init=dinov2-vits14-int8")
    with pytest.raises(ConfigError, match="unknown backbone"):
        made("init=dinov2-vits15")


def test_weights_follow_the_seed() -> None:
    first, same, other = (made(f"loop.seed={seed}").module.student.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    for name in ("backbone.blocks.0.attn.qkv.weight", "backbone.patch_embed.proj.weight", "dino_head.mlp.0.weight"):
        assert not torch.equal(first[name], other[name]), name


def test_bf16_learns_too() -> None:
    task = made()
    task.module.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss, parts = task.loss(task.batch([0, 1, 2, 3]))
    assert loss.dtype == torch.float32 and all(torch.isfinite(part) for part in parts.values())
    wide, _ = task.loss(task.batch([0, 1, 2, 3]))
    assert loss.item() == pytest.approx(wide.item(), rel=0.05)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loop.batch=1"], "KoLeo needs two images or more"),
        (["objective.koleo_group=3"], "groups of 3 do not divide"),
        (["crops.global_size=60"], "no multiple of the patch"),
        (["teacher.targets=none"], "sinkhorn, centring"),
        (["objective.dino=0", "objective.ibot=0"], "dino or ibot above 0"),
        (["loop.batch=400"], "do not fill a batch of 400"),
        (["data.held_out=0.001"], "raise data.held_out"),
        (["model.num_heads=5"], "no multiple of num_heads"),
        (["model.like=dinov2-vits15"], "did you mean"),
        (["model.name=dinov2-vits14"], "no name of your own"),
        (["model.name=my.tiny"], "choose one of letters, digits"),
        (["model.like=dinov2-vits14", "model.position=rope"], "says what embed_dim, .*position would"),
    ],
)
def test_settings_that_do_not_fit(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(*words)


def test_published_architectures_can_be_made() -> None:
    recipe = PretrainRecipe(model=ModelConfig(like="dinov2-vits14", layer_scale=1e-5))
    assert recipe.architecture.embed_dim == 384 and recipe.architecture.layer_scale == 1e-5
