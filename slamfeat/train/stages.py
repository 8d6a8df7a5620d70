"""The stages that a recipe can have, one entry each: what makes its rows, what is trained, what comes of it.

Rows and runs are alike for all of them, see `slamfeat.train.heads_run`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import nn

from slamfeat.config import to_dict
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.heads.bundle import FINE_BRANCHES, Heads, HeadsAbout
from slamfeat.frontend.heads.descriptor import DescriptorConfig, JoinedDescriptor
from slamfeat.frontend.heads.matcher import AttentionMatcher
from slamfeat.frontend.heads.saliency import SaliencyHead
from slamfeat.train.cache import Fields, PairCache
from slamfeat.train.joint_data import JointPreparer
from slamfeat.train.joint_model import JointHeads
from slamfeat.train.joint_task import JointTask
from slamfeat.train.matcher_task import MatcherTask
from slamfeat.train.pairs import TrainingPair
from slamfeat.train.prepare import MatcherPreparer
from slamfeat.train.recipe import HeadsRecipe
from slamfeat.train.refiner_data import RefinerPreparer
from slamfeat.train.refiner_task import RefinerTask
from slamfeat.train.task import Task
from slamfeat.train.warm import published_fine, start_matcher
from slamfeat.train.weights import check_frozen

Row = dict[str, NDArray[Any]]


class Preparer(Protocol):
    """Makes rows of pairs."""

    @property
    def fields(self) -> Fields:
        """Of a `PairCache`."""

    def __call__(self, pair: TrainingPair) -> Row:
        """One row."""


@dataclass(frozen=True)
class StageKind:
    """A stage.

    Attributes:
        preparer: makes its rows, on a device.
        decides: settings that decide the rows, beside those that do in every stage.
        task: what is trained, on rows to learn from and rows to judge by; its module begins with the same weights for
            the same seed.
        parts: the heads in a trained module, by their names in a bundle.
    """

    preparer: Callable[[HeadsRecipe, torch.device], Preparer]
    decides: Callable[[HeadsRecipe], dict[str, Any]]
    task: Callable[[HeadsRecipe, PairCache, PairCache], Task]
    parts: Callable[[nn.Module], dict[str, nn.Module]]


def _frontend(recipe: HeadsRecipe, slots: int, layers: list[int], device: torch.device) -> Frontend:
    """In torch and float32, so that the rows are the same on every machine to rounding.

    Raises:
        ConfigError: a backbone that is not frozen.
    """
    config = FrontendConfig(num_keypoints=slots, layers=layers, cell=recipe.cell)
    frontend = Frontend.from_pretrained(recipe.weights, config=config, device=device, engine="torch", precision="fp32")
    check_frozen([frontend.backbone])
    return frontend


def _joint_preparer(recipe: HeadsRecipe, device: torch.device) -> JointPreparer:
    width, height = recipe.joint.size
    frontend = _frontend(recipe, recipe.joint.keypoints, recipe.joint_layers, device)
    return JointPreparer(frontend, (width, height))


def _joint_task(recipe: HeadsRecipe, cache: PairCache, held_out: PairCache) -> JointTask:
    stage, tokens = recipe.joint, cache.fields["tokens0"][0][1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stage.loop.seed)
        fine = FINE_BRANCHES[recipe.fine]()
        descriptor = JoinedDescriptor(DescriptorConfig(recipe.joint_layers, tokens, fine.dim, stage.dim))
        matcher = AttentionMatcher(replace(stage.model, input_dim=stage.dim, token_dim=0))
        saliency = SaliencyHead(replace(stage.saliency, input_dim=fine.dim)) if stage.task.saliency_weight else None
    return JointTask(stage.task, JointHeads(fine, descriptor, matcher, saliency), cache, held_out)


def _joint_parts(module: nn.Module) -> dict[str, nn.Module]:
    assert isinstance(module, JointHeads), "of `_joint_task`"
    return module.parts()


def _matcher_preparer(recipe: HeadsRecipe, device: torch.device) -> MatcherPreparer:
    plain = _frontend(recipe, recipe.matcher.keypoints, [recipe.layer], device)
    heads = Heads(HeadsAbout(plain.backbone.name, recipe.layer, recipe.fine))
    heads.fine.load_state_dict(published_fine(recipe.fine, recipe.fine_weights).state_dict())
    check_frozen([heads.fine])
    config = replace(plain.config, selector=recipe.matcher.selector)
    return MatcherPreparer(Frontend(plain.backbone, config, plain.name, plain.engine, heads))


def _matcher_task(recipe: HeadsRecipe, cache: PairCache, held_out: PairCache) -> MatcherTask:
    stage = recipe.matcher
    tokens = cache.fields["tokens0"][0][1] if stage.model.token_dim else 0
    fitted = replace(stage.model, input_dim=cache.fields["descriptors0"][0][1], token_dim=tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stage.loop.seed)
        matcher = AttentionMatcher(fitted)
    start_matcher(matcher, stage.warm)
    return MatcherTask(stage.task, matcher, cache, held_out)


def _refiner_preparer(recipe: HeadsRecipe, device: torch.device) -> RefinerPreparer:
    points = recipe.refiner.points
    return RefinerPreparer(_frontend(recipe, 2 * points, [recipe.layer], device), points)


def _refiner_task(recipe: HeadsRecipe, cache: PairCache, held_out: PairCache) -> RefinerTask:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.refiner.loop.seed)
        return RefinerTask(recipe.refiner.task, recipe.refiner.model, cache, held_out)


KINDS = {
    "joint": StageKind(
        _joint_preparer,
        lambda recipe: {"size": list(recipe.joint.size), "layers": recipe.joint_layers},
        _joint_task,
        _joint_parts,
    ),
    "matcher": StageKind(
        _matcher_preparer,
        lambda recipe: {
            "fine": recipe.fine,
            "fine_weights": recipe.fine_weights,
            "selector": to_dict(recipe.matcher.selector),
        },
        _matcher_task,
        lambda module: {"matcher": module},
    ),
    "refiner": StageKind(_refiner_preparer, lambda recipe: {}, _refiner_task, lambda module: {"refiner": module}),
}
"""By name, in the order in which they are made."""
