"""`slamfeat train RECIPE --out DIR`: heads of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slamfeat.cli.common import Json, end_unfinished, finishing_first, say, settings_argument, tell

EXAMPLES = (
    "Examples:\n\nslamfeat train cpu_tiny --out runs/tiny\n\n"
    "slamfeat train cpu_full --out runs/full 'data.photos=\\[photos]' workers=8\n\n"
    "torchrun --nproc-per-node 8 -m slamfeat.cli.main train gpu_tartanair --out runs/gpu\n\n"
    "slamfeat match a.png b.png frontend.heads=runs/tiny/heads.safetensors frontend.matcher.method=attention"
)


def train_command(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A name of configs/train, or a YAML file.", show_default=False)
    ],
    overrides: Annotated[list[str] | None, settings_argument("joint.loop.steps=500")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run.", show_default="runs/train/RECIPE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train heads on a frozen backbone; the same command goes on where it was interrupted.

    Pairs are prepared first (the backbone runs once over each), then every head is trained, then all are written to
    OUT/heads.safetensors. Under torchrun the processes share the work.
    """
    import json
    import shlex

    from slamfeat.config import load_config
    from slamfeat.train.distributed import rank_and_world
    from slamfeat.train.heads_run import make_heads
    from slamfeat.train.model_card import true_notes
    from slamfeat.train.recipe import HeadsRecipe
    from slamfeat.train.recipe_files import find_recipe

    path = find_recipe(recipe)
    settings = load_config(HeadsRecipe, path, overrides or ())
    settings.notes = true_notes(settings.notes, overrides or ())
    out = out or Path("runs") / "train" / path.stem
    command = shlex.join(["slamfeat", "train", recipe, *(overrides or ()), "--out", str(out)])
    with finishing_first() as asked:
        result = make_heads(settings, out, command=command, say=say, stop=asked)
    stages = {
        name: {"step": r.step, "best_step": r.best_step, "score": r.best_score} for name, r in result.stages.items()
    }
    if as_json:
        tell(json.dumps({"heads": None if result.heads is None else str(result.heads), "stages": stages}))
    if result.heads is None:
        over = any(stage.reason == "minutes" for stage in result.stages.values())
        end_unfinished(command, first=rank_and_world()[0] == 0, asked=not over)
