"""From a recipe to a file of heads: pairs are prepared, each head is trained, and all are put together.

OUT/
  recipe.yaml         all settings; its first line is the command
  cache/STAGE_SPLIT/  prepared pairs, see `PairCache`
  joint/, matcher/, refiner/  runs of the loop, see `slamfeat.train.run_folder`
  heads.safetensors   when all stages have ended

Everything goes on where it was interrupted, and a stage whose settings are unchanged is not made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slamfeat.commit import commit
from slamfeat.config import to_yaml
from slamfeat.errors import ConfigError, InputError
from slamfeat.files import write_text
from slamfeat.frontend.heads.bundle import PARTS, Heads, HeadsAbout, load_heads, save_heads
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.train.cache import PairCache
from slamfeat.train.distributed import Ranks, joined_ranks, rank_and_world
from slamfeat.train.filling import fill
from slamfeat.train.loop import TrainingResult, train
from slamfeat.train.model_card import model_card
from slamfeat.train.order import check_shared
from slamfeat.train.recipe import HeadsRecipe
from slamfeat.train.rows import HeadRows
from slamfeat.train.run_folder import RunFolder, check_settings, run_weights
from slamfeat.train.stages import KINDS
from slamfeat.train.warm import published_fine

_ENDED = ("steps", "patience")
SPLITS = ("train", "held_out")
_WAIT_S = 0.2


@dataclass(frozen=True)
class HeadsResult:
    """How a session ended.

    Attributes:
        heads: the file; None where the session was interrupted before.
        stages: stage -> how its training ended; stages that were not reached are missing.
    """

    heads: Path | None
    stages: dict[str, TrainingResult]


def make_heads(
    recipe: HeadsRecipe, out: str | Path, *, command: str = "", say: Callable[[str], None] = lambda line: None,
    stop: Callable[[], bool] = lambda: False,
) -> HeadsResult:  # fmt: skip
    """Do what a recipe says, or go on with it; under torchrun in every process.

    Args:
        recipe: see the class.
        out: folder of everything.
        command: that repeats it, for recipe.yaml.
        say: told what begins, and how far preparing is.
        stop: asked often; true ends the session, and nothing is lost.

    Raises:
        ConfigError: settings that do not fit each other, or another recipe's folder.
        InputError, WeightsError: data or published weights that are missing or damaged.
        OutputError: the folder cannot be written.
        TrainingError: the loss or a gradient is not finite.
    """
    out = Path(out)
    device = recipe.settings(_stages(recipe)[0]).loop.device
    with joined_ranks(device) as ranks:  # once for all stages: a group that was left cannot be joined again
        _check_before(recipe, out)
        ranks.meet()  # what the first writes from here on is not to be found by the others' checks
        return _make_heads(recipe, out, command, say, stop, ranks)


def _make_heads(
    recipe: HeadsRecipe, out: Path, command: str, say: Callable[[str], None], stop: Callable[[], bool], ranks: Ranks
) -> HeadsResult:
    results: dict[str, TrainingResult] = {}
    about, code = _about(recipe), commit()
    parts = _borrowed(recipe, about)
    if ranks.first:
        write_text(out / "recipe.yaml", (f"# {command}\n" if command else "") + to_yaml(recipe))
    for stage in _stages(recipe):
        caches = _caches(recipe, stage, out, say, stop)
        if caches is None:
            return HeadsResult(None, results)
        task, settings = KINDS[stage].task(recipe, *caches), recipe.settings(stage)
        say(f"{stage}: training on {caches[0].count} pairs, judged on {caches[1].count} others")
        results[stage] = train(
            task, settings.loop, out / stage, settings=settings, resume="auto", command=command, stop=stop
        )
        if results[stage].reason not in _ENDED:
            return HeadsResult(None, results)
        ranks.meet()  # the first writes the best weights
        task.module.load_state_dict(run_weights(out / stage))
        parts |= KINDS[stage].parts(task.module)
    file = out / "heads.safetensors"
    if ranks.first:
        save_heads(_join(recipe, about, parts, model_card(recipe, results, code)), file)
        say(f"written to {file}")
    return HeadsResult(file, results)


def _check_before(recipe: HeadsRecipe, out: Path) -> None:
    """Raise now, rather than after hours of preparing, where processes cannot share a batch or photographs are missing.

    What a source lacks must not leave a cache either, that would stand in the way of the next recipe; and where the
    folder is another recipe's, its recipe.yaml is to stay.
    """
    for stage in _stages(recipe):
        settings, config = recipe.settings(stage), RunFolder(out / stage).config
        check_shared(settings.loop, rank_and_world()[1], f"{stage}.loop.batch")
        if config.is_file():
            check_settings(config, settings)
        for split in SPLITS:
            _check_rows(HeadRows(recipe, stage, split), _cache_folder(out, stage, split))


def _check_rows(rows: HeadRows, folder: Path) -> None:
    if PairCache.is_in(folder):
        PairCache.open(folder).check(rows.count, rows.made(), rows.sources)
    else:
        rows.source()


def _cache_folder(out: Path, stage: str, split: str) -> Path:
    return out / "cache" / f"{stage}_{split}"


def _stages(recipe: HeadsRecipe) -> list[str]:
    return [stage for stage in KINDS if stage in recipe.stages]


def _about(recipe: HeadsRecipe) -> HeadsAbout:
    backbone, _ = load_pretrained(recipe.weights, torch.device("cpu"))
    for layer in (recipe.layer, *recipe.joint_layers):
        if layer >= backbone.depth:
            raise ConfigError(f"layer: {backbone.name} has blocks 0..{backbone.depth - 1}, not {layer}")
    return HeadsAbout(backbone.name, recipe.layer, recipe.fine)


def _caches(
    recipe: HeadsRecipe, stage: str, out: Path, say: Callable[[str], None], stop: Callable[[], bool]
) -> tuple[PairCache, PairCache] | None:
    """Prepared pairs of both splits; None where preparing was interrupted."""
    caches = []
    for split in SPLITS:
        rows, folder = HeadRows(recipe, stage, split), _cache_folder(out, stage, split)
        cache = _lay_out(rows, folder)
        if missing := len(cache.missing()):
            say(f"{stage}: preparing {missing} of {cache.count} pairs ({split}) in {folder}")
        if not fill(cache, rows, recipe.workers, say, stop):
            return None
        caches.append(PairCache.open(folder))
    return caches[0], caches[1]


def _lay_out(rows: HeadRows, folder: Path) -> PairCache:
    """The first process lays the cache out; the others wait for it."""
    if rank_and_world()[0] > 0:
        while True:
            with suppress(InputError):
                return PairCache.open(folder)
            time.sleep(_WAIT_S)
    return PairCache.create(folder, rows.count, rows.preparer().fields, rows.made(), rows.sources)


def _check_borrowed(theirs: HeadsAbout, ours: HeadsAbout, layers: list[int]) -> None:
    """Raise ConfigError unless heads whose matcher is taken learnt what this recipe's heads will be given."""
    if theirs.fine != ours.fine:
        raise ConfigError(f"others: these heads learnt with fine={theirs.fine}; set that")
    tokens = theirs.matcher is not None and theirs.matcher.token_dim > 0
    if (tokens or theirs.descriptor is not None) and theirs.backbone != ours.backbone:
        raise ConfigError(f"others: these heads learnt on tokens of {theirs.backbone}, not {ours.backbone}")
    if tokens and theirs.layer != ours.layer:
        raise ConfigError(f"others: these heads learnt on block {theirs.layer}; set layer={theirs.layer}")
    if theirs.descriptor is not None and theirs.descriptor.layers != layers:
        raise ConfigError(f"others: these heads learnt on blocks {theirs.descriptor.layers}; set joint.layers to them")


