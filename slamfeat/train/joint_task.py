"""Training fine branch, descriptor, saliency and matcher together from nothing, as DINO-VO (arXiv 2507.13145)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from slamfeat.errors import ConfigError
from slamfeat.frontend.heads.assignment import Scores
from slamfeat.frontend.heads.matcher import MatcherInput, normalize_positions
from slamfeat.frontend.heads.saliency import Judged
from slamfeat.train.cache import PairCache
from slamfeat.train.draw import HELD_OUT_SEED, draw_views, first_of_batch, join_views, judged_layers
from slamfeat.train.joint_measures import joint_figures
from slamfeat.train.joint_model import JointHeads
from slamfeat.train.joint_pose import judge_pose
from slamfeat.train.losses import (
    PoseLossSchedule,
    deep_matching_nll,
    descriptor_nll,
    matching_nll,
    matching_quality,
    offset_distance,
    repeatability_loss,
    settled_losses,
)

Batch = dict[str, Tensor]
_OF_KEYPOINTS = ("keypoints", "mask", "tokens", "index", "found", "landed", "affine")
_OF_IMAGE = ("image", "K", "motion")
_CHUNK = 4


@dataclass
class JointTaskConfig:
    """What the heads are told.

    Attributes:
        keypoints: of each image, drawn anew every time; at most the cache's slots.
        layers: how many layers but the last are judged a step, drawn at random (deep supervision); negative for all.
        swap: whether the two images of a pair trade places half of the time.
        held_out: pairs of the held-out cache that are looked at.
        pose_after: steps before the pose comes into the loss.
        pose_ramp: by how much its share grows a step from there.
        pose_most: the share where it stays; 0 for no pose.
        least_probability: of the matches that the pose is made of.
        descriptor_weight: of the descriptors' own likelihood of the true matches, so that they can be compared without
            the matcher, and learn sooner; 0 for none, as in the paper.
        temperature: of the descriptors' similarity in that.
        saliency_weight: of the saliency's two losses, whether a keypoint is found again and how far matched ones lie
            apart (pixels); 0 for no saliency head.
    """

    keypoints: int = 512
    layers: int = -1
    swap: bool = True
    held_out: int = 128
    pose_after: int = 5000
    pose_ramp: float = 1.5e-4
    pose_most: float = 0.9
    least_probability: float = 0.1
    descriptor_weight: float = 0.5
    temperature: float = 0.07
    saliency_weight: float = 0.2

    def __post_init__(self) -> None:
        if self.keypoints < 8 or self.held_out < 1 or not 0 <= self.least_probability < 1:
            raise ConfigError("joint task: keypoints >= 8, held_out >= 1 and 0 <= least_probability < 1 are needed")
        if self.descriptor_weight < 0 or self.saliency_weight < 0 or self.temperature <= 0:
            raise ConfigError("joint task: descriptor_weight, saliency_weight >= 0 and temperature > 0 are needed")
        _ = self.pose_schedule

    @property
    def pose_schedule(self) -> PoseLossSchedule:
        """How the pose comes in.

        Raises:
            ConfigError: values out of range.
        """
        return PoseLossSchedule(self.pose_after, self.pose_ramp, self.pose_most)


class Seen(NamedTuple):
    """A batch as the heads see it.

    Attributes:
        images: the matcher's two inputs.
        judged: both images' keypoints by the saliency head; None without one.
        points0, points1: keypoints moved by their offsets.
    """

    images: tuple[MatcherInput, MatcherInput]
    judged: tuple[Judged, Judged] | None
    points0: Tensor
    points1: Tensor


class JointTask:
    """A `slamfeat.train.task.Task` on rows of `JointPreparer`."""

    size: int | None = None
    frozen: Sequence[nn.Module] = ()

    def __init__(self, config: JointTaskConfig, heads: JointHeads, cache: PairCache, held_out: PairCache) -> None:
        """Train `heads` in place on one cache and judge them on the other."""
        self.config, self.module, self.cache, self.held_out = config, heads, cache, held_out
        for parameter in heads.parameters():
            parameter.requires_grad_(True)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group."""
        return [{"params": list(self.module.parameters()), "name": "joint"}]

    def after_step(self, step: int) -> None:
        """The pose's share grows with the steps."""
        self.module.steps.fill_(step)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The pairs behind some sample numbers."""
        batch = self._batch(self.cache, indices, seed=0)
        return {**batch, "number": torch.tensor(first_of_batch(indices))}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """(1 - l) matching + l pose, l the share of the pose at this step, for pairs with a pose; matching for others.

        Matching is LightGlue's likelihood of the last layer and of layers before it, the descriptors' own, and what the
        saliency head costs. The confidences of the layers are added: they move nothing else.
        """
        seen = self.see(batch)
        judged = judged_layers(self.config.layers, self.module.matcher.config.layers, int(batch["number"]))
        outputs = list(self.module.matcher.layer_outputs(*seen.images, judged))
        scores = outputs[-1].scores
        told = deep_matching_nll([out.scores for out in outputs], batch["index0"], batch["index1"])
        settled = settled_losses(self.module.matcher, outputs, (batch["mask0"], batch["mask1"]))
        parts = {"nll": told.statistics["nll"], "settled": settled, **self._side_losses(seen, batch)}
        matching = told.loss + self.config.descriptor_weight * parts["descriptor_nll"]
        matching = matching + self.config.saliency_weight * (parts["saliency"] + parts["apart_px"])
        total = self._with_pose(matching, scores, seen, batch, parts) + settled
        return total, {
            name: value.detach() for name, value in {**parts, **matching_quality(scores, batch["index0"])}.items()
        }

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Held-out pairs; `score` is minus the likelihood of the last layer, the rest see `joint_figures`."""
        device = next(self.module.parameters()).device
        count, rows = min(self.config.held_out, self.held_out.count), list[dict[str, Tensor]]()
        for start in range(0, count, _CHUNK):
            numbers = range(start, min(start + _CHUNK, count))
            batch = {k: v.to(device) for k, v in self._batch(self.held_out, numbers, HELD_OUT_SEED).items()}
            seen = self.see(batch)
            scores = self.module.matcher(*seen.images)
            pose = judge_pose(scores, seen.points0, seen.points1, batch, self.config.least_probability)
            nll = matching_nll(scores, batch["index0"], batch["index1"]).loss
            quality = matching_quality(scores, batch["index0"])
            rows.append({"nll": nll, **quality, **joint_figures(pose, seen.judged, batch)})
        means = _means(rows)
        return {"score": -means["nll"], **means}

    def see(self, batch: Mapping[str, Tensor]) -> Seen:
        """Run the heads up to the matcher; both images of all pairs as one batch, for the norms' sake."""
        stacked = (torch.cat([batch[f"{name}0"], batch[f"{name}1"]]) for name in ("image", "keypoints", "tokens"))
        described = self.module(*stacked)
        size = torch.tensor(batch["image0"].shape[:0:-1], device=batch["image0"].device)
        images = []
        for number, descriptors in enumerate(described.descriptors.chunk(2)):
            positions = normalize_positions(batch[f"keypoints{number}"], size.expand(len(descriptors), 2))
            images.append(MatcherInput(positions, descriptors, None, batch[f"mask{number}"]))
        points = batch["keypoints0"], batch["keypoints1"]
        if described.judged is None:
            return Seen((images[0], images[1]), None, *points)
        logits, offsets = (part.float().chunk(2) for part in described.judged)
        judged = Judged(logits[0], offsets[0]), Judged(logits[1], offsets[1])
        return Seen((images[0], images[1]), judged, points[0] + offsets[0], points[1] + offsets[1])

    def _side_losses(self, seen: Seen, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first, second = seen.images
        zero = first.descriptors.new_zeros(())
        parts = {"descriptor_nll": zero, "saliency": zero, "apart_px": zero}
        if self.config.descriptor_weight:
            parts["descriptor_nll"] = descriptor_nll(
                first.descriptors, second.descriptors, first.mask, second.mask, batch["index0"], batch["index1"],
                self.config.temperature,
            )  # fmt: skip
        if seen.judged is not None:
            logits = torch.cat([judged.logit for judged in seen.judged], 1)
            parts["saliency"] = repeatability_loss(logits, torch.cat([batch["found0"], batch["found1"]], 1)).loss
            apart = offset_distance(
                batch["keypoints0"], batch["keypoints1"], seen.judged[0].offset, seen.judged[1].offset,
                batch["landed0"], batch["affine0"], batch["index0"],
            )  # fmt: skip
            parts["apart_px"] = apart.sum() / max(len(apart), 1)
        return parts

    def _with_pose(
        self, matching: Tensor, scores: Scores, seen: Seen, batch: Mapping[str, Tensor], parts: dict[str, Tensor]
    ) -> Tensor:
        """The whole loss; `parts` are told of the pose, 0 where there is none."""
        schedule, step = self.config.pose_schedule, int(self.module.steps)
        zero = matching.new_zeros(())
        parts |= {"pose": zero, "pose_share": zero}
        if schedule.share(step) == 0:
            return matching
        judged = judge_pose(scores, seen.points0, seen.points1, batch, self.config.least_probability)
        if judged.loss is None:
            return matching
        posed = float(judged.usable.float().mean())
        parts |= {"pose": judged.loss.loss, "pose_share": zero + schedule.share(step) * posed}
        return schedule.mix(matching, judged.loss.loss, step, posed)

    def _batch(self, cache: PairCache, indices: Sequence[int], seed: int) -> Batch:
        values = cache.read([index % cache.count for index in indices])
        pairs = [self._draw(values, place, index, seed) for place, index in enumerate(indices)]
        batch = {name: torch.stack([pair[name] for pair in pairs]) for name in pairs[0]}
        return {**batch, "posed": values["posed"]}

    def _draw(self, values: dict[str, Tensor], place: int, index: int, seed: int) -> Batch:
        """Some keypoints of one pair, with labels among them; the same for the same sample number."""
        rng = np.random.default_rng([seed, index])
        first, second = draw_views(values, place, self.config.keypoints, rng, _OF_KEYPOINTS, _OF_IMAGE)
        if seed == 0 and self.config.swap and rng.random() < 0.5:
            first, second = second, first
        return join_views(first, second)


def _means(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Mean of each figure over the rows that have it, medians where there is one a pair; absent where none has it."""
    figures = {name: torch.cat([row[name].float().reshape(-1) for row in rows]) for name in rows[0]}
    return {
        name: float(values.median() if name.endswith("_deg") else values.mean())
        for name, values in figures.items()
        if len(values)
    }
