"""What was tried for description and matching without training, measured on train-split data.

    python -m benchmarks.untrained ../shared/data --out benchmarks/results/untrained

Pairs: TUM fr1/rpy at gaps of 1, 4, 8 and 16 frames (rotation error only: the camera turns, so that the direction of
translation is not observable), ngp fox at gaps of 1, 2, 4 and 8 (larger of rotation and direction error), and Kodak
photographs under known homographies with changed exposure and noise. Poses by pycolmap at 1 px. All
rows but ORB's and SIFT's use the full backbone given by --weights, except "as shipped". Nothing here is of a
test split. A row that names a change is the default with that change. Rows that this commit made are kept in
OUT.json and not run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from benchmarks.peers.opencv import OpenCVFrontend
from slamfeat.backbones import Backbone, load_backbone
from slamfeat.bench.provenance import header, header_line
from slamfeat.config import load_config
from slamfeat.data import open_sequence
from slamfeat.eval import area_under_recall, markdown_table, matching_accuracy, pose_errors_deg
from slamfeat.files import write_text
from slamfeat.frontend import FeatureFrontend, Frontend, FrontendConfig
from slamfeat.frontend.pretrained import SHIPPED
from slamfeat.geometry.interpolate import poses_at
from slamfeat.geometry.robust import estimate_homography, estimate_relative_pose
from slamfeat.geometry.se3 import invert
from slamfeat.image import read_image
from slamfeat.types import Camera, Features

PLAIN = ["refine.method=none"]
TOKENS = ["local=none", "matcher.gate=1"]
ONE_A_CELL = ["cell=14", "selector.splits=1", "selector.nms_radius=8"]
ROWS: dict[str, list[str] | str] = {
    "OpenCV ORB": "orb",
    "OpenCV SIFT": "sift",
    "default": [],
    "as shipped (int8, 9 blocks)": "dinov2-vits14-int8",
    "RootSIFT alone": ["local_weight=1", "matcher.gate=1"],
    "RootSIFT, gated by tokens": ["local_weight=1"],
    "RootSIFT + tokens, not gated": ["matcher.gate=1"],
    "tokens 0.5, RootSIFT 0.5": ["local_weight=0.5"],
    "tokens alone": TOKENS,
    "tokens alone, guided": [*TOKENS, "matcher.method=guided"],
    "no refinement": PLAIN,
    "no refinement, RootSIFT alone": ["local_weight=1", "matcher.gate=1", *PLAIN],
    "no refinement, tokens alone": [*TOKENS, *PLAIN],
    "one pass of refinement": ["refine.passes=1"],
    "exposure not evened": ["refine.normalize=false"],
    "unmatched keypoints left out": ["refine.fill=false"],
    "Shi-Tomasi": ["selector.saliency=shi_tomasi", "selector.sigma=1.5"],
    "patch centres": ["selector.saliency=center"],
    "tokens looked up by floor": ["sampling=floor"],
    "tokens not centred": ["center=false"],
    "block 5": ["layers=[4]"],
    "block 12": ["layers=[11]"],
    "dual softmax": ["matcher.method=dual_softmax"],
    "gate 0.1": ["matcher.gate=0.1"],
    "gate 0.4": ["matcher.gate=0.4"],
    "refinement window 15": ["refine.window=15"],
    "cells of 14 px": ["cell=14"],
    "one keypoint a cell of 14 px": ONE_A_CELL,
    "no refinement, tokens alone, one a cell of 14 px": [*TOKENS, *ONE_A_CELL, *PLAIN],
    "no refinement, tokens alone, one a cell of 14 px, floor": [*TOKENS, *ONE_A_CELL, "sampling=floor", *PLAIN],
    "cells of 21 px": ["cell=21"],
}


@dataclass(frozen=True)
class PosedPair:
    """Two frames and their true relative pose `T_1_0`; `turning`: only the rotation can be judged."""

    group: str
    image0: Path
    image1: Path
    pose: NDArray[np.float64]
    camera: Camera
    turning: bool


class TokenCache:
    """A backbone that remembers the tokens of all its blocks, so that settings share the costly part."""

    def __init__(self, backbone: Backbone) -> None:
        """Wrap `backbone`."""
        self._backbone = backbone
        self._tokens: dict[tuple[Any, ...], list[Tensor]] = {}
        self.patch_size, self.depth, self.name, self.device, self.dtype = (
            backbone.patch_size, backbone.depth, backbone.name, backbone.device, backbone.dtype,
        )  # fmt: skip
        self.imitates, self.check_images = backbone.imitates, backbone.check_images

    def normalize(self, image: Tensor) -> Tensor:
        """The image itself: normalised when tokens are computed."""
        return image

    def intermediate(self, image: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """As `Backbone.intermediate`."""
        key = (tuple(image.shape), float(image.sum()), float(image[..., ::7, ::5].sum()))
        if key not in self._tokens:
            every = self._backbone.intermediate(self._backbone.normalize(image), list(range(self.depth)))
            self._tokens[key] = [tokens.half() for tokens in every]
        return [self._tokens[key][layer].float() for layer in layers]


def posed_pairs(data: Path) -> list[PosedPair]:
    """All pairs of the two sequences."""
    sources = (
        ("tum/rgbd_dataset_freiburg1_rpy_first60", "fr1", (1, 4, 8, 16), 2, True),
        ("handheld/ngp_fox_50", "fox", (1, 2, 4, 8), 1, False),
    )
    pairs = []
    for folder, name, gaps, step, turning in sources:
        sequence = open_sequence(data / folder)
        poses, _ = poses_at(sequence.groundtruth, sequence.timestamps)
        files = [record.image for record in sequence.records]
        for gap in gaps:
            for i in range(0, len(files) - gap, step):
                motion = invert(poses[i + gap]) @ poses[i]
                pairs.append(PosedPair(f"{name}@{gap}", files[i], files[i + gap], motion, sequence.camera, turning))
    return pairs


def warped_photos(
    data: Path, count: int = 12
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float64]]]:
    """Photographs, the same seen through a random homography in other light, and the homography."""
    for seed, path in enumerate(sorted((data / "unlabelled" / "kodak24").glob("*.*"))[:count]):
        image, generator = read_image(path), np.random.default_rng(seed)
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D(
            (width / 2, height / 2), generator.uniform(-25, 25), generator.uniform(0.75, 1.3)
        )
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        moved = corners + generator.uniform(-0.08, 0.08, (4, 2)) * [width, height]
        homography = cv2.getPerspectiveTransform(corners, moved.astype(np.float32)) @ np.vstack([turn, [0, 0, 1]])
        seen = cv2.warpPerspective(image, homography, (width, height), borderMode=cv2.BORDER_REFLECT) / 255.0
        lit = seen ** generator.uniform(0.6, 1.6) * generator.uniform(0.6, 1.2) * 255
        yield image, np.clip(lit + generator.normal(0, 4, seen.shape), 0, 255).astype(np.uint8), homography


def measure(frontend: FeatureFrontend, data: Path) -> dict[str, float]:
    """One row: pose AUC (5 degrees for fr1, 10 for fox), accuracy of matches under homographies, counts and times."""
    features: dict[Path, Features] = {}
    spent = {"extract": 0.0, "match": 0.0}
    counts: list[int] = []

    def extract(image: Path | NDArray[np.uint8]) -> Features:
        start = time.perf_counter()
        found = frontend.extract(image)
        spent["extract"] += time.perf_counter() - start
        return found

    def match(first: Features, second: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        start = time.perf_counter()
        points0, points1, _ = frontend.match(first, second).numpy()
        spent["match"] += time.perf_counter() - start
        counts.append(len(points0))
        return points0, points1

    errors: dict[str, list[float]] = {}
    for pair in posed_pairs(data):
        for path in (pair.image0, pair.image1):
            if path not in features:
                features[path] = extract(path)
        points = match(features[pair.image0], features[pair.image1])
        errors.setdefault(pair.group, []).append(_pose_error(*points, pair))
    row = {group: area_under_recall(values, [_limit(group)])[0] for group, values in errors.items()}
    accuracies = []
    for image0, image1, homography in warped_photos(data):
        points = match(extract(image0), extract(image1))
        accuracies.append(_accuracy(*points, homography, image0.shape))
    mean = np.mean(accuracies, axis=0)
    row |= {"MMA@1": mean[0], "MMA@3": mean[1]}
    row["H AUC@5"] = area_under_recall([a[2] for a in accuracies], [5])[0]
    row["matches"] = float(np.mean(counts))
    row["ms match"] = 1e3 * spent["match"] / len(counts)
    return row


def _limit(group: str) -> float:
    """Degrees up to which a group's recall is integrated."""
    return 5 if group.startswith("fr1") else 10


