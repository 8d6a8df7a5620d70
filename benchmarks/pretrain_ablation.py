"""What KoLeo, iBOT and Sinkhorn-Knopp bring to a pretraining at our size: one change a row, everything else equal.

    python -m benchmarks.pretrain_ablation cpu_vitt14 --steps 600 --work runs/pretrain_ablation \\
        --out benchmarks/results/pretrain_ablation data.held_out=0.3

Each row is a pretraining of the recipe, shortened to --steps with its warm-ups in proportion, in a folder of --work;
the same command goes on where it was interrupted. The figures are those of benchmarks.backbones, on the recipe's
held-out images; beside the rows stand raw pixels and the architecture with weights nobody trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.backbones import judged
from benchmarks.backbones_table import write_table
from benchmarks.command import parse_noting, run_and_show
from slamfeat.bench.provenance import header
from slamfeat.config import load_config
from slamfeat.errors import TrainingError
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.pretrain.run import pretrain
from slamfeat.train.recipe_files import find_recipe

VARIANTS = {
    "the recipe": (),
    "no KoLeo": ("objective.koleo=0",),
    "no iBOT, nothing masked": ("objective.ibot=0",),
    "centring instead of Sinkhorn-Knopp": ("teacher.targets=centring",),
}


def shortened(recipe: PretrainRecipe, steps: int) -> PretrainRecipe:
    """The same with another number of steps, and what counts steps in proportion."""
    share = steps / recipe.loop.steps

    def part(count: int) -> int:
        return round(share * count)

    loop = replace(recipe.loop, steps=steps, warmup=part(recipe.loop.warmup), evaluate_every=0, patience=0)
    teacher = replace(recipe.teacher, warmup=part(recipe.teacher.warmup))
    rates = replace(recipe.rates, last_layer_from=part(recipe.rates.last_layer_from))
    gram = replace(recipe.gram, from_step=part(recipe.gram.from_step), refresh=part(recipe.gram.refresh))
    return replace(recipe, loop=loop, teacher=teacher, rates=rates, gram=gram)


def recipe_of(given: argparse.Namespace, words: Sequence[str]) -> PretrainRecipe:
    """The recipe of a row.

    Raises:
        ConfigError: an unknown recipe or setting.
    """
    path = find_recipe(given.recipe, "pretrain")
    return shortened(load_config(PretrainRecipe, path, [*given.settings, *words]), given.steps)


def trained(recipes: Mapping[str, PretrainRecipe], given: argparse.Namespace) -> dict[str, str]:
    """Pretrain by each recipe, in numbered folders of `given.work`; returns the backbones by the same labels.

    Raises:
        ConfigError, InputError: settings or images that do not serve.
        TrainingError: one's loss is not finite.
    """
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    files: dict[str, str] = {}
    for number, (label, recipe) in enumerate(recipes.items()):
        say(f"{label}:")
        made = pretrain(recipe, given.work / str(number), command=given.command, say=say)
        if made.backbone is None:
            raise TrainingError(f"{label}: ended early ({made.training.reason}); the same command goes on")
        files[label] = str(made.backbone)
    return files


def run(given: argparse.Namespace) -> None:
    """Train all rows, judge them and write.

    Raises:
        ConfigError, InputError: settings or images that do not serve.
        TrainingError: a row's loss is not finite.
    """
    files = trained({label: recipe_of(given, words) for label, words in VARIANTS.items()}, given)
    recipe = recipe_of(given, ())
    rows, held_out = judged(files, recipe.probes, recipe.data)
    facts = header(given.command, "torch's") | {
        "recipe": f"{given.recipe}, {given.steps} steps of {recipe.loop.batch} images", "held out": held_out,
    }  # fmt: skip
    write_table(given.out, facts, rows, "Ablation of the pretraining")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, and as `command` what it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a name of configs/pretrain, or a YAML file")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="changes of the recipe, for all rows")
    parser.add_argument("--steps", type=int, required=True, help="of each row")
    parser.add_argument("--work", type=Path, default=Path("runs") / "pretrain_ablation", help="the runs' folders")
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    return parse_noting(parser, "pretrain_ablation", arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    run_and_show(run, parse(arguments))


if __name__ == "__main__":
    main()
