"""`slamfeat distill RECIPE --out DIR`: a small backbone from a larger one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slamfeat.cli.common import Json, RecipeOverrides, end_unfinished, finishing_first, say, tell

EXAMPLES = (
    "Examples:\n\nslamfeat distill cpu_tiny --out runs/tiny-student\n\n"
    "slamfeat distill cpu_student --out runs/student 'data.images=\\[photos,videos/walk.mp4]' loop.workers=2\n\n"
    "slamfeat match a.png b.png --weights runs/tiny-student/tiny14.safetensors"
)


def distill_command(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A name of configs/distill, or a YAML file.", show_default=False)
    ],
    overrides: RecipeOverrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run.", show_default="runs/distill/RECIPE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Teach small backbones what a larger one sees; the same command goes on where it was interrupted.

    Each is written to OUT/NAME.safetensors. Under torchrun the processes share the work.
    """
    import json
    import shlex

    from slamfeat.config import load_config
    from slamfeat.pretrain.distill_recipe import DistillRecipe
    from slamfeat.pretrain.distill_run import distill
    from slamfeat.train.distributed import rank_and_world
    from slamfeat.train.model_card import true_notes
    from slamfeat.train.recipe_files import find_recipe

    path = find_recipe(recipe, "distill")
    settings = load_config(DistillRecipe, path, overrides or ())
    settings.notes = true_notes(settings.notes, overrides or (), ["images"])
    out = out or Path("runs") / "distill" / path.stem
    command = shlex.join(["slamfeat", "distill", recipe, *(overrides or ()), "--out", str(out)])
    with finishing_first() as asked:
        result = distill(settings, out, command=command, say=say, stop=asked)
    first = rank_and_world()[0] == 0  # all processes have the same to tell
    if as_json and first:
        made = {name: str(path) for name, path in result.backbones.items()}
        end = result.training
        tell(json.dumps({"backbones": made, "step": end.step, "score": end.best_score, "skipped": result.skipped}))
    if not result.backbones:
        end_unfinished(command, first=first, asked=result.training.reason == "stop")