def _pose_error(points0: NDArray[np.float64], points1: NDArray[np.float64], pair: PosedPair) -> float:
    if not len(points0):
        return 180.0
    # LO-RANSAC, unlike in the odometry: at wide baselines it finds poses that OpenCV's MAGSAC++ misses.
    found = estimate_relative_pose(points0, points1, pair.camera, pair.camera, threshold_px=1.0, estimator="pycolmap")
    if found is None:
        return 180.0
    rotation, direction = pose_errors_deg(found.T_1_0, pair.pose)
    return rotation if pair.turning else max(rotation, direction)


def _accuracy(
    points0: NDArray[np.float64], points1: NDArray[np.float64], homography: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[float, float, float]:
    """Percentages of matches within 1 and 3 px, and the mean corner error of the estimated homography."""
    if len(points0) < 4:
        return 0.0, 0.0, 100.0
    one, three = matching_accuracy(points0, points1, homography, (1, 3))
    found = estimate_homography(points0, points1, threshold_px=1.5)
    corners = np.array([[0, 0], [shape[1], 0], [shape[1], shape[0]], [0, shape[0]]], np.float64)
    moved = 100.0
    if found is not None:
        moved = float(np.linalg.norm(_through(found.H_1_0, corners) - _through(homography, corners), axis=1).mean())
    return one, three, moved


def _through(homography: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.perspectiveTransform(points[:, None].astype(np.float64), homography)[:, 0])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with tum/, handheld/ and unlabelled/")
    parser.add_argument("--weights", default="dinov2-vits14", help="backbone, in float32 unless --bf16")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--only", nargs="*", help="rows to run")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    facts = header("python -m benchmarks.untrained " + " ".join(sys.argv[1:]))
    dtype = torch.bfloat16 if given.bf16 else torch.float32
    backbone = TokenCache(load_backbone(given.weights, dtype=dtype))
    store = given.out.with_suffix(".json")
    done: dict[str, Any] = json.loads(store.read_text())["rows"] if store.exists() else {}
    for name, settings in ROWS.items():
        made = done.get(name, {}).get("made", {}).get("commit")
        if made == facts["commit"] or (given.only and name not in given.only):
            continue
        frontend: FeatureFrontend
        if settings in SHIPPED:
            precision = "bf16" if given.bf16 else "fp32"
            frontend = Frontend.from_pretrained(str(settings), preset="untrained", engine="torch", precision=precision)
        elif isinstance(settings, str):
            frontend = OpenCVFrontend(settings)
        else:
            # The cache answers what the frontend asks of a backbone, without being one.
            frontend = Frontend(backbone, load_config(FrontendConfig, None, settings))  # type: ignore[arg-type]
        done[name] = {"method": name, **measure(frontend, given.data), "settings": settings, "made": facts}
        write_text(store, json.dumps({"header": facts, "rows": done}, indent=1) + "\n")
        Console(stderr=True).print(done[name])
        rows = [done[name] for name in ROWS if name in done]
        shown = [{key: f"{value:.1f}" if isinstance(value, float) else value for key, value in r.items()} for r in rows]
        columns = [key for key in rows[0] if key not in ("settings", "made")]
        commits = ", ".join(sorted({row["made"]["commit"] for row in rows}))
        line = header_line({**facts, "commit": commits})
        write_text(given.out.with_suffix(".md"), f"{line}\n\n{markdown_table(shown, columns=columns)}")


if __name__ == "__main__":
    main()
