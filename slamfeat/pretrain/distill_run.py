"""From a distillation recipe to files with backbones.

OUT/
  images.json        see `slamfeat.pretrain.run`
  recipe.yaml        all settings; its first line is the command
  run/               the loop's run, see `slamfeat.train.run_folder`
  NAME.safetensors   each student's averaged weights, when the run has ended; `load_backbone` takes them
  tokens.png         what teacher and students see in some held-out images
  skipped.json       as `slamfeat.pretrain.run` writes it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from slamfeat.backbones.own import save_backbone
from slamfeat.commit import commit
from slamfeat.errors import ConfigError
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.pretrain.beginning import build_backbone
from slamfeat.pretrain.distill_networks import Student, Teacher
from slamfeat.pretrain.distill_recipe import DistillRecipe
from slamfeat.pretrain.distill_task import Distillation, DistillTask
from slamfeat.pretrain.model_card import backbone_card, is_made
from slamfeat.pretrain.probes import Probes
from slamfeat.pretrain.recipe import ModelConfig
from slamfeat.pretrain.run import (
    ended,
    newest_step,
    open_data,
    record,
    report_skipped,
    skipped_are_kept,
    tell_skipped,
)
from slamfeat.pretrain.sources import Joined
from slamfeat.train.checkpoint import load_weights
from slamfeat.train.distributed import Ranks, joined_ranks
from slamfeat.train.loop import TrainingResult, train
from slamfeat.train.rng import seed_generators
from slamfeat.train.run_folder import RunFolder
from slamfeat.train.weights import copy_weights, kept_weights

Say = Callable[[str], None]
PICTURE = "tokens.png"


@dataclass(frozen=True)
class DistillResult:
    """How a session ended.

    Attributes:
        backbones: name -> file; empty where the session was interrupted before.
        training: of the loop.
        skipped: damaged images of all processes and sessions, with what was wrong.
    """

    backbones: dict[str, Path]
    training: TrainingResult
    skipped: dict[str, str]


def distill(
    recipe: DistillRecipe, out: str | Path, *, command: str = "", say: Say = lambda line: None,
    stop: Callable[[], bool] = lambda: False,
) -> DistillResult:  # fmt: skip
    """Do what a recipe says, or go on with it; arguments and errors as of `slamfeat.pretrain.run.pretrain`."""
    out, code = Path(out), commit()
    images, numbers, held_out = open_data(recipe.data)
    with joined_ranks(recipe.loop.device) as ranks:
        recipe.check_shared(ranks.world)
        record(recipe, images, out, command, ranks)
        if ranks.first:
            names = ", ".join(student.name for student in recipe.students)
            say(f"distilling {recipe.teacher} into {names} on {len(numbers)} images, judged on {len(held_out)} others")
            tell_skipped(images.skipped, say)
        task = make_task(recipe, images, numbers, held_out)
        begun = newest_step(out, ranks)
        with skipped_are_kept(images, out, ranks):
            if not begun:
                if ranks.first:
                    say("measuring the teacher's tokens")
                task.measure(ranks)
            training = train(task, recipe.loop, out / "run", settings=recipe, resume="auto", command=command, stop=stop)
        skipped = report_skipped(images, out, ranks, say)
        if not ended(training):
            return DistillResult({}, training, skipped)
        files = {student.name: out / f"{student.name}.safetensors" for student in recipe.students}
        ranks.meet()  # the first writes the last checkpoint
        made = (out / PICTURE).is_file() and all(is_made(file, recipe) for file in files.values())
        if any(ranks.any(training.step > begun or not made)):
            _export(recipe, task, files, out, ranks, backbone_card(recipe, training, code))
        if ranks.first:
            for file in files.values():
                say(f"written to {file}")
    return DistillResult(files, training, skipped)


def make_task(recipe: DistillRecipe, images: Joined, numbers: list[int], held_out: list[int]) -> DistillTask:
    """The task of a recipe, with weights from its seed; errors as of `distill`."""
    backbone, _ = load_pretrained(recipe.teacher, torch.device("cpu"))
    pairs = recipe.dense.layers if recipe.dense.weight else []
    taught = [pair[1] for pair in pairs]
    if recipe.imitate and backbone.output is not None:
        raise ConfigError(f"imitate: {recipe.teacher} imitates another backbone itself; take that one for the teacher")
    if recipe.prototypes.dino or recipe.prototypes.ibot:
        taught.append(-1)
    teacher = Teacher(backbone, taught)
    seed_generators(recipe.loop.seed)
    students = {
        config.name: _student(recipe, config, place, backbone.embed_dim) for place, config in enumerate(recipe.students)
    }
    module = Distillation(students, backbone.embed_dim, len(pairs), recipe.prototypes.count)
    return DistillTask(recipe, module, teacher, images, numbers, Probes(recipe.probes, images, held_out))


def _student(recipe: DistillRecipe, config: ModelConfig, place: int, teacher_dim: int) -> Student:
    init = recipe.init if place == 0 else ""
    backbone = build_backbone(config, recipe.crops.global_size, recipe.loop.seed, init)
    return Student(backbone, teacher_dim, recipe.dense, recipe.prototypes, config.drop_path, config.recompute)


def _picture(task: DistillTask, files: Mapping[str, Path], path: Path) -> None:
    """What teacher and students see; of students that imitate one of its blocks, what they make of that."""
    device = task.teacher.backbone.device
    seen = {"teacher": task.teacher.backbone} | {name: load_pretrained(file, device)[0] for name, file in files.items()}
    imitated = next((student.imitates for student in seen.values() if student.imitates is not None), None)
    task.probes.look(seen, path, imitated=None if imitated is None else imitated[1])


def _export(
    recipe: DistillRecipe, task: DistillTask, files: Mapping[str, Path], out: Path, ranks: Ranks, card: dict[str, str]
) -> None:
    """Write the students of the last checkpoint, by their names to `files`, and the picture."""
    weights = load_weights(RunFolder(out / "run").checkpoints, newest_step(out, ranks))
    copy_weights(weights, kept_weights(task.module, task.frozen), "the run's last checkpoint")
    for config in recipe.students:
        name, architecture = config.name, config.architecture(recipe.crops.global_size)
        state = task.student_backbone(name).state_dict()
        if recipe.imitate:
            state, architecture = task.imitating(name, state, architecture)
        if ranks.first:
            save_backbone(state, architecture, files[name], name=name, notes=card)
    if ranks.first:
        _picture(task, files, out / PICTURE)
    ranks.meet()
