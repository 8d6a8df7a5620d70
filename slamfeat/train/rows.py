"""What makes the rows of the heads' caches; built anew in every process that makes some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from slamfeat.backbones.load import parse_device
from slamfeat.config import to_dict
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.train.pairs import PairSource
from slamfeat.train.prepare import MatcherPreparer
from slamfeat.train.recipe import HeadsRecipe, MatcherStage, RefinerStage
from slamfeat.train.recipe_sources import make_source
from slamfeat.train.refiner_data import RefinerPreparer
from slamfeat.train.warm import published_fine

Row = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class HeadRows:
    """Rows of one stage and split of a recipe; a `slamfeat.train.filling.MakeRows`."""

    recipe: HeadsRecipe
    stage: str
    split: str

    @property
    def settings(self) -> MatcherStage | RefinerStage:
        """Of the stage."""
        return self.recipe.matcher if self.stage == "matcher" else self.recipe.refiner

    @property
    def count(self) -> int:
        """Rows there are to be."""
        return self.settings.rows if self.split == "train" else self.settings.held_out

    def preparer(self) -> MatcherPreparer | RefinerPreparer:
        """Makes a row of a pair.

        Raises:
            WeightsError: published weights that are not stored.
        """
        recipe, device = self.recipe, self.settings.loop.device
        place = parse_device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        if self.stage == "refiner":
            config = FrontendConfig(num_keypoints=2 * recipe.refiner.points, layers=[recipe.layer], cell=recipe.cell)
            return RefinerPreparer(_frontend(recipe, config, place), recipe.refiner.points)
        config = FrontendConfig(num_keypoints=recipe.matcher.keypoints, layers=[recipe.layer], cell=recipe.cell)
        fine = published_fine(recipe.fine, recipe.fine_weights).to(place)
        return MatcherPreparer(_frontend(recipe, config, place), fine)

    def __call__(self) -> Callable[[int], Row]:
        """A function from a row's number to its values."""
        prepare, source = self.preparer(), make_source(self.recipe.data, self.settings.photometric, self.split)
        return _Rows(source, prepare)

    def made(self) -> dict[str, Any]:
        """What decides the rows, for `PairCache`."""
        recipe, stage = self.recipe, self.settings
        common = {
            "split": self.split, "weights": recipe.weights, "layer": recipe.layer, "cell": recipe.cell,
            "data": to_dict(recipe.data), "photometric": to_dict(stage.photometric),
        }  # fmt: skip
        of_matcher = {"fine": recipe.fine, "fine_weights": recipe.fine_weights}
        return {**common, **of_matcher} if self.stage == "matcher" else common


@dataclass(frozen=True)
class _Rows:
    source: PairSource
    prepare: MatcherPreparer | RefinerPreparer

    def __call__(self, row: int) -> Row:
        return self.prepare(self.source.pair(row))


def _frontend(recipe: HeadsRecipe, config: FrontendConfig, device: torch.device) -> Frontend:
    """In torch and float32, so that the rows are the same on every machine to rounding."""
    return Frontend.from_pretrained(recipe.weights, config=config, device=device, engine="torch", precision="fp32")
