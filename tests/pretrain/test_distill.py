"""Distillation: a student comes nearer to its teacher, several at once, and what is kept is the average."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pretrain_runs import command, kept, kill, losses, run, same, small_distillation
from torch.nn import functional as F
from typer.testing import CliRunner

import slamfeat as sf
from slamfeat.backbones.checkpoints import read_metadata
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.own import save_backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.backbones.vit import PositionMode
from slamfeat.cli.main import app
from slamfeat.errors import ConfigError, WeightsError
from slamfeat.pretrain.clusters import spherical_kmeans
from slamfeat.pretrain.crops import CropConfig
from slamfeat.pretrain.distill_losses import centred_loss, dense_loss
from slamfeat.pretrain.distill_networks import TokenSample
from slamfeat.pretrain.distill_recipe import DenseConfig, DistillRecipe, PrototypeConfig
from slamfeat.pretrain.distill_run import make_task
from slamfeat.pretrain.distill_task import DistillTask
from slamfeat.pretrain.head import HeadConfig
from slamfeat.pretrain.packed import CropTokens
from slamfeat.pretrain.recipe import ModelConfig
from slamfeat.pretrain.run import open_data
from slamfeat.train.distributed import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"))
TWO = "students=[{name: a, embed_dim: 32, depth: 2, num_heads: 1},{name: b, embed_dim: 64, depth: 3, num_heads: 2}]"


def made(*words: str) -> DistillTask:
    recipe = small_distillation(*words)
    task = make_task(recipe, *open_data(recipe.data))
    task.measure(ALONE)
    return task


def test_targets_have_one_scale() -> None:
    task = made()
    batches = [task.batch(range(8 * i, 8 * i + 8)) for i in range(8)]
    said = [task.teacher(task._lit(batch, "global"), 14)[0] for batch in batches]
    # 64 images are measured by all their class tokens and 8 of 16 patches of each crop.
    scaled = task.module.patch_scales[0](torch.cat([tokens.patch for tokens in said]))
    assert float(scaled.mean((0, 1)).abs().max()) < 0.2
    torch.testing.assert_close(scaled.flatten(0, 1).std(0), torch.ones(scaled.shape[-1]), atol=0.2, rtol=0)
    classes = task.module.cls_scales[0](torch.cat([tokens.cls for tokens in said]))
    assert float(classes.mean(0).abs().max()) < 1e-3
    torch.testing.assert_close(classes.std(0), torch.ones(classes.shape[-1]), atol=1e-3, rtol=0)
    centres = task.module.patch_centres
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(len(centres)))


def test_a_sample_holds_copies_of_what_it_keeps() -> None:
    sample = TokenSample(images=4, batch=2, most=16, patches=16, dim=6, device=torch.device("cpu"))
    for first in (0, 2):
        row = torch.randn(4, 17, 6)
        sample.add(range(first, first + 2), CropTokens(row[:, 0], row[:, :0], row[:, 1:]))
        torch.testing.assert_close(sample.cls[first, 1], row[2, 0])
    held = [value for value in vars(sample).values() if isinstance(value, torch.Tensor)]
    assert sum(value.untyped_storage().nbytes() for value in held) == 4 * 6 * (4 * 2 + 4 * 2 * 2)
    assert sample.rows(sample.cls).shape == (8, 6) and sample.rows(sample.patch).shape == (16, 6)
    torch.testing.assert_close(sample.rows(sample.cls)[4:], row[:, 0])


def test_processes_share_out_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each looks at its part of the images, in batches of its size and without local crops; together at all."""
    small = ["prototypes.images=22", "prototypes.count=32", "prototypes.head.prototypes=32"]
    recipe = small_distillation(*small, "crops.local_count=2")
    task = make_task(recipe, *open_data(recipe.data))
    seen: list[int] = []
    cut = task._cut

    def counted(indices: range, config: CropConfig) -> dict[str, torch.Tensor]:
        seen.append(len(indices))
        made = cut(indices, config)
        assert "local" not in made
        return made

    monkeypatch.setattr(task, "_cut", counted)
    whole = task.sample(ALONE)
    assert seen == [4] * 5 + [2]
    seen.clear()
    shares = [task.sample(Ranks(rank, 2, torch.device("cpu"))) for rank in (0, 1)]
    assert seen == [2] * 11
    for one, first, second in zip(whole, *shares, strict=True):
        torch.testing.assert_close(first.cls + second.cls, one.cls, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(first.patch + second.patch, one.patch, atol=1e-5, rtol=1e-4)


def test_the_loss_of_a_perfect_student_is_least() -> None:
    config = DenseConfig(smooth=1.0, cosine=1.0)
    target = torch.randn(4, 9, 16, generator=torch.Generator().manual_seed(0))
    assert float(dense_loss(target, target, config)) == pytest.approx(0.0, abs=1e-6)
    opposite = float(dense_loss(-target, target, config))
    error = (2 * target.abs()).double()
    by_hand = torch.where(error < 1, error.square() / 2, error - 0.5).mean() + 2
    assert opposite == pytest.approx(float(by_hand), rel=1e-5)


def test_clusters_are_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(400, 6, generator=generator) * torch.rand(400, 1, generator=generator).add(0.5)
    unit = F.normalize(vectors, dim=1)
    found = spherical_kmeans(vectors, 8, iterations=100)
    nearest = (unit @ found.T).argmax(1)
    for number in range(8):  # each is the mean direction of those that are nearest to it, whatever their length
        expected = F.normalize(unit[nearest == number].sum(0), dim=0)
        torch.testing.assert_close(found[number], expected, atol=1e-5, rtol=0)
    assert torch.equal(found, spherical_kmeans(vectors, 8, iterations=100, block=7))
    far = torch.cat([unit[:1].repeat(99, 1), -unit[:1]])  # centres that nobody is nearest to go where they are needed
    assert float((far @ spherical_kmeans(far, 2).T).amax(1).min()) > 0.999
    with pytest.raises(ConfigError, match="5 tokens make no 6 prototypes"):
        spherical_kmeans(vectors[:5], 6)


def test_the_teacher_is_frozen_and_students_learn_by_themselves() -> None:
    task = made(TWO)
    task.module.train()
    loss, parts = task.loss(task.batch([0, 1, 2, 3]))
    loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in task.teacher.backbone.parameters())
    assert {"a_patch", "a_class", "a_dino", "a_ibot", "b_patch"} <= set(parts)
    first = {name: p.grad.clone() for name, p in task.module.students["a"].named_parameters() if p.grad is not None}
    alone = made(TWO.replace(",{name: b, embed_dim: 64, depth: 3, num_heads: 2}", ""))
    alone.module.students["a"].load_state_dict(task.module.students["a"].state_dict())
    alone.module.train()
    alone.loss(alone.batch([0, 1, 2, 3]))[0].backward()
    for name, p in alone.module.students["a"].named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(p.grad, first[name], msg=name)
    assert "backbone.mask_token" not in first  # nothing is hidden from students
    clipped = {p: group["clipped"] for group in task.parameter_groups() for p in group["params"]}
    for student in ("a", "b"):
        assert {clipped.pop(p) for p in task.module.students[student].parameters()} == {student}
    assert not clipped


