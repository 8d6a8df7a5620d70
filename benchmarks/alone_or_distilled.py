"""The same small backbone trained alone and distilled from a larger one, on the same images for as many seconds.

    slamfeat pretrain cpu_vitt14 data.held_out=0.3 --out runs/pretrain/cpu_vitt14
    python -m benchmarks.alone_or_distilled runs/pretrain/cpu_vitt14 cpu_vitt14 data.held_out=0.3 \\
        --out benchmarks/results/alone_or_distilled

DINOv2's claim for its small models (arXiv 2304.07193, Table 5 b) at our size. How long the distillation takes to begin
and for a step is found by a short one first; its steps are then as many as fill the time that the pretraining took, its
schedules in proportion. A run's time is its steps by the median time of one. Evaluations and checkpoints count for
neither, nor does the teacher's own training, as in the paper. Run nothing beside it; or run the two beside each other
on a core each (OMP_NUM_THREADS=1), and say with --seconds how long the pretraining, which is still going, will take.
The table says how long each of them took. The figures are those of benchmarks.backbones, on the images that both held
out. The same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.backbones import judged
from benchmarks.backbones_table import write_table
from benchmarks.command import parse_noting, run_and_show
from benchmarks.training_curves import seconds_a_step, step_seconds
from slamfeat.bench.provenance import header
from slamfeat.config import load_config
from slamfeat.errors import ConfigError, InputError, TrainingError
from slamfeat.files import write_text
from slamfeat.pretrain.crops import CropConfig
from slamfeat.pretrain.distill_recipe import DistillRecipe
from slamfeat.pretrain.distill_run import distill
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.train.recipe_files import find_recipe

PILOT = 40
"""Steps of the short one; the first half warms up."""
LINE = 4
"""Steps a line of its log."""
LOOP = ("batch", "accumulate", "precision", "device")


def check_ended(run: Path) -> None:
    """Whether it is a pretraining's folder, of one that has ended.

    Raises:
        InputError: it is not.
    """
    if not (run / "backbone.safetensors").is_file():
        raise InputError(f"{run}: no backbone.safetensors in it; give the --out of a slamfeat pretrain that has ended")


def recipe_distilled(given: argparse.Namespace, alone: PretrainRecipe) -> DistillRecipe:
    """The distillation's.

    Raises:
        ConfigError: it differs from the pretraining in what is not the method's.
    """
    recipe = load_config(DistillRecipe, find_recipe(given.recipe, "distill"), given.settings)
    if len(recipe.students) != 1:
        raise ConfigError(f"{given.recipe}: one student is compared, not {len(recipe.students)}")
    student = recipe.students[0].architecture(recipe.crops.global_size)
    if alone.start:
        raise ConfigError(
            f"{given.run} went on from {alone.start}: what that took is not known; compare a run of one phase"
        )
    pairs = {
        # Where layer scales begin is the method's.
        "architecture": (alone.architecture, replace(student, layer_scale=alone.architecture.layer_scale)),
        "data": (alone.data, recipe.data),
        "crops": (global_crops(alone.crops), global_crops(recipe.crops)),
        "sizes": ([], recipe.sizes),
        "init": (alone.init, recipe.init),
        **{f"loop.{key}": (getattr(alone.loop, key), getattr(recipe.loop, key)) for key in LOOP},
    }
    for name, (one, other) in pairs.items():
        if one != other:
            raise ConfigError(f"{name} is to be the same: {given.run} has {one}, {given.recipe} {other}")
    return recipe


def global_crops(crops: CropConfig) -> CropConfig:
    """Without the small ones, which are the pretraining's."""
    return replace(crops, local_count=0, local_size=14, local_scale=[1.0, 1.0])


def with_steps(recipe: DistillRecipe, steps: int, **changes: Any) -> DistillRecipe:
    """The same with another number of steps, and its warm-up in proportion."""
    warmup = round(recipe.loop.warmup * steps / recipe.loop.steps)
    return replace(recipe, loop=replace(recipe.loop, steps=steps, warmup=warmup, **changes))


def seconds_of(run: Path) -> float:
    """How long a run's steps take."""
    lines = log_of(run)
    return seconds_a_step(lines) * max((line["step"] for line in lines), default=0)


def log_of(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (run / "run" / "log.jsonl").read_text().splitlines()]


def steps_for(seconds: float, recipe: DistillRecipe, work: Path) -> tuple[int, float]:
    """As many as the time allows, and the seconds that it takes to begin; found once, and kept in WORK/steps.json.

    Raises:
        ConfigError: WORK holds the short run of another recipe.
        TrainingError: it is not even time for the short one.
    """
    kept, half = work / "steps.json", PILOT // 2
    short = with_steps(recipe, 2 * half, evaluate_every=0, patience=0, log_every=LINE)
    if not kept.is_file():  # one that was interrupted does not say how long it took to begin
        shutil.rmtree(work / "pilot", ignore_errors=True)
    began = time.perf_counter()
    distill(short, work / "pilot")  # which says whether it was another recipe's; ended, it is done at once
    took = time.perf_counter() - began
    if not kept.is_file() or json.loads(kept.read_text())["seconds"] != seconds:
        lines = log_of(work / "pilot")
        known = json.loads(kept.read_text())["begin"] if kept.is_file() else took - step_seconds(lines)
        steps = int((seconds - known) / seconds_a_step(lines, after=half))
        found = {"seconds": seconds, "begin": known, "steps": steps}
        write_text(kept, json.dumps(found) + "\n")
    found = json.loads(kept.read_text())
    if found["steps"] < PILOT:
        raise TrainingError(f"{seconds:.0f} s are {found['steps']} steps of the distillation: pretrain for longer")
    return int(found["steps"]), float(found["begin"])


def run(given: argparse.Namespace) -> None:
    """Train what is not trained yet, judge both and write.

    Raises:
        ConfigError, InputError: runs, settings or images that do not serve.
        TrainingError: the distillation ended early.
    """
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    if given.seconds is None:
        check_ended(given.run)
    alone = load_config(PretrainRecipe, given.run / "recipe.yaml")
    recipe = recipe_distilled(given, alone)
    steps, begin = steps_for(given.seconds or seconds_of(given.run), recipe, given.work)
    made = distill(with_steps(recipe, steps), given.work / "distilled", command=given.command, say=say)
    if not made.backbones:
        raise TrainingError(f"ended early ({made.training.reason}); the same command goes on")
    check_ended(given.run)
    files = {"teacher": recipe.teacher, "alone": str(given.run / "backbone.safetensors")}
    files |= {"distilled": str(next(iter(made.backbones.values())))}
    rows, held_out = judged(files, recipe.probes, recipe.data)
    seconds = seconds_of(given.run), seconds_of(given.work / "distilled") + begin
    facts = header(given.command, f"{torch.get_num_threads()}") | {
        "alone": f"{alone.loop.steps} steps in {seconds[0]:.0f} s",
        "distilled": f"{steps} steps in {seconds[1]:.0f} s", "held out": held_out,
    }  # fmt: skip
    write_table(given.out, facts, rows, "Trained alone, and distilled")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, and as `command` what it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the pretraining")
    parser.add_argument("recipe", help="of the distillation: a name of configs/distill, or a YAML file")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="changes of it")
    parser.add_argument("--seconds", type=float, help="to be filled; default: what the pretraining took")
    parser.add_argument("--work", type=Path, default=Path("runs") / "alone_or_distilled", help="the runs' folders")
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    return parse_noting(parser, "alone_or_distilled", arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    run_and_show(run, parse(arguments))


if __name__ == "__main__":
    main()
