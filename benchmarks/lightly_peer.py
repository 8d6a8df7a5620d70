"""LightlyTrain's DINOv2 as a peer of `slamfeat pretrain`: the same images, model, crops, heads and number of steps.

    python -m venv .venv-lightly && .venv-lightly/bin/pip install -c constraints.txt lightly-train==0.18.0
    .venv/bin/python -m benchmarks.pretrain_ablation cpu_vitt14 --steps 600 data.held_out=0.3 --out OUT
    .venv-lightly/bin/python -m benchmarks.lightly_peer runs/pretrain_ablation/0 --out benchmarks/results/lightly

Runs in an environment of its own, since LightlyTrain (AGPL-3.0) is no dependency of slamfeat's, with this checkout as
the working folder. Model, crops, blur, masks, heads, schedules and rates are those of the run; other augmentations are
LightlyTrain's, which are ours by default. It trains in whichever --precision and with as many --workers as are
quickest in short trials, unless these are given. What it trained (its teacher, as ours) is written to --work for
`load_backbone`, and the table to --out: the figures of benchmarks.backbones on the recipe's held-out images, and images
a second. These are the median of stretches of `loop.log_every` steps after the first tenth, which warms up, waiting for
images included and checkpoints excluded, of both sides; so let nothing else run meanwhile. It reads images anew at the
beginning of each epoch, and waits for them: its rate without these steps is told beside the table. With
`model.drop_path` up to 0.1 it computes what it drops, which ours leaves out: so its users would have it. The same
command goes on where it was interrupted; the peer's rate is then of the last session. Where only what is learnt counts,
the two may go on beside each other: begun before ours has ended, the same command compares them afterwards.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.backbones import judged
from benchmarks.backbones_table import write_table
from benchmarks.command import parse_noting, run_and_show
from benchmarks.lightly_method import PRECISIONS, check_recipe, method_of, model_of, views_of
from benchmarks.pretrain_ablation import shortened
from slamfeat.backbones.own import save_backbone
from slamfeat.bench.provenance import header
from slamfeat.config import load_config, to_yaml
from slamfeat.errors import ConfigError, InputError
from slamfeat.files import write_text
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.pretrain.run import open_data

NAME = "lightly14"
TRIAL = 26
"""Steps by which a precision and a number of workers are judged."""
WORKERS = (0, 1, 2)
_DECLARED: list[Any] = []


def _declare_operators() -> None:
    """Let torchvision be imported where its binary was built for another torch; none of its operators is used."""
    import torch

    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _DECLARED.append(library)  # what it declares goes with it


def train(
    recipe: PretrainRecipe, files: Sequence[str], run: Path, workers: int, precision: str
) -> list[tuple[int, float]]:
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
    try:
        _pretrain(lightly_train, recipe, files, run, workers, precision)
    finally:
        DINOv2.on_train_batch_end = before
    return ended


def _pretrain(
    lightly_train: Any, recipe: PretrainRecipe, files: Sequence[str], run: Path, workers: int, precision: str
) -> None:
    loop, begun = recipe.loop, (run / "checkpoints" / "last.ckpt").is_file()
    lightly_train.pretrain(
        out=str(run), data=list(files), model=model_of(recipe), method="dinov2", method_args=method_of(recipe),
        epochs=-(-loop.steps // (len(files) // loop.batch)), batch_size=loop.batch, num_workers=workers, devices=1,
        accelerator="cpu", precision=PRECISIONS[precision], seed=loop.seed,
        resume_interrupted=begun, overwrite=not begun,
        optim_args={"lr": loop.lr, "weight_decay": loop.weight_decay, "betas": [loop.beta1, loop.beta2]},
        trainer_args={"max_steps": loop.steps}, transform_args=views_of(recipe),
        callbacks={"model_export": None, "model_checkpoint": {"every_n_train_steps": loop.save_every}},
        loader_args={"persistent_workers": workers > 0},
    )  # fmt: skip


def quickest(recipe: PretrainRecipe, files: Sequence[str], given: argparse.Namespace) -> tuple[str, int]:
    """Precision and workers that make most images a second in TRIAL steps, of those that are not given."""
    precisions = [given.precision] if given.precision else list(PRECISIONS)
    workers = [given.workers] if given.workers is not None else list(WORKERS)
    choices, kept = list(product(precisions, workers)), given.work / "trials.json"
    if len(choices) == 1:
        return choices[0]
    found: dict[str, float] = json.loads(kept.read_text()) if kept.is_file() else {}
    trial = shortened(recipe, min(TRIAL, recipe.loop.steps))
    for precision, count in choices:
        name = f"{precision}, {count} workers"
        if name not in found:
            run = given.work / "trials" / f"{precision}_{count}"
            shutil.rmtree(run, ignore_errors=True)  # an interrupted one is not gone on with
            found[name] = peer_rate(train(trial, files, run, count, precision), trial) or 0.0
            write_text(kept, json.dumps(found) + "\n")
    return max(choices, key=lambda choice: found[f"{choice[0]}, {choice[1]} workers"])


def peer_rate(ended: Sequence[tuple[int, float]], recipe: PretrainRecipe, epoch: int = 0) -> float | None:
    """Median images a second of stretches; without the session's first tenth and the steps that were saved.

    Args:
        ended: number of each step, and when it ended; seconds.
        recipe: ours.
        epoch: steps of an epoch, of which each first one is left out; 0 for all.
    """
    timed = pairwise(ended[len(ended) // 10 :])
    seconds = [
        after - before for (_, before), (step, after) in timed
        if step % recipe.loop.save_every and not (epoch and step % epoch == 1 % epoch)
    ]  # fmt: skip
    length = min(recipe.loop.log_every, len(seconds))
    stretches = [sum(seconds[at : at + length]) for at in range(0, len(seconds) - length + 1, length or 1)]
    return recipe.loop.batch * length / median(stretches) if length else None


def our_recipe(run: Path) -> PretrainRecipe:
    """What a `slamfeat pretrain` is made with, which may still go on.

    Raises:
        InputError: there is none.
    """
    if not (run / "recipe.yaml").is_file():
        raise InputError(f"{run}: no recipe.yaml in it; give the --out of a slamfeat pretrain")
    return load_config(PretrainRecipe, run / "recipe.yaml")


def our_rate(run: Path, recipe: PretrainRecipe) -> float | None:
    """Median images a second of the lines of its log; without the first tenth of its steps."""
    loop, rows = recipe.loop, map(json.loads, (run / "run" / "log.jsonl").read_text().splitlines())
    lines = [row for row in rows if f"{loop.unit}_per_s" in row]
    rates = [row[f"{loop.unit}_per_s"] for row in lines if row["step"] - loop.log_every >= loop.steps // 10]
    return median(rates) if rates else None


def peer_trained(recipe: PretrainRecipe, files: Sequence[str], given: argparse.Namespace) -> dict[str, Any]:
    """LightlyTrain's images a second and threads; it is trained unless WORK/peer.json says that it was.

    Raises:
        ConfigError: WORK is of another recipe.
    """
    about, kept = given.work / "recipe.yaml", given.work / "peer.json"
    if about.is_file() and load_config(PretrainRecipe, about) != recipe:
        raise ConfigError(f"{given.work}: holds a run of another recipe; choose another --work")
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        for name in ("precision", "workers"):
            if getattr(given, name) not in (None, found.get(name)):
                raise ConfigError(f"{given.work}: holds a run with {name} {found.get(name)}; choose another --work")
        return found
    import torch

    write_text(about, to_yaml(recipe))
    precision, workers = quickest(recipe, files, given)
    ended = train(recipe, files, given.work / "run", workers, precision)
    weights = torch.load(given.work / "run" / "exported_models" / "exported_last.pt", weights_only=True)
    save_backbone(weights, recipe.architecture, given.work / f"{NAME}.safetensors", name=NAME)
    found = {
        "images_per_s": peer_rate(ended, recipe),
        "within_epochs": peer_rate(ended, recipe, len(files) // recipe.loop.batch),
        "precision": precision, "workers": workers, "threads": torch.get_num_threads(),
    }  # fmt: skip
    write_text(kept, json.dumps(found) + "\n")
    return found


def run(given: argparse.Namespace) -> None:
    """Train, judge both and write.

    Raises:
        ConfigError, InputError: the run beside it does not serve.
    """
    recipe = our_recipe(given.run)
    check_recipe(recipe)
    images, learnt, _ = open_data(recipe.data)
    files = [str(Path(images.names[number]).resolve()) for number in learnt]
    peer = peer_trained(recipe, files, given)
    if not (given.run / "backbone.safetensors").is_file():
        raise InputError(f"{given.run}: has not ended; the same command compares both once it has")
    weights = {"LightlyTrain": given.work / f"{NAME}.safetensors", "slamfeat": given.run / "backbone.safetensors"}
    rates = {"LightlyTrain": peer["images_per_s"], "slamfeat": our_rate(given.run, recipe)}
    rows, held_out = judged({name: str(file) for name, file in weights.items()}, recipe.probes, recipe.data)
    rows = [row | {"images_per_s": rates.get(row["backbone"])} for row in rows]
    facts = header(given.command, str(peer["threads"])) | {
        "recipe": f"{recipe.loop.steps} steps of {recipe.loop.batch} of {len(files)} images",
        "precision": f"{recipe.loop.precision}, LightlyTrain's {peer['precision']}",
        "workers": f"{recipe.loop.workers}, LightlyTrain's {peer.get('workers')}", "held out": held_out,
    }  # fmt: skip
    if peer.get("within_epochs") is not None:
        facts["LightlyTrain's images/s without the first step of each epoch"] = f"{peer['within_epochs']:.1f}"
    write_table(given.out, facts, rows, "LightlyTrain and slamfeat")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, and as `command` what it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="--out of the slamfeat pretrain that is compared")
    parser.add_argument("--precision", choices=list(PRECISIONS), help="LightlyTrain's; the quicker if not given")
    parser.add_argument("--work", type=Path, default=Path("runs") / "lightly", help="folder of LightlyTrain's run")
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    parser.add_argument("--workers", type=int, help="its processes that read images; the quickest if not given")
    return parse_noting(parser, "lightly_peer", arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    run_and_show(run, parse(arguments))


if __name__ == "__main__":
    main()
