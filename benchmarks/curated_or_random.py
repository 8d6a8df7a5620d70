"""A backbone pretrained on the curated half of a pool, and on random halves, as many steps each.

    python -m benchmarks.curated_pool ../shared/data/unlabelled/imagenet_sample1000_256 --out runs/curated_pool
    python -m benchmarks.curated_or_random cpu_vitt14 --pool runs/curated_pool --steps 600 \\
        --out benchmarks/results/curated_or_random

DINOv2's claim for curated data (arXiv 2304.07193, Table 2) at our size, on a pool with planted duplicates and imbalance
(benchmarks.curated_pool, which says how). The curated half is trained on with --seeds seeds, and as many random halves
with one of these each, which shows how much of a difference is chance. The recipe is shortened to --steps with its
warm-ups in proportion. The figures are those of benchmarks.backbones on the images that the pool was planted from, of
which all held out the same. The same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.backbones import judged
from benchmarks.backbones_table import write_table
from benchmarks.command import parse_noting, run_and_show
from benchmarks.pretrain_ablation import shortened, trained
from slamfeat.bench.provenance import header
from slamfeat.config import load_config
from slamfeat.errors import InputError
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.train.recipe_files import find_recipe


def halves(seeds: int) -> dict[str, list[str]]:
    """Names of the lists that are trained on, by the half, one a seed."""
    return {"random": [f"random-{draw}" for draw in range(seeds)], "curated": ["curated"] * seeds}


def planted(pool: Path, seeds: int) -> dict[str, Any]:
    """What a pool was planted with, and what its lists hold.

    Raises:
        InputError: it is none of benchmarks.curated_pool.
    """
    lists = sorted({name for names in halves(seeds).values() for name in names})
    files = [pool / name for name in ("pool.json", "choices.json", *(f"{name}.txt" for name in lists))]
    for file in files:
        if not file.is_file():
            command = f"python -m benchmarks.curated_pool DATA --draws {seeds} --out {pool}"
            raise InputError(f"{file}: not found; make the pool with {command}")
    of, choices = (json.loads(file.read_text()) for file in files[:2])
    if missing := [name for name in lists if name not in choices]:
        raise InputError(f"{pool}: {missing[0]}.txt is of another pool; make it anew with --draws {seeds}")
    return {**of["of"], "choices": choices}


def recipes_of(given: argparse.Namespace, held_out: float) -> dict[str, PretrainRecipe]:
    """The recipe of each row, by its label.

    Raises:
        ConfigError: an unknown recipe or setting.
    """
    path, found = find_recipe(given.recipe, "pretrain"), {}
    for half, names in halves(given.seeds).items():
        for seed, name in enumerate(names):
            words = [*given.settings, f"data.images=[{given.pool / name}.txt]", f"data.held_out={held_out}"]
            recipe = shortened(load_config(PretrainRecipe, path, words), given.steps)
            loop = replace(recipe.loop, seed=recipe.loop.seed + seed)
            found[f"{half} half, seed {loop.seed}"] = replace(recipe, loop=loop)
    return found


def run(given: argparse.Namespace) -> None:
    """Train on both halves, judge and write.

    Raises:
        ConfigError, InputError: pool, settings or images that do not serve.
        TrainingError: a row's loss is not finite.
    """
    pool = planted(given.pool, given.seeds)
    recipes = recipes_of(given, float(pool["held_out"]))
    files = trained(recipes, given)
    recipe = next(iter(recipes.values()))
    rows, held_out = judged(files, recipe.probes, replace(recipe.data, images=[pool["data"]]))
    facts = header(given.command, "torch's") | {
        "recipe": f"{given.recipe}, {given.steps} steps of {recipe.loop.batch} images", "held out": held_out,
        **{name: said_of(pool["choices"][name], pool["favoured"]) for name in pool["choices"] if name != "held out"},
    }  # fmt: skip
    write_table(given.out, facts, rows, "Pretrained on a curated and on a random half")


def said_of(counts: dict[str, int], favoured: str) -> str:
    """What a list holds, in words."""
    return f"{counts['images']} images of {counts['photographs']} photographs ({counts['favoured']} {favoured})"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, and as `command` what it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a name of configs/pretrain, or a YAML file")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="changes of the recipe, for all rows")
    parser.add_argument("--pool", type=Path, required=True, help="--out of benchmarks.curated_pool")
    parser.add_argument("--steps", type=int, required=True, help="of each row")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each kind of half")
    parser.add_argument("--work", type=Path, default=Path("runs") / "curated_or_random", help="the runs' folders")
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    return parse_noting(parser, "curated_or_random", arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    run_and_show(run, parse(arguments))


if __name__ == "__main__":
    main()
