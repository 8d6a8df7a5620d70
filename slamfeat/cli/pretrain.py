"""`slamfeat pretrain RECIPE --out DIR`: a backbone of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slamfeat.cli.common import Json, RecipeOverrides, end_unfinished, finishing_first, say, tell

EXAMPLES = (
    "Examples:\n\nslamfeat pretrain cpu_tiny --out runs/tiny-backbone\n\n"
    "slamfeat pretrain vits14 --out runs/vits14 'data.images=\\[photos,shards/000.tar]' loop.workers=8\n\n"
    "torchrun --nproc-per-node 8 -m slamfeat.cli.main pretrain vitl14_short 'data.images=\\[photos]'\n\n"
    "slamfeat match a.png b.png --weights runs/tiny-backbone/backbone.safetensors"
)


def pretrain_command(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A name of configs/pretrain, or a YAML file.", show_default=False)
    ],
    overrides: RecipeOverrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run.", show_default="runs/pretrain/RECIPE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a backbone on images alone, as DINOv2; the same command goes on where it was interrupted.

    Its teacher is written to OUT/backbone.safetensors. Under torchrun the processes share the work.
    """
    import json
    import shlex

    from slamfeat.config import load_config
    from slamfeat.pretrain.recipe import PretrainRecipe
    from slamfeat.pretrain.run import pretrain
    from slamfeat.train.distributed import rank_and_world
    from slamfeat.train.model_card import true_notes
    from slamfeat.train.recipe_files import find_recipe

    path = find_recipe(recipe, "pretrain")
    settings = load_config(PretrainRecipe, path, overrides or ())
    settings.notes = true_notes(settings.notes, overrides or (), ["images"])
    out = out or Path("runs") / "pretrain" / path.stem
    command = shlex.join(["slamfeat", "pretrain", recipe, *(overrides or ()), "--out", str(out)])
    with finishing_first() as asked:
        result = pretrain(settings, out, command=command, say=say, stop=asked)
    first = rank_and_world()[0] == 0  # all processes have the same to tell
    if as_json and first:
        made = None if result.backbone is None else str(result.backbone)
        end = result.training
        tell(json.dumps({"backbone": made, "step": end.step, "score": end.best_score, "skipped": result.skipped}))
    if result.backbone is None:
        end_unfinished(command, first=first, asked=result.training.reason == "stop")