@pytest.mark.parametrize(("position", "patch"), [("offset", 14), ("rope", 16)])
def test_teachers_of_other_kinds(position: PositionMode, patch: int, tmp_path: Path) -> None:
    """With registers, as DINOv2's, and as DINOv3: patches of 16 and rotary positions."""
    built = Architecture(48, 3, 3, patch, 4, position, grid=4, layer_scale=1.0)
    file, backbone = tmp_path / "teacher.safetensors", random_backbone(built, "teacher")
    save_backbone(backbone.state_dict(), built, file, name="teacher")
    task = made(f"teacher={file}", "dense.layers=[[-1,1]]")
    crops = task._lit(task.batch([0, 1]), "global")
    side = 4 * patch
    same = F.interpolate(crops, (side, side), mode="bicubic", antialias=True, align_corners=False)
    seen = backbone.freeze().intermediate(crops if patch == 14 else same, [1])[0]
    torch.testing.assert_close(task._teach(crops)[0].patch, seen.flatten(2).mT, atol=1e-5, rtol=1e-4)
    loss, _ = task.loss(task.batch([0, 1, 2, 3]))
    loss.backward()
    assert torch.isfinite(loss)


def test_a_student_is_compared_with_its_teacher() -> None:
    """One that says the mean is like it by the mean alone; the teacher itself, with the right map, is the same."""
    task = made("dense.layers=[[-1,2],[-1,5]]")
    student = task.module.students["tiny14"]
    with torch.no_grad():
        for one in student.patch_maps:
            one.weight.zero_(), one.bias.zero_()
    figures = task.evaluate()
    assert abs(figures["alike_centred_1"]) < 1e-6 and 0 < figures["alike_1"] < 0.99
    assert abs(figures["alike_in_image_1"]) < 1e-6
    # The shipped teacher's own architecture: nine blocks of a ViT-S/14.
    same = "{name: same, embed_dim: 384, depth: 9, num_heads: 6, grid: 37, layer_scale: 1.0}"
    recipe = small_distillation(f"students=[{same}]", "dense.layers=[[5,5]]")
    task = make_task(recipe, *open_data(recipe.data))
    task.measure(ALONE)
    student, scale = task.module.students["same"], task.module.patch_scales[0]
    student.backbone.load_state_dict(task.teacher.backbone.state_dict())
    with torch.no_grad():
        student.patch_maps[0].weight.copy_(torch.diag(1 / scale.spread))
        student.patch_maps[0].bias.copy_(-scale.mean / scale.spread)
    figures = task.evaluate()
    for key in ("alike", "alike_centred", "alike_in_image"):
        assert figures[key] == pytest.approx(1, abs=1e-4), key


