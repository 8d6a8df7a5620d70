"""Distillation as a task of the training loop: students say what a larger, frozen backbone says.

As DINOv2's (arXiv 2304.07193, Sec. 5): nothing is masked, the loss on patches is of all of both global crops, and a
running mean of the student is kept (the loop's `ema`). Beside the paper's loss on prototypes' scores there is one on
the tokens themselves, which small data favours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.backbones.base import Backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.pretrain.clusters import spherical_kmeans
from slamfeat.pretrain.collectives import sum_over_ranks
from slamfeat.pretrain.crops import GLOBAL, CropConfig, make_crops
from slamfeat.pretrain.distill_losses import centred_loss, dense_loss, likenesses
from slamfeat.pretrain.distill_networks import Scale, Student, StudentOutputs, Teacher, TokenSample
from slamfeat.pretrain.distill_recipe import DistillRecipe
from slamfeat.pretrain.light import apply_light
from slamfeat.pretrain.losses import dino_loss, ibot_loss, koleo_of_views
from slamfeat.pretrain.network import whole_copy
from slamfeat.pretrain.order import ImageOrder
from slamfeat.pretrain.packed import CropTokens, packable, run_packed
from slamfeat.pretrain.parameter_groups import parameter_groups
from slamfeat.pretrain.precision import unit
from slamfeat.pretrain.probes import Probes
from slamfeat.pretrain.sources import Joined
from slamfeat.train.distributed import Ranks
from slamfeat.train.sharding import whole
from slamfeat.train.task import Batch

TOKENS_A_PROTOTYPE = 16
"""Of patches, that prototypes are clusters of."""


class Distillation(nn.Module):
    """Everything that trains, and what was measured of the teacher.

    Attributes:
        students: by name.
        patch_scales, cls_scales: of the teacher's tokens, one a taught layer.
        cls_centres, patch_centres: (K, C) prototypes of the last layer's tokens.
    """

    def __init__(self, students: Mapping[str, Student], teacher_dim: int, layers: int, prototypes: int) -> None:
        """Measure nothing yet; see `DistillTask.measure`."""
        super().__init__()
        self.students = nn.ModuleDict(students)
        self.patch_scales = nn.ModuleList(Scale(teacher_dim) for _ in range(layers))
        self.cls_scales = nn.ModuleList(Scale(teacher_dim) for _ in range(layers))
        # No buffers: those are put by before every step, and these are large and never change.
        self.cls_centres = nn.Parameter(torch.zeros(prototypes, teacher_dim), requires_grad=False)
        self.patch_centres = nn.Parameter(torch.zeros(prototypes, teacher_dim), requires_grad=False)


class DistillTask:
    """A `slamfeat.train.task.Task`."""

    size: int | None = None

    def __init__(
        self, recipe: DistillRecipe, module: Distillation, teacher: Teacher, images: Joined, numbers: Sequence[int],
        probes: Probes,
    ) -> None:  # fmt: skip
        """Train the students of `module`.

        Args:
            recipe: see the class.
            module: trained in place.
            teacher: its layers are those of the recipe's pairs, and last its last block where prototypes are used.
            images: read in threads.
            numbers: of the images to learn from, rising.
            probes: figures of a backbone on images that are not among them; students are compared with the teacher on
                them too.

        Raises:
            ConfigError: fewer images than a batch holds.
        """
        self.recipe, self.module, self.teacher, self.images, self.probes = recipe, module, teacher, images, probes
        self._numbers = numbers
        self._order = ImageOrder(numbers, recipe.loop.seed, recipe.loop.batch)
        self._students: dict[str, Student] = {n: s for n, s in module.students.items() if isinstance(s, Student)}

    @property
    def frozen(self) -> Sequence[nn.Module]:
        """The teacher."""
        return (self.teacher.backbone,)

    @torch.no_grad()
    def measure(self, ranks: Ranks) -> None:
        """Scales and prototypes of the teacher's tokens, from the first images of the run; before the first step.

        The processes share the images out, and each has the tokens of all in the end. What they make of them may
        differ in the last bit on GPUs: the loop begins with the first one's weights everywhere.
        """
        config = self.recipe.prototypes
        self.teacher.backbone.to(ranks.device)
        samples = self.sample(ranks)
        for one in samples:
            one.cls, one.patch = sum_over_ranks(one.cls), sum_over_ranks(one.patch)
        of_maps = samples[: len(self.module.patch_scales)]  # one more is the prototypes'
        for one, of_patches, of_classes in zip(of_maps, self.module.patch_scales, self.module.cls_scales, strict=True):
            _scale(of_patches).measure(one.rows(one.patch))
            _scale(of_classes).measure(one.rows(one.cls))
        last = samples[-1]
        if config.dino:
            self.module.cls_centres.copy_(spherical_kmeans(last.rows(last.cls), config.count))
        if config.ibot:
            self.module.patch_centres.copy_(spherical_kmeans(last.rows(last.patch), config.count))

    @torch.no_grad()
    def sample(self, ranks: Ranks) -> list[TokenSample]:
        """This process's share of the tokens that `measure` looks at, a taught layer each."""
        config, batch, crops = self.recipe.prototypes, self.recipe.loop.batch, self.recipe.crops
        patches, most = (crops.global_size // self._patch) ** 2, TOKENS_A_PROTOTYPE * config.count
        given = config.images, batch, most, patches, self.teacher.backbone.embed_dim, ranks.device
        samples = [TokenSample(*given) for _ in self.teacher.layers]
        chunk = max(1, batch // ranks.world)
        for first in range(ranks.rank * chunk, config.images, ranks.world * chunk):
            numbers = range(first, min(first + chunk, config.images))
            made = self._cut(numbers, replace(crops, local_count=0))
            lit = self._lit({name: part.to(ranks.device) for name, part in made.items()}, "global")
            with torch.autocast(ranks.device.type, torch.bfloat16, enabled=self.recipe.loop.precision == "bf16"):
                taught = self._teach(lit)
            for sample, tokens in zip(samples, taught, strict=True):
                sample.add(numbers, tokens)
        return samples

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Backbones by depth, heads and maps at the full rate; the prototypes stand still at first."""
        groups: list[dict[str, Any]] = []
        rates = self.recipe.rates
        for name, student in self._students.items():
            own = parameter_groups(
                student.backbone, student.heads, rates.layer_decay, rates.patch_embed, rates.last_layer_from
            )
            maps = [p for part in (student.patch_maps, student.cls_maps) for p in part.parameters()]
            if maps:
                own.append({"params": maps, "name": "maps"})
            # Clipped apart, so that a student learns what it would learn alone.
            groups += [{**group, "name": f"{name}.{group['name']}", "clipped": name} for group in own]
        return groups

    def shard_units(self) -> list[nn.Module]:
        """Each block, then each student."""
        return [unit for student in self._students.values() for unit in (*student.backbone.blocks, student)]

    def student_backbone(self, name: str) -> Backbone:
        """A frozen copy of a student's backbone, whole wherever its parameters are."""
        config = next(student for student in self.recipe.students if student.name == name)
        return whole_copy(self._students[name].backbone, config.architecture(self.recipe.crops.global_size))

    @torch.no_grad()
    def imitating(
        self, name: str, state: Mapping[str, Tensor], architecture: Architecture
    ) -> tuple[dict[str, Tensor], Architecture]:
        """A student's weights and architecture with the map that makes the teacher's tokens of its last block's."""
        pair = self.recipe.imitating_pair(architecture.depth)
        assert pair is not None, "the recipe checks this"
        mapped, scale = self._students[name].patch_maps[pair], _scale(self.module.patch_scales[pair])
        assert isinstance(mapped, nn.Linear)  # for the type checker
        weight, bias = whole(mapped.weight), whole(mapped.bias)
        spread, mean = scale.spread.to(weight), scale.mean.to(weight)
        made = {**state, "output.weight": spread[:, None] * weight, "output.bias": spread * bias + mean}
        block = f"{self.teacher.backbone.name}/{self.teacher.layers[pair]}"
        return made, replace(architecture, output_dim=len(bias), imitates=block)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Crops of the images behind some sample numbers; of one size, since a batch's numbers follow one another."""
        sizes = self.recipe.sizes or [self.recipe.crops.global_size]
        size = sizes[min(indices) // self.recipe.loop.batch % len(sizes)]
        return self._cut(indices, replace(self.recipe.crops, global_size=size))

    def _cut(self, indices: Sequence[int], config: CropConfig) -> Batch:
        generators = [np.random.default_rng([self.recipe.loop.seed, index]) for index in indices]
        images = [self.images.read_or_next(self._order.image(index), self._numbers) for index in indices]
        return make_crops(images, config, generators)

    def loss(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """All students' losses, added."""
        crops = [self._lit(batch, kind) for kind in ("global", "local") if kind in batch]
        taught = self._teach(crops[0])
        total, figures = crops[0].new_zeros(()), {}
        for name, student in self._students.items():
            for part, (weight, value) in self._parts(student, crops, taught).items():
                total = total + weight * value
                figures[f"{name}_{part}" if len(self._students) > 1 else part] = value.detach()
        return total, figures

    def evaluate(self) -> dict[str, float]:
        """What the probes say of each student; `score` is the mean of theirs."""
        figures: dict[str, float] = {}
        for name in self._students:
            backbone = self.student_backbone(name)
            own = self.probes(backbone) | self._likeness(name, backbone)
            figures |= own if len(self._students) == 1 else {f"{name}_{k}": v for k, v in own.items()}
        if "score" not in figures:
            figures["score"] = float(np.mean([figures[f"{name}_score"] for name in self._students]))
        return figures

    @torch.no_grad()
    def _likeness(self, name: str, backbone: Backbone) -> dict[str, float]:
        """Mean cosine between the teacher's patches and what the student's maps make of its own, by the taught block.

        `alike` is that of the tokens as they are; `alike_centred`, which a student that always says the mean has 0 of,
        is that of the tokens in standard deviations from their mean; `alike_in_image` that of the tokens less their
        image's mean, as frontends compare them.
        """
        student, said = self._students[name], dict[str, list[float]]()
        maps = [(whole(one.weight), whole(one.bias)) for one in student.patch_maps if isinstance(one, nn.Linear)]
        network, images = packable(backbone), self.probes.images_at(self._patch) if maps else []
        for first in range(0, len(images), self.recipe.probes.batch):
            seen = torch.stack(images[first : first + self.recipe.probes.batch]).to(maps[0][0].device)
            crops = self.teacher.backbone.normalize(seen)
            taught, own = self._teach(crops), run_packed(network, [crops], layers=student.layers)
            for number, ((weight, bias), (tokens,)) in enumerate(zip(maps, own, strict=True)):
                scale, end = _scale(self.module.patch_scales[number]), f"_{number}" if len(maps) > 1 else ""
                guess, target = F.linear(tokens.patch.float(), weight, bias), scale(taught[number].patch)
                looks = zip(likenesses(guess, scale), likenesses(target, scale), strict=True)
                for key, (ours, theirs) in zip(("alike", "alike_centred", "alike_in_image"), looks, strict=True):
                    cosines = F.cosine_similarity(ours, theirs, dim=-1)
                    said.setdefault(key + end, []).extend(cosines.mean(1).tolist())
        return {key: float(np.mean(values)) for key, values in said.items()}

    @property
    def _patch(self) -> int:
        return next(iter(self._students.values())).backbone.patch_size

    def _lit(self, batch: Batch, kind: str) -> Tensor:
        """Crops of a kind with their light, normalised."""
        with torch.autocast(batch[kind].device.type, enabled=False):
            return self.teacher.backbone.normalize(apply_light(batch[kind], batch[f"{kind}_light"]))

    def _teach(self, crops: Tensor) -> list[CropTokens]:
        return self.teacher(crops, self._patch)

    def _parts(
        self, student: Student, crops: list[Tensor], taught: list[CropTokens]
    ) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each loss of one student."""
        said: StudentOutputs = student(crops)
        dense, config = self.recipe.dense, self.recipe.prototypes
        parts: dict[str, tuple[float, Tensor]] = {}
        for number, (patches, classes) in enumerate(zip(said.patches, said.classes, strict=True)):
            target, end = taught[number], f"_{number}" if len(said.patches) > 1 else ""
            share = dense.weight / len(said.patches)
            scale = _scale(self.module.patch_scales[number])
            parts[f"patch{end}"] = share, dense_loss(patches, scale(target.patch), dense)
            if dense.centred:
                parts[f"centred{end}"] = share * dense.centred, centred_loss(scale.undo(patches.float()), target.patch)
            cls_loss = dense_loss(classes, self.module.cls_scales[number](target.cls), dense)
            parts[f"class{end}"] = share * dense.cls, cls_loss
        if said.cls_logits is not None:
            parts["dino"] = config.dino, self._dino(said.cls_logits, taught[-1])
        if said.patch_logits is not None:
            parts["ibot"] = config.ibot, self._ibot(said.patch_logits, taught[-1])
        if config.koleo:
            parts["koleo"] = config.koleo, koleo_of_views(said.cls.chunk(GLOBAL))
        return parts

    def _dino(self, logits: Tensor, taught: CropTokens) -> Tensor:
        """Class tokens across crops; logits (B, K) of all crops, the global ones first."""
        config, seen = self.recipe.prototypes, len(taught.cls)
        targets = _scores(taught.cls, self.module.cls_centres, config.teacher_temperature)
        local = logits[seen:].view(-1, seen // GLOBAL, config.count) if len(logits) > seen else None
        views = logits[:seen].view(GLOBAL, -1, config.count)
        return dino_loss(views, local, targets.view(GLOBAL, -1, config.count), config.temperature)

    def _ibot(self, logits: Tensor, taught: CropTokens) -> Tensor:
        """All patches of the global crops; logits (B * N, K)."""
        config = self.recipe.prototypes
        targets = _scores(taught.patch.flatten(0, 1), self.module.patch_centres, config.teacher_temperature)
        everywhere = torch.ones(taught.patch.shape[:2], dtype=torch.bool, device=targets.device)
        return ibot_loss(logits, targets, everywhere, config.temperature)


def _scores(tokens: Tensor, centres: Tensor, temperature: float) -> Tensor:
    """Probabilities (N, K) of prototypes."""
    return (unit(tokens) @ centres.T / temperature).softmax(-1)


def _scale(module: nn.Module) -> Scale:
    assert isinstance(module, Scale)  # for the type checker
    return module
