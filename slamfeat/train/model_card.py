"""What a file of heads says of its making."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from slamfeat.config import to_yaml
from slamfeat.train.loop import TrainingResult
from slamfeat.train.recipe import DataConfig, HeadsRecipe

SOURCES = ("photos", "sequences", "stereo")
"""Of a heads' recipe: what its data is made of."""


def model_card(recipe: HeadsRecipe, results: Mapping[str, TrainingResult], commit: str) -> dict[str, str]:
    """Recipe with its notes, folders of the data, commit and date of the last session, hours and score of each stage.

    Preparing pairs is not in the hours.

    Args:
        recipe: see the class.
        results: stage -> how its training ended.
        commit: that the code was at when the session began.
    """
    return {
        **recipe.notes,
        "recipe": to_yaml(recipe),
        "folders": _folders(recipe.data),
        "commit": commit,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hours": ", ".join(f"{stage} {one.seconds / 3600:.2f}" for stage, one in results.items()),
        **{stage: f"step {one.best_step or one.step}, score {one.best_score}" for stage, one in results.items()},
    }


def true_notes(notes: Mapping[str, str], overrides: Sequence[str], sources: Sequence[str] = SOURCES) -> dict[str, str]:
    """A recipe's notes, without its word on the data where other data was named on the command line.

    Args:
        notes: of the recipe; "data" says what its data is.
        overrides: `key=value` words that changed it; one about notes is believed.
        sources: keys of "data" that say which it is.
    """
    keys = [word.partition("=")[0] for word in overrides]
    others = any(key == "data" or key.startswith(tuple(f"data.{source}" for source in sources)) for key in keys)
    told = any(key.startswith("notes") for key in keys)
    if not others or told or "data" not in notes:
        return dict(notes)
    return {**notes, "data": "not said: other folders than the recipe's; give notes.data='...' with their licences"}


def _folders(data: DataConfig) -> str:
    photos = (data.photos or ["the shipped frames"]) if data.rooms or data.homographies else []
    return ", ".join([*photos, *data.sequences, *data.stereo])
