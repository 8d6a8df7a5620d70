"""From a recipe to a file of heads: pairs are prepared, each head is trained, and all are put together.

OUT/
  recipe.yaml         all settings; its first line is the command
  cache/STAGE_SPLIT/  prepared pairs, see `PairCache`
  matcher/, refiner/  runs of the loop, see `slamfeat.train.run_folder`
  heads.safetensors   when all stages have ended

Everything goes on where it was interrupted, and a stage whose settings are unchanged is not made again.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from slamfeat.config import to_yaml
from slamfeat.errors import ConfigError, InputError
from slamfeat.files import write_text
from slamfeat.frontend.heads.bundle import Heads, HeadsAbout, load_heads, save_heads
from slamfeat.frontend.heads.matcher import AttentionConfig, AttentionMatcher
from slamfeat.frontend.heads.refiner import PatchRefiner
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.train.cache import PairCache
from slamfeat.train.distributed import Ranks, joined_ranks, rank_and_world
from slamfeat.train.filling import fill
from slamfeat.train.loop import TrainingResult, train
from slamfeat.train.matcher_task import MatcherTask
from slamfeat.train.recipe import HeadsRecipe, MatcherStage
from slamfeat.train.refiner_task import RefinerTask
from slamfeat.train.rows import HeadRows
from slamfeat.train.run_folder import run_weights
from slamfeat.train.warm import published_fine, start_matcher

_ENDED = ("steps", "patience")
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
    device = (recipe.matcher if "matcher" in recipe.stages else recipe.refiner).loop.device
    with joined_ranks(device) as ranks:  # once for all stages: a group that was left cannot be joined again
        if ranks.first:
            write_text(out / "recipe.yaml", (f"# {command}\n" if command else "") + to_yaml(recipe))
        return _make_heads(recipe, out, command, say, stop, ranks)


def _make_heads(
    recipe: HeadsRecipe, out: Path, command: str, say: Callable[[str], None], stop: Callable[[], bool], ranks: Ranks
) -> HeadsResult:
    results: dict[str, TrainingResult] = {}
    about, made = _about(recipe), list[nn.Module]()
    for stage in (stage for stage in ("matcher", "refiner") if stage in recipe.stages):
        caches = _caches(recipe, stage, out, say, stop)
        if caches is None:
            return HeadsResult(None, results)
        task = _task(recipe, stage, *caches)
        settings = recipe.matcher if stage == "matcher" else recipe.refiner
        say(f"{stage}: training on {caches[0].count} pairs, judged on {caches[1].count} others")
        results[stage] = train(
            task, settings.loop, out / stage, settings=settings, resume="auto", command=command, stop=stop
        )
        if results[stage].reason not in _ENDED:
            return HeadsResult(None, results)
        ranks.meet()  # the first writes the best weights
        task.module.load_state_dict(run_weights(out / stage))
        made.append(task.module)
    file = out / "heads.safetensors"
    if ranks.first:
        save_heads(_join(recipe, about, made, results), file)
        say(f"written to {file}")
    return HeadsResult(file, results)


def _about(recipe: HeadsRecipe) -> HeadsAbout:
    backbone, _ = load_pretrained(recipe.weights, torch.device("cpu"))
    if recipe.layer >= backbone.depth:
        raise ConfigError(f"layer: {backbone.name} has blocks 0..{backbone.depth - 1}, not {recipe.layer}")
    return HeadsAbout(backbone.name, recipe.layer, recipe.fine)


def _caches(
    recipe: HeadsRecipe, stage: str, out: Path, say: Callable[[str], None], stop: Callable[[], bool]
) -> tuple[PairCache, PairCache] | None:
    """Prepared pairs of both splits; None where preparing was interrupted."""
    caches = []
    for split in ("train", "held_out"):
        rows, folder = HeadRows(recipe, stage, split), out / "cache" / f"{stage}_{split}"
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
    return PairCache.create(folder, rows.count, rows.preparer().fields, rows.made())


def _task(recipe: HeadsRecipe, stage: str, cache: PairCache, held_out: PairCache) -> MatcherTask | RefinerTask:
    settings = recipe.matcher if stage == "matcher" else recipe.refiner
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.loop.seed)
        if stage == "refiner":
            return RefinerTask(recipe.refiner.task, recipe.refiner.model, cache, held_out)
        matcher = AttentionMatcher(_fitted(recipe.matcher, cache))
    start_matcher(matcher, recipe.matcher.warm)
    return MatcherTask(recipe.matcher.task, matcher, cache, held_out)


def _fitted(stage: MatcherStage, cache: PairCache) -> AttentionConfig:
    """The model's settings with the channels that the prepared pairs have."""
    tokens = cache.fields["tokens0"][0][1] if stage.model.token_dim else 0
    return replace(stage.model, input_dim=cache.fields["descriptors0"][0][1], token_dim=tokens)


def _join(
    recipe: HeadsRecipe, about: HeadsAbout, made: Sequence[nn.Module], results: Mapping[str, TrainingResult]
) -> Heads:
    """All parts in one, those of `recipe.others` among them."""
    others = load_heads(recipe.others) if recipe.others else None
    parts = [*made, *([others.matcher, others.refiner] if others else [])]
    matcher = next((part for part in parts if isinstance(part, AttentionMatcher)), None)
    refiner = next((part for part in parts if isinstance(part, PatchRefiner)), None)
    notes = {
        **recipe.notes, "recipe": to_yaml(recipe), "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **{stage: f"step {one.best_step or one.step}, score {one.best_score}" for stage, one in results.items()},
    }  # fmt: skip
    described = replace(
        about, matcher=None if matcher is None else matcher.config, refiner=None if refiner is None else refiner.config,
        notes=notes,
    )  # fmt: skip
    heads = Heads(described)
    heads.fine.load_state_dict(published_fine(recipe.fine, recipe.fine_weights).state_dict())
    for own, trained in ((heads.matcher, matcher), (heads.refiner, refiner)):
        if own is not None and trained is not None:
            own.load_state_dict(trained.state_dict())
    return heads
