"""Extracting many images: batches give what single images give, and a bad image costs no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.errors import ImageError
from slamfeat.export.batch import Extraction, extract_images
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.image import ImageLike, read_image
from slamfeat.types import Features

TINY = Architecture(embed_dim=48, depth=3, num_heads=3, patch_size=14, registers=0, position="offset", grid=9)


class Counting(Frontend):
    """Remembers how many images each call was given, and refuses batches with a black pixel in the corner."""

    def __init__(self) -> None:
        super().__init__(random_backbone(TINY).freeze(), FrontendConfig(num_keypoints=200))
        self.batches: list[int] = []

    def extract(self, image: ImageLike, num_keypoints: int | None = None, mask: object = None) -> Features:
        """As a frontend."""
        tensor = isinstance(image, Tensor)
        self.batches.append(len(image) if tensor else 1)  # type: ignore[arg-type]
        corner = image[:, :, 0, 0] if tensor else image[0, 0]  # type: ignore[index]
        if (np.asarray(corner).reshape(-1, 3) == (0, 0, 1)).all(1).any():
            raise ImageError("image: cursed")
        return super().extract(image, num_keypoints)


@pytest.fixture
def files(sample: Path, tmp_path: Path) -> dict[str, Path]:
    """Seven images: four of 640x480, two of half that size, and one of 640x480 again."""
    found = {}
    for number, source in enumerate(sorted((sample / "rgb").iterdir())[:7]):
        target = tmp_path / f"{number}{source.suffix}"
        shutil.copy(source, target)
        if number in (4, 5):
            target = target.with_suffix(".png")
            cv2.imwrite(
                str(target), cv2.resize(read_image(source)[..., ::-1], (320, 240), interpolation=cv2.INTER_AREA)
            )
        found[str(number)] = target
    return found


def extracted(files: dict[str, Path], batch: int) -> tuple[list[Extraction], list[int]]:
    frontend = Counting()
    return [image for group in extract_images(files, frontend, batch) for image in group], frontend.batches


@pytest.mark.parametrize(("batch", "calls"), [(1, [1] * 7), (2, [2, 2, 2, 1]), (3, [3, 1, 2, 1]), (8, [4, 2, 1])])
def test_batches_of_equal_size_equal_single_images(files: dict[str, Path], batch: int, calls: list[int]) -> None:
    frontend = Frontend(Counting().backbone, FrontendConfig(num_keypoints=200))
    found, batches = extracted(files, batch)
    assert batches == calls and [image.name for image in found] == list(files)
    assert [image.size for image in found] == [(640, 480)] * 4 + [(320, 240)] * 2 + [(640, 480)]
    for image in found:
        alone = frontend.extract(files[image.name])
        assert image.features is not None
        assert torch.equal(image.features.mask[image.slot], alone.mask[0]) and alone.mask.sum() > 100
        for key in ("keypoints", "scores", "descriptors", "image_size"):
            ours, single = getattr(image.features, key)[image.slot], getattr(alone, key)[0]
            torch.testing.assert_close(ours, single, rtol=0, atol=2e-5)


def damage(files: dict[str, Path]) -> None:
    """Unreadable, without texture, and one that the frontend itself refuses, all among images of the same size."""
    files["1"].write_bytes(b"not a picture")
    cv2.imwrite(str(files["3"]), np.full((480, 640, 3), 99, np.uint8))
    cursed = read_image(files["2"])[..., ::-1].copy()
    files["2"] = files["2"].with_suffix(".png")
    cursed[0, 0] = (1, 0, 0)
    cv2.imwrite(str(files["2"]), cursed)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_bad_image_costs_no_other(files: dict[str, Path], batch: int) -> None:
    damage(files)
    found, _ = extracted(files, batch)
    errors = {image.name: str(image.error) for image in found if image.error is not None}
    assert [image.name for image in found] == list(files)
    assert set(errors) == {"1", "2", "3"}
    for name, why in (("1", "cannot be decoded"), ("2", "cursed"), ("3", "no texture")):
        assert why in errors[name] and str(files[name]) in errors[name]
    assert all((image.features is None) == (image.name in errors) for image in found)
    assert found[1].size is None and found[2].size == (640, 480)