def test_a_student_that_is_written_says_what_its_teacher_says() -> None:
    """With the teacher's own weights and the right map, its tokens in a frontend are the teacher's."""
    same = "{name: same, embed_dim: 384, depth: 6, num_heads: 6, grid: 37, layer_scale: 1.0}"
    recipe = small_distillation(f"students=[{same}]", "dense.layers=[[2,2],[-1,5]]", "imitate=true")
    task = make_task(recipe, *open_data(recipe.data))
    task.measure(ALONE)
    student, scale = task.module.students["same"], task.module.patch_scales[1]
    theirs = task.teacher.backbone.state_dict()
    student.backbone.load_state_dict({key: theirs[key] for key in student.backbone.state_dict()})
    with torch.no_grad():
        student.patch_maps[1].weight.copy_(torch.diag(1 / scale.spread))
        student.patch_maps[1].bias.copy_(-scale.mean / scale.spread)
    config = recipe.students[0]
    state, architecture = task.imitating(
        "same", task.student_backbone("same").state_dict(), config.architecture(recipe.crops.global_size)
    )
    assert (architecture.imitates, architecture.output_dim) == ("dinov2-vits14/5", 384)
    backbone = architecture.build("same")
    backbone.load_state_dict(state)
    images = torch.randn(1, 3, 56, 84, generator=torch.Generator().manual_seed(0))
    said, taught = backbone.freeze().intermediate(images, [-1])[0], task.teacher.backbone.intermediate(images, [5])[0]
    torch.testing.assert_close(said, taught, atol=1e-4, rtol=1e-4)
    assert float(centred_loss(said.flatten(2).mT, taught.flatten(2).mT)) == pytest.approx(0, abs=1e-5)


def test_the_centred_loss_is_blind_to_an_images_mean() -> None:
    tokens = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0))
    assert float(centred_loss(3 * tokens + torch.randn(2, 1, 5), tokens)) == pytest.approx(0, abs=1e-6)
    assert float(centred_loss(tokens.mean(1, keepdim=True).expand_as(tokens), tokens)) > 0.9
    assert float(centred_loss(-tokens, tokens)) == pytest.approx(2, abs=1e-6)