def _borrowed(recipe: HeadsRecipe, about: HeadsAbout) -> dict[str, nn.Module]:
    """What is taken from `recipe.others`: a refiner, and a matcher with what it belongs to where no stage makes one.

    Stages write over what they make.

    Raises:
        ConfigError: a matcher that learnt with another fine branch, or on other tokens.
    """
    if not recipe.others:
        return {}
    others = load_heads(recipe.others)
    taken: dict[str, nn.Module | None] = {"refiner": others.refiner}
    if not {"joint", "matcher"} & set(recipe.stages):
        taken |= {name: getattr(others, name) for name in ("fine", "matcher", "descriptor", "saliency")}
        _check_borrowed(others.about, about, recipe.joint_layers)
    return {name: part for name, part in taken.items() if part is not None}


def _join(recipe: HeadsRecipe, about: HeadsAbout, parts: Mapping[str, Any], card: dict[str, str]) -> Heads:
    """All parts in one, by their names in a bundle; the published fine branch where none was trained."""
    configs = {name: part.config for name, part in parts.items() if name in PARTS}
    heads = Heads(replace(about, notes=card, **configs))
    fine = parts.get("fine") or published_fine(recipe.fine, recipe.fine_weights)
    for name, part in {**parts, "fine": fine}.items():
        getattr(heads, name).load_state_dict(part.state_dict())
    return heads
