"""Training the refiner: matches moved off by a known amount, to be brought back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.errors import ConfigError, InputError
from slamfeat.frontend.heads.refiner import PatchRefiner, Refined, RefinerConfig
from slamfeat.train.cache import PairCache
from slamfeat.train.losses import offset_nll
from slamfeat.train.refiner_data import patches_from_cuts

Batch = dict[str, Tensor]
_HELD_OUT_SEED = 1_000_003


@dataclass
class RefinerTaskConfig:
    """How matches are moved off.

    Attributes:
        per_pair: matches of a pair in a batch.
        near_px, far_px: deviations of the two kinds of offsets; pixels of the first image.
        share_near, share_far: shares of matches with either kind; the rest lies evenly within the refiner's reach.
        share_wrong: share of matches whose second patch is of another match.
        affine_noise: deviation of each entry of the affine map.
        right_weight: of the loss that tells right matches from wrong ones.
        outlier: probability that the likelihood reserves for errors of any size, so that a label that is wrong (a
            mirror, a repeated pattern) does not pull.
    """

    per_pair: int = 128
    near_px: float = 0.3
    far_px: float = 1.2
    share_near: float = 0.4
    share_far: float = 0.4
    share_wrong: float = 0.15
    affine_noise: float = 0.06
    right_weight: float = 0.5
    outlier: float = 0.02

    def __post_init__(self) -> None:
        if self.per_pair < 1 or min(self.near_px, self.far_px, self.affine_noise) < 0:
            raise ConfigError("refiner task: per_pair >= 1, and near_px, far_px, affine_noise >= 0 are needed")
        if self.share_near + self.share_far > 1 or not 0 <= self.share_wrong < 1 or not 0 < self.outlier < 1:
            raise ConfigError("refiner task: shares must sum to at most 1, and 0 < outlier < 1")


class RefinerTask:
    """A `slamfeat.train.task.Task` on prepared matches."""

    size: int | None = None  # rows come again with other offsets, so there is no end of samples
    frozen: Sequence[nn.Module] = ()

    def __init__(
        self, config: RefinerTaskConfig, refiner: RefinerConfig, cache: PairCache, held_out: PairCache
    ) -> None:
        """Train a new refiner on one cache and judge it on the other."""
        self.config = config
        self.pairs, self.held_out = _Usable(cache), _Usable(held_out)
        self.module: PatchRefiner = PatchRefiner(refiner)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group."""
        return [{"params": list(self.module.parameters()), "name": "refiner"}]

    def batch(self, indices: Sequence[int]) -> Batch:
        """Matches of the pairs behind some sample numbers."""
        return self._batch(self.pairs, indices, seed=0)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative log-likelihood of the offsets of right matches, and cross entropy of right and wrong."""
        said: Refined = self.module(batch["patches0"], batch["patches1"])
        right = batch["right"]
        likelihood = offset_nll(batch["wanted"] - said.offset, said.cholesky, self.config.outlier)
        nll = (likelihood * right).sum() / right.sum().clamp_min(1)
        telling = F.binary_cross_entropy_with_logits(said.logit, right)
        with torch.no_grad():
            error = (said.offset - batch["wanted"]).norm(dim=1)[right > 0]
            accuracy = ((said.logit > 0) == (right > 0)).float().mean()
        parts = {"nll": nll, "telling": telling, "median_px": error.median(), "accuracy": accuracy}
        return nll + self.config.right_weight * telling, {name: value.detach() for name, value in parts.items()}

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Held-out matches that start as far off as in training, after all passes: error, calibration, `score`."""
        errors, ratios, hits = [], [], []
        for rows in _chunks(self.held_out.cache.count, 8):
            device = next(self.module.parameters()).device
            batch = {name: value.to(device) for name, value in self._batch(self.held_out, rows, _HELD_OUT_SEED).items()}
            said, left = self._passes(batch)
            right = batch["right"] > 0
            errors.append(left.norm(dim=1)[right])
            ratios.append(_squared_mahalanobis(said, left)[right])
            hits.append((said.logit > 0) == right)
        error, ratio = torch.cat(errors), torch.cat(ratios)
        quarter = float((error < 0.25).float().mean())
        return {
            "score": quarter,
            "median_px": float(error.median()),
            "within_half_px": float((error < 0.5).float().mean()),
            "within_1_px": float((error < 1).float().mean()),
            "telling": float(torch.cat(hits).float().mean()),
            "mahalanobis_median": float(ratio.median()),  # 1.39 where the covariance tells the truth
        }

    def _passes(self, batch: Batch) -> tuple[Refined, Tensor]:
        """What the last pass says, and what is left of the offset (M, 2)."""
        points, left = batch["start"], batch["wanted"].clone()
        features0 = self.module.features(batch["patches0"])
        patches1 = batch["patches1"]
        for number in range(self.module.config.passes):
            if number:
                patches1 = patches_from_cuts(batch["cut1"], points, batch["affine"], self.module.config.patch)
            said = self.module.compare(features0, self.module.features(patches1))
            points = points + (batch["affine"] @ said.offset[..., None])[..., 0]
            left = left - said.offset
        return said, left

    def _batch(self, pairs: _Usable, indices: Sequence[int], seed: int) -> Batch:
        values = pairs.cache.read(pairs.of(indices))
        picked = [self._pick(values, place, index, seed) for place, index in enumerate(indices)]
        joined = {name: torch.cat([one[name] for one in picked]) for name in picked[0]}
        side = self.module.config.patch
        joined["patches0"] = patches_from_cuts(joined.pop("cut0"), joined.pop("point0"), None, side)
        joined["patches1"] = patches_from_cuts(joined["cut1"], joined["start"], joined["affine"], side)
        return joined

    def _pick(self, values: dict[str, Tensor], place: int, index: int, seed: int) -> Batch:
        """Some matches of one pair, moved off; the same for the same sample number."""
        rng = np.random.default_rng([seed, index])
        count = int(values["count"][place])
        chosen = torch.from_numpy(rng.permutation(count)[: self.config.per_pair])
        names = ("cut0", "cut1", "point0", "point1", "affine")
        cut0, cut1, point0, point1, affine = (values[name][place][chosen] for name in names)
        affine = affine + self.config.affine_noise * torch.from_numpy(rng.normal(size=affine.shape)).float()
        offset = torch.from_numpy(self._offsets(rng, len(chosen))).float()
        right = torch.from_numpy(rng.random(len(chosen)) >= self.config.share_wrong).float()
        if len(chosen) < 2:
            right[:] = 1
        other = torch.roll(torch.arange(len(chosen)), 1)
        second = torch.where(right > 0, torch.arange(len(chosen)), other)
        start = point1[second] + (affine @ offset[..., None])[..., 0]
        return {
            "cut0": cut0, "point0": point0, "cut1": cut1[second], "start": start, "affine": affine,
            "wanted": -offset, "right": right,
        }  # fmt: skip

    def _offsets(self, rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
        config, reach = self.config, self.module.config.reach
        kind = rng.random((count, 1))
        near, far = (rng.normal(size=(count, 2)) * px for px in (config.near_px, config.far_px))
        even = rng.uniform(-reach, reach, (count, 2))
        offsets = np.where(
            kind < config.share_near, near, np.where(kind < config.share_near + config.share_far, far, even)
        )
        return np.clip(offsets, -reach, reach)


class _Usable:
    """A cache some of whose rows have no match, since their two views hardly overlap; not all of a batch may be such.

    Raises:
        InputError: none of the rows has a match.
    """

    def __init__(self, cache: PairCache) -> None:
        self.cache, self._rows = cache, np.flatnonzero(cache.column("count"))
        if not len(self._rows):
            raise InputError(f"{cache.folder}: none of its pairs has a usable match; prepare other ones")

    def of(self, indices: Sequence[int]) -> list[int]:
        """Rows of sample numbers, with the next usable one for the first where none is usable."""
        rows = [index % self.cache.count for index in indices]
        if not np.isin(rows, self._rows).any():
            rows[0] = int(self._rows[np.searchsorted(self._rows, rows[0]) % len(self._rows)])
        return rows


def _squared_mahalanobis(said: Refined, left: Tensor) -> Tensor:
    first = left[:, 0] * (-said.cholesky[:, 0]).exp()
    second = (left[:, 1] - said.cholesky[:, 2] * first) * (-said.cholesky[:, 1]).exp()
    return first.square() + second.square()


def _chunks(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(start + size, count))
