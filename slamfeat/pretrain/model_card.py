"""What a file of a backbone says of its making."""

from __future__ import annotations

import datetime
from pathlib import Path

from slamfeat.backbones.checkpoints import read_metadata
from slamfeat.config import to_yaml
from slamfeat.pretrain.distill_recipe import DistillRecipe
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.train.loop import TrainingResult


def backbone_card(recipe: PretrainRecipe | DistillRecipe, training: TrainingResult, commit: str) -> dict[str, str]:
    """Recipe with its notes, folders of the images, commit and date of the last session, steps and hours of all.

    Args:
        recipe: see the class.
        training: how the session ended.
        commit: that the code was at when the session began.
    """
    return {
        **recipe.notes,
        "recipe": to_yaml(recipe),
        "folders": ", ".join(recipe.data.images or ["the shipped frames"]),
        "commit": commit,
        "trained": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "steps": str(training.step),
        "hours": f"{training.seconds / 3600:.3g}",
    }


def is_made(file: Path, recipe: PretrainRecipe | DistillRecipe) -> bool:
    """Whether a file is there that says it was made by this recipe."""
    return file.is_file() and read_metadata(file).get("recipe") == to_yaml(recipe)
