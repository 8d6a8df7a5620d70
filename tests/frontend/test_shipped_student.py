"""The student in the package: what it says in its teacher's place, and that the shipped heads serve it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from slamfeat.backbones.checkpoints import read_metadata
from slamfeat.errors import ConfigError
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.pretrained import SHIPPED, load_pretrained
from slamfeat.image import read_image

STUDENT, TEACHER = "slamfeat-vits14-2", "dinov2-vits14-int8"


def likeness(image: np.ndarray) -> float:
    """Mean cosine of the student's tokens and its teacher's, each less the image's mean."""
    side = cv2.resize(image, (308, 238), interpolation=cv2.INTER_AREA)
    pixels = torch.from_numpy(side).permute(2, 0, 1)[None].float() / 255
    said = []
    for name, block in ((STUDENT, -1), (TEACHER, 5)):
        backbone, _ = load_pretrained(name, torch.device("cpu"))
        with torch.inference_mode():
            tokens = backbone.intermediate(backbone.normalize(pixels), [block])[0][0].flatten(1)
        said.append(tokens - tokens.mean(1, keepdim=True))
    return float(F.cosine_similarity(said[0], said[1], dim=0).mean())


def test_the_student_says_what_its_teacher_would(photo: np.ndarray) -> None:
    """Of a frame of the kind that it learnt from."""
    assert likeness(photo) > 0.9


@pytest.mark.shared
def test_the_student_says_what_its_teacher_would_of_scenes_it_never_saw(shared: Path) -> None:
    files = sorted((shared / "data" / "pairs").rglob("*.jpg"))[:3]
    assert len(files) == 3
    assert min(likeness(read_image(file)) for file in files) > 0.8


def test_the_file_says_how_it_was_made() -> None:
    metadata = read_metadata(SHIPPED[STUDENT])
    assert "teacher: dinov2-vits14-int8" in metadata["recipe"] and metadata["steps"] == "2000"
    assert float(metadata["hours"]) > 0.1 and metadata["commit"] and "imagenet" in metadata["folders"]
    assert SHIPPED[STUDENT].stat().st_size < 12e6


@pytest.mark.parametrize("preset", ["balanced", "fast"])
def test_the_shipped_heads_serve_it(photo: np.ndarray, preset: str) -> None:
    frontend = Frontend.from_pretrained(STUDENT, preset=preset, engine="torch", precision="fp32")
    matches = frontend.match(frontend.extract(photo[:420, :560], 256), frontend.extract(photo[40:460, 60:620], 256))
    points0, points1, _ = matches.numpy()
    wrong = np.linalg.norm(points0 - points1 - [60, 40], axis=1)
    assert len(points0) > 60 and (wrong < 1).mean() > 0.9


def test_its_teachers_blocks_are_not_among_its_own() -> None:
    with pytest.raises(
        ConfigError, match=r"blocks 0\.\.1, not 5; left out, layers are what block 5 of dinov2-vits14 says"
    ):
        Frontend.from_pretrained(STUDENT, config=FrontendConfig(layers=[5]), engine="torch")
