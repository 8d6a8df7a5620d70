"""What benchmarks.heads_speed times: the stages of a frontend with trained heads, one by one and together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from slamfeat.frontend import FeatureFrontend
from slamfeat.frontend.frontend import Frontend
from slamfeat.frontend.heads.assignment import mutual_matches
from slamfeat.frontend.heads.describe import describe_fine
from slamfeat.frontend.heads.patches import even_patches, local_affines, sample_patches
from slamfeat.frontend.learned import matcher_input
from slamfeat.image import to_batch

Image = NDArray[np.uint8]
Stages = dict[str, Callable[[], object]]


def whole(frontend: FeatureFrontend, first: Image, second: Image) -> Stages:
    """Extraction of one image and matching of two, of any frontend."""
    features = frontend.extract(first), frontend.extract(second)
    return {"extract": lambda: frontend.extract(first), "match": lambda: frontend.match(*features)}


def stages_of(frontend: Frontend, first: Image, second: Image) -> Stages:
    """Every stage alone, with inputs made beforehand; then the whole."""
    return {
        **_extraction(frontend, first), **_matcher(frontend, first, second), **_refiner(frontend, first, second),
        **whole(frontend, first, second),
    }  # fmt: skip


def _extraction(frontend: Frontend, image: Image) -> Stages:
    heads = frontend.heads
    assert heads is not None
    colour, features = to_batch(image), frontend.extract(image)
    assert features.grid is not None
    rows, columns = features.grid.shape
    patch = frontend.backbone.patch_size
    small = torch.nn.functional.interpolate(colour, (rows * patch, columns * patch), mode="area")
    return {
        "backbone": lambda: frontend.engine(small),
        "fine branch": lambda: describe_fine(heads.fine, colour, features.keypoints),
    }


def _matcher(frontend: Frontend, first: Image, second: Image) -> Stages:
    assert frontend.heads is not None and frontend.heads.matcher is not None
    matcher = frontend.heads.matcher
    images = [matcher_input(frontend.extract(image), matcher.tokens is not None) for image in (first, second)]
    scores = matcher(*images)

    def deep(layers: int) -> Callable[[], object]:
        return lambda: matcher(images[0], images[1], layers)

    stages = {f"matcher, {layers} layers": deep(layers) for layers in range(1, matcher.config.layers + 1)}
    return {**stages, "assignment": lambda: mutual_matches(scores, frontend.config.matcher.min_probability)}


def _refiner(frontend: Frontend, first: Image, second: Image) -> Stages:
    """With as many matches as there are keypoints, each of a keypoint with its own place in the other image."""
    assert frontend.heads is not None and frontend.heads.refiner is not None
    refiner = frontend.heads.refiner
    features = frontend.extract(first)
    points, side = features.keypoints[0], refiner.config.patch
    assert features.gray is not None
    gray = frontend.extract(second).gray
    assert gray is not None
    image0, image1 = features.gray.float(), gray.float()
    affine = local_affines(points, points)
    kernels = refiner.describe(even_patches(sample_patches(image0, points, None, side)))
    return {
        "local affines": lambda: local_affines(points, points),
        "refiner, first image": lambda: refiner.describe(even_patches(sample_patches(image0, points, None, side))),
        "refiner, a pass": lambda: refiner.compare_patches(
            kernels, even_patches(sample_patches(image1, points, affine, side))
        ),
    }
