"""What a file of a backbone says of its making."""

from __future__ import annotations

import datetime

from slamfeat.commit import commit
from slamfeat.config import to_yaml
from slamfeat.pretrain.distill_recipe import DistillRecipe
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.train.loop import TrainingResult


def backbone_card(recipe: PretrainRecipe | DistillRecipe, training: TrainingResult) -> dict[str, str]:
    """Recipe with its notes, folders of the images, commit and date of the last session, steps and hours of all."""
    return {
        **recipe.notes,
        "recipe": to_yaml(recipe),
        "folders": ", ".join(recipe.data.images or ["the shipped frames"]),
        "commit": commit(),
        "trained": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "steps": str(training.step),
        "hours": f"{training.seconds / 3600:.3g}",
    }
