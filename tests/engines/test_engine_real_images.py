"""Token parity of the shipped weights on real frames of three data sets, and the frontend on an engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from engine_backbones import mean_cosine, need_engine

from slamfeat.backbones import Backbone
from slamfeat.engines import Engine, make_engine
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.frontend.refine import RefineConfig
from slamfeat.image import read_image, resize, to_batch

FOLDERS = ("kitti/00_first200", "7scenes/redkitchen_000_399", "euroc/V1_01_easy_sparse100")
FLOOR = {"bf16": 0.999, "int8": 0.998}


@pytest.fixture(scope="module", params=["default", "dinov2-vits14-int8"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return load_pretrained(request.param, torch.device("cpu"))[0]


@pytest.fixture
def engine(request: pytest.FixtureRequest, backbone: Backbone) -> Engine:
    need_engine("openvino", request.param)
    return make_engine(backbone, [backbone.depth - 1], "openvino", request.param)


def cosines(engine: Engine, backbone: Backbone, files: list[Path]) -> list[float]:
    found = []
    for file in files:
        image = to_batch(read_image(file))
        height, width = image.shape[-2:]
        small, _ = resize(image, (width // 28 * 14, height // 28 * 14))
        (wanted,) = backbone.intermediate(backbone.normalize(small), [backbone.depth - 1])
        found.append(mean_cosine(engine(small)[0], wanted))
    return found


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("engine", FLOOR, indirect=True)
def test_tokens_of_three_data_sets(engine: Engine, backbone: Backbone, shared: Path) -> None:
    for name in FOLDERS:
        files = [
            path
            for path in sorted((shared / "data" / name).rglob("*"))
            if path.suffix in (".png", ".jpg", ".jpeg") and "depth" not in f"{path.parent.name}{path.name}"
        ]
        assert len(files) > 9, name
        assert np.mean(cosines(engine, backbone, files[:: len(files) // 3][:3])) >= FLOOR[engine.precision], name


@pytest.mark.slow
@pytest.mark.parametrize("engine", FLOOR, indirect=True)
def test_tokens_of_the_demo(engine: Engine, backbone: Backbone, sample: Path) -> None:
    files = sorted((sample / "rgb").iterdir())[1::20]
    assert np.mean(cosines(engine, backbone, files)) >= FLOOR[engine.precision]


@pytest.mark.slow
def test_a_frontend_on_int8_finds_the_same_matches(photo: np.ndarray, sample: Path) -> None:
    """The same keypoint finds the same partner. Without refinement: its plane, which it draws by lot, amplifies."""
    need_engine("openvino", "int8")
    other = read_image(sorted((sample / "rgb").iterdir())[5])
    partners = []
    for precision in ("fp32", "int8"):
        config = FrontendConfig(refine=RefineConfig(method="none"))
        frontend = Frontend.from_pretrained("default", config=config, engine="openvino", precision=precision)
        assert (frontend.engine.name, frontend.engine.precision) == ("openvino", precision)
        matches = frontend.match(frontend.extract(photo), frontend.extract(other))
        partners.append(matches.indices)
    fp32, int8 = partners
    same, either = (fp32 == int8) & (fp32 >= 0), (fp32 >= 0) | (int8 >= 0)
    share = int(same.sum()) / int(either.sum())
    assert int(same.sum()) > 100
    assert share > 0.9, share
