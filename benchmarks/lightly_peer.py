"""LightlyTrain's DINOv2 as a peer of `slamfeat pretrain`: the same images, model, crops, heads and number of steps.

    python -m venv .venv-lightly && .venv-lightly/bin/pip install -c constraints.txt lightly-train==0.18.0
    .venv/bin/slamfeat pretrain cpu_vitt14 data.held_out=0.3 --out runs/pretrain/cpu_vitt14
    .venv-lightly/bin/python -m benchmarks.lightly_peer cpu_vitt14 data.held_out=0.3 --ours runs/pretrain/cpu_vitt14 \\
        --out runs/pretrain/lightly
    .venv/bin/python -m benchmarks.backbones runs/pretrain/cpu_vitt14/backbone.safetensors \\
        runs/pretrain/lightly/lightly14.safetensors --out OUT --images ... --groups imagenet_groups \\
        --held-out 0.3 --size 112

Runs in an environment of its own, since LightlyTrain (AGPL-3.0) is no dependency of slamfeat's, with this checkout as
the working folder. Model, crops, masks, heads, schedules and rates are the recipe's; augmentations are LightlyTrain's.
Writes what it trained (its teacher, as ours) for `load_backbone`, and OUT/peer.json and peer.md: images a second, the
median of the steps after the first tenth, which warms up, waiting for images included and checkpoints excluded, as in
our own log; with --ours beside those of a `slamfeat pretrain` of the same recipe. The same command goes on where it was
interrupted; the rate is then of the last session.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.lightly_method import check_recipe, method_of, model_of, views_of
from slamfeat.backbones.own import save_backbone
from slamfeat.config import load_config, to_yaml
from slamfeat.errors import ConfigError, InputError, SlamfeatError
from slamfeat.eval.report import markdown_grid
from slamfeat.files import write_text
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.pretrain.run import open_data
from slamfeat.train.recipe_files import find_recipe

NAME = "lightly14"
COLUMNS = {"trainer": "", "steps": "steps", "images": "images", "images_per_s": "images/s"}
_DECLARED: list[Any] = []


def _declare_operators() -> None:
    """Let torchvision be imported where its binary was built for another torch; none of its operators is used."""
    import torch

    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _DECLARED.append(library)  # what it declares goes with it


def train(recipe: PretrainRecipe, files: Sequence[str], run: Path, workers: int) -> list[tuple[int, float]]:
    """Train, or go on; returns the number of each step of the session and when it ended, in seconds."""
    _declare_operators()
    import lightly_train
    from lightly_train._methods.dinov2.dinov2 import DINOv2

    ended: list[tuple[int, float]] = []
    before = DINOv2.on_train_batch_end

    def noted(method: Any, *words: Any, **named: Any) -> None:
        before(method, *words, **named)
        ended.append((method.trainer.global_step, time.perf_counter()))

    DINOv2.on_train_batch_end = noted
    loop, begun = recipe.loop, (run / "checkpoints" / "last.ckpt").is_file()
    lightly_train.pretrain(
        out=str(run), data=list(files), model=model_of(recipe), method="dinov2", method_args=method_of(recipe),
        epochs=-(-loop.steps // (len(files) // loop.batch)), batch_size=loop.batch, num_workers=workers, devices=1,
        accelerator="cpu", precision="32-true", seed=loop.seed, resume_interrupted=begun, overwrite=not begun,
        optim_args={"lr": loop.lr, "weight_decay": loop.weight_decay, "betas": [loop.beta1, loop.beta2]},
        trainer_args={"max_steps": loop.steps}, transform_args=views_of(recipe),
        callbacks={"model_export": None, "model_checkpoint": {"every_n_train_steps": loop.save_every}},
        loader_args={"persistent_workers": workers > 0},
    )  # fmt: skip
    return ended


def peer_rate(ended: Sequence[tuple[int, float]], recipe: PretrainRecipe) -> float | None:
    """Median images a second from step to step; without the session's first tenth and the steps that were saved."""
    timed = pairwise(ended[len(ended) // 10 :])
    seconds = [after - before for (_, before), (step, after) in timed if step % recipe.loop.save_every]
    return recipe.loop.batch / median(seconds) if seconds else None


def our_row(run: Path, recipe: PretrainRecipe, images: int) -> dict[str, Any]:
    """Of a `slamfeat pretrain`, by its log; without the first tenth of its steps.

    Raises:
        InputError: the run has not ended.
        ConfigError: it is of another recipe.
    """
    if not (run / "backbone.safetensors").is_file():
        raise InputError(f"{run}: no backbone.safetensors in it; give the --out of a slamfeat pretrain that has ended")
    if load_config(PretrainRecipe, run / "recipe.yaml") != recipe:
        raise ConfigError(f"{run}: made by another recipe; compare runs of the same one, with the same KEY=VALUE")
    loop, rows = recipe.loop, map(json.loads, (run / "run" / "log.jsonl").read_text().splitlines())
    lines = [row for row in rows if f"{loop.unit}_per_s" in row]
    rates = [row[f"{loop.unit}_per_s"] for row in lines if row["step"] - loop.log_every >= loop.steps // 10]
    rate = median(rates) if rates else None
    return {"trainer": "slamfeat", "steps": lines[-1]["step"], "images": images, "images_per_s": rate}


def peer_row(recipe: PretrainRecipe, files: Sequence[str], given: argparse.Namespace) -> dict[str, Any]:
    """LightlyTrain's, which is trained unless OUT/peer.json says that it was.

    Raises:
        ConfigError: OUT is of another recipe.
    """
    about, kept = given.out / "recipe.yaml", given.out / "peer.json"
    if about.is_file() and load_config(PretrainRecipe, about) != recipe:
        raise ConfigError(f"{given.out}: holds a run of another recipe; choose another --out")
    if kept.is_file():
        row: dict[str, Any] = json.loads(kept.read_text())["rows"][0]
        return row
    import torch

    write_text(about, to_yaml(recipe))
    ended = train(recipe, files, given.out / "run", given.workers)
    weights = torch.load(given.out / "run" / "exported_models" / "exported_last.pt", weights_only=True)
    save_backbone(weights, recipe.architecture, given.out / f"{NAME}.safetensors", name=NAME)
    return {
        "trainer": "LightlyTrain", "steps": recipe.loop.steps, "images": len(files),
        "images_per_s": peer_rate(ended, recipe), "threads": torch.get_num_threads(),
    }  # fmt: skip


def run(given: argparse.Namespace) -> str:
    """Train and write; returns the table.

    Raises:
        ConfigError, InputError: the recipe or the run beside it does not serve.
    """
    recipe = load_config(PretrainRecipe, find_recipe(given.recipe, "pretrain"), given.settings)
    check_recipe(recipe)
    images, learnt, _ = open_data(recipe.data)
    if len(learnt) < recipe.loop.batch:
        raise ConfigError(f"{len(learnt)} images are fewer than loop.batch={recipe.loop.batch}; lower it")
    files = [str(Path(images.names[number]).resolve()) for number in learnt]
    ours = [our_row(given.ours, recipe, len(files))] if given.ours else []
    rows = [peer_row(recipe, files, given), *ours]
    facts = {"rows": rows, "held_out": recipe.data.held_out, "recipe": to_yaml(recipe)}
    write_text(given.out / "peer.json", json.dumps(facts, indent=1) + "\n")
    cells = [[_cell(row[key]) for key in COLUMNS] for row in rows]
    table = markdown_grid(list(COLUMNS.values()), cells, right=[key != "trainer" for key in COLUMNS])
    write_text(given.out / "peer.md", table)
    return table


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a name of configs/pretrain, or a YAML file")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="changes of the recipe")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--ours", type=Path, help="--out of slamfeat pretrain with the same recipe, to stand beside")
    parser.add_argument("--workers", type=int, default=1, help="processes that read images")
    try:
        sys.stdout.write(run(parser.parse_intermixed_args(arguments)))
    except SlamfeatError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
