"""DINOv2's pretraining as a task of the training loop (Oquab et al., arXiv 2304.07193)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slamfeat.backbones.base import Backbone
from slamfeat.errors import ConfigError, InputError
from slamfeat.pretrain.beginning import build_backbone
from slamfeat.pretrain.centring import Centring, SinkhornKnopp
from slamfeat.pretrain.crops import GLOBAL, make_crops
from slamfeat.pretrain.gram import GramTeacher
from slamfeat.pretrain.head import ProjectionHead
from slamfeat.pretrain.light import apply_light
from slamfeat.pretrain.losses import dino_loss, ibot_loss, koleo_of_views
from slamfeat.pretrain.masking import MaskConfig, mask_by_number
from slamfeat.pretrain.network import Network, Outputs, follow, make_teacher, whole_copy
from slamfeat.pretrain.order import ImageOrder
from slamfeat.pretrain.parameter_groups import parameter_groups
from slamfeat.pretrain.probes import Probes
from slamfeat.pretrain.recipe import PretrainRecipe, TeacherConfig
from slamfeat.pretrain.schedules import ramp, warmup_cosine
from slamfeat.pretrain.sources import Joined
from slamfeat.train.checkpoint import checkpoint_steps, load_weights
from slamfeat.train.run_folder import RunFolder
from slamfeat.train.schedule import Schedule
from slamfeat.train.task import Batch
from slamfeat.train.weights import copy_weights, kept_weights


class SelfDistillation(nn.Module):
    """Everything that trains and everything that changes.

    Attributes:
        student, teacher: networks of one kind.
        dino_targets, ibot_targets: what makes probabilities of the teacher's scores.
        gram: the Gram teacher; None where the recipe has none.
        step: steps made, for schedules that a resumed run must find where they stood.
    """

    step: Tensor

    def __init__(self, student: Network, recipe: PretrainRecipe) -> None:
        """The teacher begins as the student."""
        super().__init__()
        self.student, self.teacher = student, make_teacher(student)
        patch_head = student.dino_head if student.ibot_head is None else student.ibot_head
        self.dino_targets = _targets(recipe.teacher, student.dino_head)
        self.ibot_targets = _targets(recipe.teacher, patch_head)
        self.gram = GramTeacher(self.teacher.backbone, recipe.gram) if recipe.objective.gram else None
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def begin_with(self, start: Path) -> int:
        """Take student, teacher and heads from another pretraining; the Gram teacher begins as its teacher.

        Args:
            start: folder of its run, whose newest weights are taken and not its best: a later phase goes on from where
                the first one ended.

        Returns:
            The step that they are of.

        Raises:
            InputError, WeightsError: no run there, or of other networks.
            ConfigError: its positions are stored at another grid.
        """
        checkpoints = RunFolder(start).checkpoints
        steps = checkpoint_steps(checkpoints)
        if not steps:
            raise InputError(f"start: {start} holds no checkpoints of a pretraining; check the path")
        stored = load_weights(checkpoints, steps[-1])
        weights = {name: value for name, value in stored.items() if not name.startswith("gram.")}
        own = {name: value for name, value in kept_weights(self, ()).items() if not name.startswith("gram.")}
        _check_grid(weights, own, start)
        copy_weights(weights, own, str(start))
        self.step.zero_()
        if self.gram is not None:
            follow(self.gram.backbone, self.teacher.backbone, 0.0)
        return steps[-1]

    def train(self, mode: bool = True) -> SelfDistillation:
        """Set the mode of all but the teachers, which never drop anything."""
        super().train(mode)
        self.teacher.eval()
        if self.gram is not None:
            self.gram.eval()
        return self


def build_student(recipe: PretrainRecipe) -> Network:
    """The network that a recipe begins with: the backbone by the recipe's seed, the heads by torch's generator.

    Raises:
        ConfigError, WeightsError: see `build_backbone`.
    """
    backbone = build_backbone(recipe.model, recipe.crops.global_size, recipe.loop.seed, recipe.init)
    dim = recipe.architecture.embed_dim
    dino = ProjectionHead(dim, recipe.dino_head)
    ibot = ProjectionHead(dim, recipe.ibot_head) if recipe.objective.separate_heads else None
    asked = recipe.objective.dino > 0
    return Network(backbone, dino, ibot, recipe.model.drop_path, recipe.model.recompute, asked)


class PretrainTask:
    """A `slamfeat.train.task.Task`: a student predicts what its own running mean says of other crops."""

    size: int | None = None
    frozen: Sequence[nn.Module] = ()

    def __init__(
        self, recipe: PretrainRecipe, module: SelfDistillation, images: Joined, numbers: Sequence[int], probes: Probes
    ) -> None:
        """Train `module` on some of the images.

        Args:
            recipe: see the class.
            module: trained in place.
            images: read in threads.
            numbers: of the images to learn from, rising.
            probes: figures of a backbone on images that are not among them.

        Raises:
            ConfigError: fewer images than a batch holds.
        """
        self.recipe, self.module, self.images, self.probes = recipe, module, images, probes
        self._numbers = numbers
        self._order = ImageOrder(numbers, recipe.loop.seed, recipe.loop.batch)
        teacher, steps = recipe.teacher, recipe.loop.steps
        self._momentum = warmup_cosine(teacher.momentum, teacher.final_momentum, steps)
        self._temperature = ramp(teacher.temperature, teacher.final_temperature, steps, teacher.warmup)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The student's, by depth; the prototypes stand still at first."""
        student, rates = self.module.student, self.recipe.rates
        heads = [head for head in (student.dino_head, student.ibot_head) if isinstance(head, ProjectionHead)]
        return parameter_groups(student.backbone, heads, rates.layer_decay, rates.patch_embed, rates.last_layer_from)

    def schedule(self) -> Schedule:
        """DINOv2's curves, not the heads': see `slamfeat.pretrain.schedules`."""
        loop = self.recipe.loop
        last = loop.weight_decay if loop.final_weight_decay is None else loop.final_weight_decay
        return Schedule(
            warmup_cosine(loop.lr, loop.final_lr, loop.steps, loop.warmup),
            warmup_cosine(loop.weight_decay, last, loop.steps),
        )

    def shard_units(self) -> list[nn.Module]:
        """Each block, then each network."""
        networks: list[Network | GramTeacher] = [self.module.student, self.module.teacher]
        if self.module.gram is not None:
            networks.append(self.module.gram)
        return [unit for network in networks for unit in (*network.backbone.blocks, network)]

    def batch(self, indices: Sequence[int]) -> Batch:
        """Crops and masks of the images behind some sample numbers."""
        generators = [np.random.default_rng([self.recipe.loop.seed, index]) for index in indices]
        images = [self.images.read_or_next(self._order.image(index), self._numbers) for index in indices]
        larger = self.recipe.gram.scale if self._is_anchored(indices) else 0
        batch = make_crops(images, self.recipe.crops, generators, larger)
        side = self.recipe.crops.global_size // self.recipe.architecture.patch_size
        config = self.recipe.masks if self.recipe.objective.ibot else MaskConfig(share=0)
        masks = [
            mask_by_number(GLOBAL * index + view, (side, side), config, rng)
            for view in range(GLOBAL)
            for index, rng in zip(indices, generators, strict=True)
        ]
        return {**batch, "masks": torch.from_numpy(np.stack(masks))}

    def _is_anchored(self, indices: Sequence[int]) -> bool:
        """Whether the Gram teacher looks at a batch; which step it is for follows from its sample numbers."""
        loop, from_step = self.recipe.loop, self.recipe.gram.from_step
        if loop.overfit:
            return self.recipe.objective.gram > 0
        return self.recipe.objective.gram > 0 and min(indices) // (loop.batch * loop.accumulate) >= from_step

    def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """DINO's, iBOT's, KoLeo's and Gram's losses by their weights."""
        crops, masks = self._crops(batch), batch["masks"]
        dino_targets, ibot_targets = self._teach(crops[0], masks)
        said = self.module.student(crops, masks, hide=True)
        parts = self._parts(said, dino_targets, ibot_targets, masks)
        if self.module.gram is not None and "large" in batch and int(self.module.step) >= self.recipe.gram.from_step:
            parts["gram"] = self.module.gram.loss(said.patches, batch["large"])
        return self._sum(parts)

    def after_step(self, step: int) -> None:
        """Move the teacher, and now and then the Gram teacher."""
        follow(self.module.teacher, self.module.student, float(self._momentum[step - 1]))
        self.module.step.fill_(step)
        if self.module.gram is not None and self.recipe.gram.renewed(step):
            follow(self.module.gram.backbone, self.module.teacher.backbone, 0.0)

    def evaluate(self) -> dict[str, float]:
        """What the probes say of the teacher's backbone."""
        return self.probes(self.teacher_backbone())

    def teacher_backbone(self) -> Backbone:
        """A frozen copy of the teacher's backbone, whole wherever its parameters are."""
        return whole_copy(self.module.teacher.backbone, self.recipe.architecture)

    def _crops(self, batch: Batch) -> list[Tensor]:
        """Global and local crops, lit and normalised."""
        with torch.autocast(batch["global"].device.type, enabled=False):
            lit = [apply_light(batch[k], batch[f"{k}_light"]) for k in ("global", "local") if k in batch]
            return [self.module.student.backbone.normalize(images) for images in lit]

    @torch.no_grad()
    def _teach(self, crops: Tensor, masks: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Targets of global crops (2B, K) and of masked patches (M, K'); None for those that no loss asks for."""
        temperature = float(self._temperature[min(int(self.module.step), len(self._temperature) - 1)])
        said: Outputs = self.module.teacher([crops], masks, hide=False)
        weights = self.recipe.objective
        dino = self.module.dino_targets(said.logits, temperature) if weights.dino else None
        return dino, self.module.ibot_targets(said.masked_logits, temperature) if weights.ibot else None

    def _parts(
        self, said: Outputs, dino_targets: Tensor | None, ibot_targets: Tensor | None, masks: Tensor
    ) -> dict[str, Tensor]:
        weights = self.recipe.objective
        parts: dict[str, Tensor] = {}
        seen = len(masks)  # global crops
        if dino_targets is not None:
            count = seen // GLOBAL
            local = _views(said.logits[seen:], count) if len(said.logits) > seen else None
            of_views = _views(said.logits[:seen], count), local, _views(dino_targets, count)
            parts["dino"] = dino_loss(*of_views, temperature=weights.temperature)
        if ibot_targets is not None:
            parts["ibot"] = ibot_loss(said.masked_logits, ibot_targets, masks, weights.temperature)
        if weights.koleo:
            parts["koleo"] = koleo_of_views(said.cls[:seen].chunk(GLOBAL), weights.koleo_group)
        return parts

    def _sum(self, parts: dict[str, Tensor]) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        total = torch.stack([getattr(self.recipe.objective, name) * part for name, part in parts.items()]).sum()
        return total, {name: part.detach() for name, part in parts.items()}


def _check_grid(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], start: Path) -> None:
    """Raise ConfigError where positions are of another grid, which follows the crops unless it is given."""
    key = "student.backbone.pos_embed"
    if key in weights and key in own and weights[key].shape[1] != own[key].shape[1]:
        theirs, ours = (math.isqrt(one.shape[1] - 1) for one in (weights[key], own[key]))
        raise ConfigError(
            f"start: {start.parent} stores positions of a grid of {theirs}, not {ours} as here; set model.grid={theirs}"
        )


def _views(rows: Tensor, count: int) -> Tensor:
    """(V*B, K) to (V, B, K)."""
    return rows.view(-1, count, rows.shape[-1])


def _targets(config: TeacherConfig, head: nn.Module) -> nn.Module:
    assert isinstance(head, ProjectionHead)  # for the type checker
    if config.targets == "sinkhorn":
        return SinkhornKnopp()
    return Centring(head.config.prototypes, config.centre_momentum)
