"""The heads' tasks on pairs of real photographs: prepared, learned from, and better for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.heads.bundle import Heads, HeadsAbout, load_heads
from slamfeat.frontend.heads.matcher import AttentionConfig, AttentionMatcher
from slamfeat.frontend.heads.patches import even_patches, sample_patches
from slamfeat.frontend.heads.refiner import RefinerConfig
from slamfeat.frontend.selector import SelectorConfig
from slamfeat.train import stages
from slamfeat.train.cache import PairCache
from slamfeat.train.config import LoopConfig
from slamfeat.train.homographies import HomographyConfig, HomographyPairs
from slamfeat.train.loop import train
from slamfeat.train.matcher_task import MatcherTask, MatcherTaskConfig
from slamfeat.train.mixed import MixedPairs
from slamfeat.train.pairs import PairSource
from slamfeat.train.prepare import MatcherPreparer
from slamfeat.train.recipe import HeadsRecipe, MatcherStage
from slamfeat.train.refiner_data import RefinerPreparer, patches_from_cuts
from slamfeat.train.refiner_task import RefinerTask, RefinerTaskConfig

SIZE = (280, 224)
FINE_DIM = 64


@pytest.fixture(scope="module")
def frontend() -> Frontend:
    return Frontend.from_pretrained(
        "dinov2-vits14-int8", config=FrontendConfig(num_keypoints=128, depth=0.34), engine="torch", precision="fp32"
    )


@pytest.fixture(scope="module")
def described(frontend: Frontend) -> Frontend:
    """The same keypoints, with the features of a fine branch that nobody trained."""
    torch.manual_seed(0)
    heads = Heads(HeadsAbout(frontend.backbone.name, frontend.layers[0], "finer"))
    return Frontend(frontend.backbone, frontend.config, engine=frontend.engine, heads=heads)


@pytest.fixture(scope="module")
def pairs(sample: Path) -> HomographyPairs:
    files = sorted((sample / "rgb").iterdir())[::6]
    return HomographyPairs.of_files(files, HomographyConfig(width=SIZE[0], height=SIZE[1]))


@pytest.fixture(scope="module")
def sample() -> Path:
    return Path(__file__).parents[2] / "datasets" / "sample" / "rgbd_dataset_freiburg1_rpy_60"


def filled(folder: Path, count: int, source: PairSource, preparer: RefinerPreparer | MatcherPreparer) -> PairCache:
    cache = PairCache.create(folder, count, preparer.fields, {"test": 1})
    for row in range(count):
        cache.write(row, preparer(source.pair(row)))
    return cache


def test_cuts_hold_what_the_images_show(pairs: HomographyPairs, frontend: Frontend) -> None:
    """Patches from the cuts are those of the whole images, and the two sides of a match look alike."""
    preparer = RefinerPreparer(frontend, 64)
    row = max((preparer(pairs.pair(number)) for number in range(6)), key=lambda one: int(one["count"]))
    count = int(row["count"])
    assert count > 20
    cut0, cut1, affine = (torch.from_numpy(row[name][:count]) for name in ("cut0", "cut1", "affine"))
    first = patches_from_cuts(cut0, torch.from_numpy(row["point0"][:count]), None, 15)
    second = patches_from_cuts(cut1, torch.from_numpy(row["point1"][:count]), affine, 15)
    alike = (first * second).mean((1, 2, 3))
    assert alike.median() > 0.9
    moved = patches_from_cuts(cut1, torch.from_numpy(row["point1"][:count]) + 2, affine, 15)
    assert (first * moved).mean((1, 2, 3)).median() < alike.median() - 0.1
    whole = even_patches(sample_patches(cut1[:1, None].float(), torch.from_numpy(row["point1"][:1]), affine[:1], 15))
    torch.testing.assert_close(whole, second[:1], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_the_refiner_learns_in_the_loop(pairs: HomographyPairs, frontend: Frontend, tmp_path: Path) -> None:
    preparer = RefinerPreparer(frontend, 64)
    cache = filled(tmp_path / "cache", 9, pairs, preparer)
    torch.manual_seed(0)
    task = RefinerTask(RefinerTaskConfig(per_pair=48), RefinerConfig(patch=15, reach=2, hidden=64), cache, cache)
    before = task.evaluate()
    train(task, LoopConfig(steps=80, batch=4, lr=3e-3, warmup=5, log_every=20), tmp_path / "run")
    after = task.evaluate()
    assert after["median_px"] < 0.6 * before["median_px"]
    assert after["telling"] > 0.85


def test_labels_join_keypoints_that_lie_on_each_other(pairs: HomographyPairs, described: Frontend) -> None:
    pair = pairs.pair(4)
    row = MatcherPreparer(described)(pair)
    index = row["index0"]
    matched = np.flatnonzero(index >= 0)
    assert len(matched) > 10 and (index == -1).any()
    landed = pair.transfer.forth(row["keypoints0"][matched].astype(float)).points
    assert np.abs(landed - row["keypoints1"][index[matched]]).max() < 3
    np.testing.assert_array_equal(row["index1"][index[matched]], matched)


@pytest.mark.slow
def test_the_matcher_learns_in_the_loop(pairs: HomographyPairs, described: Frontend, tmp_path: Path) -> None:
    """From nothing, on a handful of pairs: tokens and random fine features must do."""
    torch.manual_seed(0)
    preparer = MatcherPreparer(described)
    cache = filled(tmp_path / "cache", 9, MixedPairs([(pairs, 1.0)]), preparer)
    matcher = AttentionMatcher(AttentionConfig(input_dim=FINE_DIM, token_dim=384, token_width=32, dim=32, layers=2))
    task = MatcherTask(MatcherTaskConfig(keypoints=96, warm_scale=1.0, held_out=9), matcher, cache, cache)
    before = task.evaluate()
    train(task, LoopConfig(steps=60, batch=3, lr=3e-3, warmup=5, log_every=20), tmp_path / "run")
    after = task.evaluate()
    assert after["nll"] < 0.8 * before["nll"]
    assert after["recall"] > before["recall"] + 0.1


def test_a_draw_of_keypoints_keeps_the_labels_right(
    pairs: HomographyPairs, described: Frontend, tmp_path: Path
) -> None:
    preparer = MatcherPreparer(described)
    cache = filled(tmp_path / "cache", 3, pairs, preparer)
    matcher = AttentionMatcher(AttentionConfig(input_dim=FINE_DIM, token_width=32, dim=32, layers=2))
    task = MatcherTask(MatcherTaskConfig(keypoints=64), matcher, cache, cache)
    for number in range(6):
        batch = task.batch([number])
        index = batch["index0"][0]
        rows = (index >= 0).nonzero()[:, 0]
        assert len(rows) > 3
        assert torch.equal(batch["index1"][0][index[rows]], rows)
        transfer = pairs.pair(number % 3).transfer
        points0, points1 = (batch[f"keypoints{i}"][0] for i in (0, 1))
        forth = transfer.forth(points0[rows].double().numpy()).points
        back = transfer.back(points0[rows].double().numpy()).points  # where the two images traded places
        error = [np.abs(x - points1[index[rows]].numpy()).max() for x in (forth, back)]
        assert min(error) < 3


def test_the_matcher_learns_on_the_keypoints_it_will_be_given(
    pairs: HomographyPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe's keypoints are those of a frontend with the same settings, and so are the descriptors."""
    heads = load_heads("light")
    monkeypatch.setattr(stages, "published_fine", lambda fine, weights: heads.fine)
    selector = SelectorConfig(saliency="fine", aligned=False, nms_radius=2, coverage=0, threshold=0.0, floor=1e-5)
    recipe = HeadsRecipe(matcher=MatcherStage(keypoints=96, selector=selector))
    pair = pairs.pair(2)
    row = stages.KINDS["matcher"].preparer(recipe, torch.device("cpu"))(pair)
    config = FrontendConfig(num_keypoints=96, selector=selector, heads="light")
    frontend = Frontend.from_pretrained(recipe.weights, config=config, engine="torch", precision="fp32")
    features = frontend.extract(pair.image0)
    assert int(features.mask.sum()) > 30
    np.testing.assert_allclose(row["keypoints0"], features.keypoints[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(row["descriptors0"], features.descriptors[0].numpy(), atol=1e-3)
