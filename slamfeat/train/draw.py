"""What a step draws from a row of prepared pairs: some keypoints of either image, and which layers are judged."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from slamfeat.train.distributed import rank_and_world
from slamfeat.train.labels import UNMATCHABLE

View = dict[str, Tensor]
_WIDER = {torch.float16: torch.float32, torch.int16: torch.int64, torch.int8: torch.int64}
HELD_OUT_SEED = 1_000_003
"""Of the draws from held-out pairs, which are the same at every evaluation."""


def draw_views(
    values: Mapping[str, Tensor], place: int, count: int, rng: np.random.Generator,
    of_keypoints: Collection[str], of_image: Collection[str],
) -> tuple[View, View]:  # fmt: skip
    """Both images of a pair with `count` slots each, filled ones first, in random order; labels fit the new order.

    Args:
        values: rows of a `PairCache`, whose names end in the image's number.
        place: the pair's among them.
        count: slots that are kept.
        rng: of the draw; asked twice.
        of_keypoints: fields with a value a slot, "mask" and "index" among them.
        of_image: fields with one value an image.

    Returns:
        The fields by name, half-precision and short types widened, and `slots`, where each keypoint was in the row.
    """
    views = [_draw_view(values, place, image, count, rng, of_keypoints, of_image) for image in (0, 1)]
    first, second = views
    first["index"] = _relabel(first["index"], second["slots"])
    second["index"] = _relabel(second["index"], first["slots"])
    return first, second


def join_views(first: View, second: View) -> View:
    """The fields of both, each name with its image's number."""
    return {f"{name}{image}": value for image, view in enumerate((first, second)) for name, value in view.items()}


def first_of_batch(indices: Sequence[int]) -> int:
    """First sample number of a batch of which this process has the share `indices`, which count up: the same in all."""
    return indices[0] - rank_and_world()[0] * len(indices)


def judged_layers(drawn: int, layers: int, number: int) -> list[int]:
    """Layers that are judged in a step: the last, and `drawn` of the others at random; all of them where negative.

    The same for the same sample number.
    """
    last = layers - 1
    if drawn < 0:
        return list(range(layers))
    chosen = np.random.default_rng([3, number]).permutation(last)[:drawn]
    return [*sorted(int(layer) for layer in chosen), last]


def _draw_view(
    values: Mapping[str, Tensor], place: int, image: int, count: int, rng: np.random.Generator,
    of_keypoints: Collection[str], of_image: Collection[str],
) -> View:  # fmt: skip
    mask = values[f"mask{image}"][place]
    order = torch.from_numpy(rng.permutation(len(mask)))
    slots = order[mask[order].logical_not().argsort(stable=True)][:count]
    view = {name: _wide(values[f"{name}{image}"][place][slots]) for name in of_keypoints}
    view |= {name: values[f"{name}{image}"][place] for name in of_image}
    return {"slots": slots, **view}


def _wide(value: Tensor) -> Tensor:
    return value.to(_WIDER.get(value.dtype, value.dtype))


def _relabel(index: Tensor, slots: Tensor) -> Tensor:
    """Labels by slots of the row to labels by places in the other image's draw; undrawn partners are no partners."""
    places = torch.full((int(max(int(slots.max()), int(index.max()))) + 1,), UNMATCHABLE)
    places[slots] = torch.arange(len(slots))
    return torch.where(index >= 0, places[index.clamp_min(0)], index)
