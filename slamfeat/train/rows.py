"""What makes the rows of the heads' caches; built anew in every process that makes some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slamfeat.config import to_dict
from slamfeat.frontend.pretrained import weights_digest
from slamfeat.train.checksums import data_checksum, peer_checksum
from slamfeat.train.distributed import own_device
from slamfeat.train.pairs import PairSource
from slamfeat.train.recipe import HeadsRecipe, StageSettings
from slamfeat.train.recipe_sources import make_source
from slamfeat.train.stages import KINDS, Preparer, Row

_DRAWS = 2
"""Counts changes of how pairs are drawn: rows of different ones must not be mixed in a cache."""


@dataclass(frozen=True)
class HeadRows:
    """Rows of one stage and split of a recipe; a `slamfeat.train.filling.MakeRows`."""

    recipe: HeadsRecipe
    stage: str
    split: str

    @property
    def settings(self) -> StageSettings:
        """Of the stage."""
        return self.recipe.settings(self.stage)

    @property
    def count(self) -> int:
        """Rows there are to be."""
        return self.settings.rows if self.split == "train" else self.settings.held_out

    def preparer(self) -> Preparer:
        """Makes a row of a pair.

        Raises:
            ConfigError: a network that ought to be frozen and is not.
            WeightsError: published weights that are not stored.
        """
        return KINDS[self.stage].preparer(self.recipe, own_device(self.settings.loop.device))

    def __call__(self) -> Callable[[int], Row]:
        """A function from a row's number to its values."""
        prepare = self.preparer()
        return _Rows(self.source(), prepare)

    def source(self) -> PairSource:
        """Of the pairs.

        Raises:
            ConfigError, InputError: settings or data that do not serve.
        """
        return make_source(self.recipe.data, self.settings.photometric, self.split)

    def made(self) -> dict[str, Any]:
        """What decides the rows, for `PairCache`."""
        recipe = self.recipe
        common = {
            "draws": _DRAWS, "split": self.split, "weights": recipe.weights, "layer": recipe.layer, "cell": recipe.cell,
            "data": to_dict(recipe.data), "photometric": to_dict(self.settings.photometric),
        }  # fmt: skip
        return {**common, **KINDS[self.stage].decides(recipe)}

    def sources(self, missing: bool) -> dict[str, str]:
        """Checksums of what rows are made of, for `PairCache`; of the data where rows are missing alone.

        Rows that are all there serve without the data, on another machine too.
        """
        recipe = self.recipe
        weights = {"weights": weights_digest(recipe.weights), "fine weights": peer_checksum(recipe.fine_weights)}
        return {**weights, "photographs or sequences": data_checksum(recipe.data)} if missing else weights


@dataclass(frozen=True)
class _Rows:
    source: PairSource
    prepare: Preparer

    def __call__(self, row: int) -> Row:
        return self.prepare(self.source.pair(row))