def test_batches_take_turns_in_the_sizes_of_crops() -> None:
    task = made("sizes=[56,84]", "dense.centred=1.0")
    count = task.recipe.loop.batch
    batches = [task.batch(range(count * step, count * step + count)) for step in range(3)]
    assert [batch["global"].shape[-1] for batch in batches] == [56, 84, 56]
    for batch in batches[:2]:
        loss, figures = task.loss(batch)
        assert torch.isfinite(loss) and 0 < float(figures["centred"]) < 2


@pytest.mark.slow
def test_a_student_comes_nearer_and_its_average_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = ["loop.steps=60", "loop.evaluate_every=30", "loop.save_every=30"]
    done = CliRunner().invoke(app, [*command("distill", out, *given)[2:], "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["step"] == 60 and list(said["backbones"]) == ["tiny14"]
    logged = losses(out)
    assert logged[-1]["patch"] < 0.9 * logged[0]["patch"] and logged[-1]["class"] < logged[0]["class"]
    weights, average = (kept(out, 60, suffix) for suffix in (".safetensors", ".ema.safetensors"))
    student = sf.load_backbone(said["backbones"]["tiny14"])
    for name, value in student.state_dict().items():
        key = f"students.tiny14.backbone.{name}"
        assert torch.equal(value, average[key])
    assert not torch.equal(
        average["students.tiny14.backbone.norm.weight"], weights["students.tiny14.backbone.norm.weight"]
    )


@pytest.mark.slow
def test_what_is_written_imitates_by_the_averaged_weights(tmp_path: Path) -> None:
    """Asked for only when the run had ended, which is then gone on with, and written anew."""
    out = tmp_path / "run"
    words = [*command("distill", out, "loop.steps=6", "loop.evaluate_every=0", "dense.layers=[[-1,5]]")[2:]]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert sf.load_backbone(str(out / "tiny14.safetensors")).imitates is None
    done = CliRunner().invoke(app, [*words, "imitate=true"])
    assert done.exit_code == 0, done.output
    student = sf.load_backbone(str(out / "tiny14.safetensors"))
    assert student.imitates == ("dinov2-vits14", 5) and student.output is not None
    card = read_metadata(out / "tiny14.safetensors")
    assert "imitate: true" in card["recipe"] and card["steps"] == "6" and float(card["hours"]) > 0
    assert card["commit"] and card["folders"] == "the shipped frames"
    weights, average = (kept(out, 6, suffix) for suffix in (".safetensors", ".ema.safetensors"))
    weight = average["students.tiny14.patch_maps.0.weight"]
    torch.testing.assert_close(student.output.weight, average["patch_scales.0.spread"][:, None] * weight)
    assert not torch.equal(weight, weights["students.tiny14.patch_maps.0.weight"])
    # It can be taught further, or begin another pretraining, as its own architecture.
    made("students=[{name: tiny14, embed_dim: 64, depth: 4, num_heads: 2}]", f"init={out / 'tiny14.safetensors'}")


@pytest.mark.slow
def test_two_processes_share_out_students(tmp_path: Path) -> None:
    done = run("distill", tmp_path / "two", "loop.steps=4", "loop.evaluate_every=2", "loop.shard=true", processes=2)
    assert done.returncode == 0, done.stderr
    alone = run("distill", tmp_path / "one", "loop.steps=4", "loop.evaluate_every=2")
    assert alone.returncode == 0, alone.stderr
    for first, second in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-4)
    assert sf.load_backbone(str(tmp_path / "two" / "tiny14.safetensors")).depth == 4


@pytest.mark.slow
def test_killed_and_resumed_students_are_the_same(tmp_path: Path) -> None:
    """Bit for bit, with all that depends on the step: the crops' size, what is dropped, the average."""
    student = "students=[{name: tiny14, embed_dim: 64, depth: 4, num_heads: 2, layer_scale: 1.0, drop_path: 0.2}]"
    words = (
        student, "sizes=[56,84]", "dense.centred=1.0", "loop.steps=13", "loop.save_every=5", "loop.evaluate_every=13",
        "loop.workers=0", "loop.ema=0.9", "loop.final_ema=0.99",
    )  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run("distill", whole, *words).returncode == 0
    kill("distill", cut, *words, step=5)
    done = run("distill", cut, *words)
    assert done.returncode == 0 and "resumed after step 5" in done.stderr, done.stderr
    for suffix in (".safetensors", ".ema.safetensors"):
        assert same(kept(whole, 13, suffix), kept(cut, 13, suffix)), suffix
    backbones = [sf.load_backbone(str(out / "tiny14.safetensors")).state_dict() for out in (whole, cut)]
    assert same(*backbones)


def test_prototypes_wait_and_positions_are_stretched() -> None:
    student = "{name: rope, embed_dim: 64, depth: 2, num_heads: 2, position: rope, rope_jitter: 2.0, layer_scale: 1.0}"
    task = made(f"students=[{student}]", "rates.last_layer_from=7")
    assert {group["name"]: group["from_step"] for group in task.parameter_groups() if group.get("from_step")} == {
        "rope.last_layer": 7
    }
    crops = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    network = task.module.students["rope"]
    with torch.no_grad():
        first, second = (network.train()([crops]).patches[0] for _ in range(2))
        assert not torch.allclose(first, second, atol=1e-5)
        first, second = (network.eval()([crops]).patches[0] for _ in range(2))
    assert torch.equal(first, second)


def test_students_are_kept_apart() -> None:
    """KoLeo of the student's own class tokens, of each global crop by itself."""
    task = made("prototypes.koleo=0.1", "loop.batch=4")
    batch = task.batch([0, 1, 2, 3])
    loss, figures = task.loss(batch)
    spread = 0.0
    for view in task.module.students["tiny14"]([task._lit(batch, "global")]).cls.detach().chunk(2):
        distances = torch.cdist(*[F.normalize(view.double(), dim=1)] * 2).fill_diagonal_(9)
        spread -= float((distances.amin(1) + 1e-8).log().mean())
    assert float(figures["koleo"]) == pytest.approx(spread, rel=1e-3)
    parts = {"patch": 1.0, "class": 0.25, "dino": 0.1, "ibot": 0.1, "koleo": 0.1}
    assert float(loss.detach()) == pytest.approx(
        sum(weight * float(figures[part]) for part, weight in parts.items()), rel=1e-5
    )
    with pytest.raises(ConfigError, match="two images or more a process"):
        task.recipe.check_shared(4)
    small_distillation("loop.batch=4").check_shared(4)


def test_a_rejected_recipe_leaves_the_record(tmp_path: Path) -> None:
    words = [*command("distill", tmp_path / "run", "loop.steps=1", "loop.evaluate_every=0")[2:]]
    assert CliRunner().invoke(app, words).exit_code == 0
    written = (tmp_path / "run" / "recipe.yaml").read_text()
    again = CliRunner().invoke(app, [*words, "dense.weight=2"])
    assert again.exit_code == 1 and "dense.weight (1.0 there, 2.0 now)" in again.output
    assert (tmp_path / "run" / "recipe.yaml").read_text() == written


def test_patches_of_another_size_see_the_same_grid() -> None:
    student = "students=[{name: p16, embed_dim: 32, depth: 2, num_heads: 1, patch_size: 16}]"
    task = made(student, "crops.global_size=64")
    (tokens, *_) = task.teacher(torch.randn(2, 3, 64, 64), 16)
    assert tokens.patch.shape[1] == 16
    loss, _ = task.loss(task.batch([0, 1, 2, 3]))
    assert torch.isfinite(loss)


def test_a_teachers_scores_are_of_its_own_tokens() -> None:
    """A student that says exactly what the teacher says has the entropy of the targets as its loss."""
    task = made()
    taught = task._teach(task._lit(task.batch([0, 1, 2, 3]), "global"))[-1]
    config = task.recipe.prototypes
    cosines = F.normalize(taught.patch.flatten(0, 1), dim=1) @ task.module.patch_centres.T
    targets = (cosines / config.teacher_temperature).softmax(1)
    entropy = -(targets * targets.clamp_min(1e-30).log()).sum(1).mean()
    logits = cosines * config.temperature / config.teacher_temperature
    assert float(task._ibot(logits, taught)) == pytest.approx(float(entropy), rel=1e-4)


def test_a_student_may_begin_as_its_teachers_first_blocks() -> None:
    first = "students=[{name: first, embed_dim: 384, depth: 2, num_heads: 6, grid: 37}]"
    task = made(first, "init=dinov2-vits14-int8", "dense.layers=[[-1,5]]")
    ours, theirs = task.student_backbone("first"), task.teacher.backbone
    images = torch.randn(1, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.intermediate(images, [1]), theirs.intermediate(images, [1]))
    with pytest.raises(WeightsError, match=r"init=dinov2-vits14-int8: does not fit deep in blocks\.9"):
        made(
            first.replace("first", "deep").replace("depth: 2", "depth: 10"),
            "init=dinov2-vits14-int8",
            "dense.layers=[[-1,5]]",
        )


def test_a_student_with_narrower_feed_forward_parts_begins_with_the_units_that_say_most() -> None:
    """Those left out are the ones whose loss changes the teacher's first blocks least."""
    first = "students=[{name: first, embed_dim: 384, depth: 2, num_heads: 6, grid: 37, ffn_ratio: 3.0}]"
    task = made(first, "init=dinov2-vits14-int8", "dense.layers=[[-1,5]]")
    ours, theirs = task.student_backbone("first"), task.teacher.backbone
    images = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    wanted, (kept,) = theirs.intermediate(images, [1])[0], ours.intermediate(images, [1])
    assert ours.blocks[0].mlp.fc1.weight.shape == (1152, 384)
    hidden = [block.mlp for block in theirs.blocks[:2]]
    drawn = torch.Generator().manual_seed(1)
    for mlp in hidden:  # the same number of units left out at random does more harm
        mlp.fc2.weight.data[:, torch.randperm(1536, generator=drawn)[:384]] = 0
    at_random = theirs.intermediate(images, [1])[0]
    assert (kept - wanted).norm() < 0.8 * (at_random - wanted).norm()


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="nothing to learn"):
        DistillRecipe(dense=DenseConfig(weight=0))
    with pytest.raises(ConfigError, match="a name of its own"):
        DistillRecipe(students=[ModelConfig(name="a"), ModelConfig(name="a")])
    with pytest.raises(ConfigError, match=r"imitate: dense\.layers must pair every student's last block"):
        DistillRecipe(dense=DenseConfig(layers=[[5, 5]]), imitate=True)
    with pytest.raises(ConfigError, match=r"global_size=100 is no multiple"):
        DistillRecipe(sizes=[224, 100])
    with pytest.raises(ConfigError, match="must be count"):
        PrototypeConfig(dino=1.0, count=7, head=HeadConfig(prototypes=8))
    with pytest.raises(ConfigError, match="one patch size, not a 14, b 16"):
        DistillRecipe(students=[ModelConfig(name="a"), ModelConfig(name="b", patch_size=16)])
    with pytest.raises(ConfigError, match="keys is a name that torch needs"):
        DistillRecipe(students=[ModelConfig(name="keys"), ModelConfig(name="other")])
    with pytest.raises(ConfigError, match=r"raise images to 33 .*or lower count"):
        small_distillation("prototypes.images=32", "prototypes.count=65", "prototypes.head.prototypes=65")
    with pytest.raises(ConfigError, match="'dinov2-vits14' is no name of your own"):
        small_distillation("students=[{name: dinov2-vits14, like: dinov2-vits14}]")
    with pytest.raises(WeightsError, match="init=dinov2-vits14-int8: does not fit tiny14"):
        made("init=dinov2-vits14-int8")
    with pytest.raises(ConfigError, match=r"has blocks"):
        made("dense.layers=[[-1,30]]")
    with pytest.raises(ConfigError, match=r"blocks 0..3"):
        made("dense.layers=[[9,-1]]")
