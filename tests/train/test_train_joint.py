"""Fine branch, descriptor, saliency and matcher from nothing: rows, labels, losses, and that they learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tartanair_room import make_tartanair_room

from slamfeat.config import load_config
from slamfeat.errors import ConfigError
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.heads.assignment import Scores
from slamfeat.frontend.heads.bundle import Heads, HeadsAbout
from slamfeat.frontend.heads.descriptor import DescriptorConfig
from slamfeat.frontend.heads.saliency import SaliencyConfig
from slamfeat.geometry.se3 import make_pose
from slamfeat.train.cache import PairCache
from slamfeat.train.config import LoopConfig
from slamfeat.train.fitted_pairs import fit_pair
from slamfeat.train.homographies import HomographyConfig, HomographyPairs
from slamfeat.train.joint_data import JointPreparer
from slamfeat.train.joint_measures import joint_figures
from slamfeat.train.joint_model import JointHeads
from slamfeat.train.joint_pose import JudgedPose, judge_pose
from slamfeat.train.joint_task import JointTask, JointTaskConfig
from slamfeat.train.loop import train
from slamfeat.train.losses import PoseLoss, descriptor_nll, offset_distance
from slamfeat.train.pairs import VISIBLE, PairSource
from slamfeat.train.recipe import HeadsRecipe
from slamfeat.train.recipe_files import find_recipe
from slamfeat.train.recipe_sources import make_source
from slamfeat.train.rows import HeadRows
from slamfeat.train.stages import KINDS

SIZE = (160, 112)
SMALL = [
    "cell=14", "joint.size=[160,112]", "joint.keypoints=128", "joint.task.keypoints=128", "joint.dim=48",
    "joint.model.dim=48", "joint.model.layers=2", "joint.model.heads=1", "joint.loop.device=cpu",
    "data.room.cameras.sizes=[[160,112]]",
]  # fmt: skip
MOVES = np.array([[0, 0, 0, 0], [0.2, 0.3, 0, -0.05], [0.3, 0.6, -0.1, -0.1], [0.6, -0.3, 0.1, 0.06]])


def recipe(*words: str, name: str = "cpu_scratch") -> HeadsRecipe:
    return load_config(HeadsRecipe, find_recipe(name), [*SMALL, *words])


@pytest.fixture(scope="module")
def photos(sample: Path) -> list[Path]:
    return sorted((sample / "rgb").iterdir())[::20]


@pytest.fixture(scope="module")
def sample() -> Path:
    return Path(__file__).parents[2] / "datasets" / "sample" / "rgbd_dataset_freiburg1_rpy_60"


@pytest.fixture(scope="module")
def tartanair(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trajectories; one of them is held out."""
    root = tmp_path_factory.mktemp("tartanair")
    make_tartanair_room(root / "boards/Easy/P000", photos, MOVES)
    make_tartanair_room(root / "boards/Easy/P001", photos, MOVES[:3] * [1, -1, 1, -1])
    return root


@pytest.fixture(scope="module")
def posed(tartanair: Path) -> HeadsRecipe:
    """The recipe for GPUs, in miniature."""
    words = [
        "weights=dinov2-vits14-int8",
        "layer=5",
        f"data.sequences=['{tartanair}/*/*/P*']",
        "data.sequence.max_gap=3",
    ]
    return recipe(*words, "joint.rows=6", "joint.held_out=2", name="gpu_tartanair")


@pytest.fixture(scope="module")
def cache(posed: HeadsRecipe, tmp_path_factory: pytest.TempPathFactory) -> PairCache:
    rows = HeadRows(posed, "joint", "train")
    cache, row_of = PairCache.create(tmp_path_factory.mktemp("cache"), 6, rows.preparer().fields, rows.made()), rows()
    for row in range(6):
        cache.write(row, row_of(row))
    return cache


def plane_pairs(photos: list[Path], size: tuple[int, int] = (320, 256)) -> PairSource:
    return HomographyPairs.of_files(photos, HomographyConfig(width=size[0], height=size[1]))


@pytest.mark.parametrize("size", [(320, 256), (160, 128), (200, 100), (96, 160)])
def test_fitted_pairs_keep_their_labels(photos: list[Path], size: tuple[int, int]) -> None:
    """Points go to the new images' pixels, through the old transfer, and back; what was cropped away is hidden."""
    pair = plane_pairs(photos).pair(3)
    fitted = fit_pair(pair, size)
    assert fitted.image0.shape == fitted.image1.shape == (size[1], size[0], 3)
    scale = max(size[0] / 320, size[1] / 256)
    middle, new = np.array([159.5, 127.5]), np.array([size[0] - 1, size[1] - 1]) / 2
    points = np.random.default_rng(0).uniform(0, np.array(size) - 1, (200, 2))
    old = (points - new) / scale + middle
    there, wanted = fitted.transfer.forth(points), pair.transfer.forth(old)
    both = (there.state == VISIBLE) & (wanted.state == VISIBLE)
    assert both.sum() > 20
    np.testing.assert_allclose(there.points[both], ((wanted.points - middle) * scale + new)[both], atol=1.5)
    assert ((there.points[both] >= -0.5) & (there.points[both] <= np.array(size) - 0.5)).all()
    returned = fitted.transfer.back(there.points[both])
    np.testing.assert_allclose(returned.points, points[both], atol=1e-3)


def test_intrinsics_follow_the_image(posed: HeadsRecipe) -> None:
    """A point of the scene is seen at the fitted pixel through the fitted intrinsics."""
    pair = make_source(posed.data, posed.joint.photometric, "train").pair(0)
    fitted = fit_pair(pair, SIZE)
    assert pair.K0 is not None and fitted.K0 is not None
    xyz = np.array([0.3, -0.2, 1.0])
    old, new = (pair.K0 @ xyz)[:2], (fitted.K0 @ xyz)[:2]
    scale = max(SIZE[0] / 640, SIZE[1] / 480)
    np.testing.assert_allclose(new, (old - [319.5, 239.5]) * scale + [79.5, 55.5], atol=0.3)


def test_rows_of_tartanair_have_poses_that_their_matches_decide(cache: PairCache) -> None:
    """Keypoints found in either picture by itself lead to the motion of NED poses turned into the camera's axes."""
    values = cache.read(range(6))
    assert values["posed"].sum() >= 4  # in images as small as these, keypoints of some pairs are too coarse
    for row in range(6):
        index = values["index0"][row].long()
        matched = torch.nonzero(index >= 0)[:, 0]
        assert len(matched) > 20
        landed = values["landed0"][row][matched] - values["keypoints1"][row][index[matched]]
        assert landed.norm(dim=1).max() < 3
        T0, T1 = (make_pose(values[f"motion{i}"][row, :, :3], values[f"motion{i}"][row, :, 3]) for i in (0, 1))
        np.testing.assert_allclose(T0 @ T1, np.eye(4), atol=1e-5)
        assert (values["image0"][row].float().std() > 10) and not torch.equal(
            values["image0"][row], values["image1"][row]
        )


def test_rows_without_a_pose_say_so(photos: list[Path]) -> None:
    config = FrontendConfig(num_keypoints=64, cell=14, layers=[5])
    frontend = Frontend.from_pretrained("dinov2-vits14-int8", config=config, engine="torch", precision="fp32")
    preparer = JointPreparer(frontend, SIZE)
    row = preparer(plane_pairs(photos).pair(0))
    assert not row["posed"] and not row["K0"].any() and not row["motion1"].any()
    assert {name: (value.shape, str(value.dtype)) for name, value in row.items()} == preparer.fields


def test_the_two_images_trade_places_with_everything(posed: HeadsRecipe, cache: PairCache) -> None:
    task = KINDS["joint"].task(posed, cache, cache)
    assert isinstance(task, JointTask)
    swapped = 0
    for number in range(12):
        batch, row = task.batch([number]), cache.read([number % 6])
        swapped += int(torch.equal(batch["image0"], row["image1"]))
        index = batch["index0"][0]
        places = torch.nonzero(index >= 0)[:, 0]
        assert len(places) > 20 and torch.equal(batch["index1"][0][index[places]], places)
        error = batch["landed0"][0][places] - batch["keypoints1"][0][index[places]]
        assert error.norm(dim=1).max() < 3
        assert (batch["found0"][0][places] == 1).all()
    assert 2 < swapped < 10


def test_true_matches_give_the_true_pose(posed: HeadsRecipe, cache: PairCache) -> None:
    """In either order of the images; and the loss has a derivative by the scores."""
    task = KINDS["joint"].task(posed, cache, cache)
    batch = task.batch(range(6))
    count = batch["mask0"].shape[1]
    similarity = torch.full((6, count, count), -10.0)
    pair, first = torch.nonzero(batch["index0"] >= 0, as_tuple=True)
    similarity[pair, first, batch["index0"][pair, first]] = 10.0
    matchable = [torch.where(batch[f"index{i}"] >= 0, 10.0, -10.0) for i in (0, 1)]
    scores = Scores(similarity.requires_grad_(), *matchable)
    judged = judge_pose(scores, batch["keypoints0"], batch["keypoints1"], batch, 0.1)
    assert torch.equal(judged.usable, batch["posed"]) and judged.loss is not None
    assert judged.loss.rotation_deg.max() < 3 and judged.loss.direction_deg.max() < 20
    judged.loss.loss.backward()
    assert similarity.grad is not None and similarity.grad.isfinite().all() and similarity.grad.any()
    unsure = Scores(*(value.detach() * 0 for value in scores))
    none = judge_pose(unsure, batch["keypoints0"], batch["keypoints1"], batch, 0.1)
    assert none.loss is None and not none.usable.any()


def test_the_pose_has_its_share_of_the_loss(
    posed: HeadsRecipe, cache: PairCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the pairs with a pose, three of four here; the confidences' cost stays as it is."""
    told = JudgedPose(torch.tensor([True, False, True, True]), PoseLoss(torch.tensor(70.0), *torch.zeros(2, 3)))
    monkeypatch.setattr("slamfeat.train.joint_task.judge_pose", lambda *_: told)
    module = KINDS["joint"].task(posed, cache, cache).module
    settings = JointTaskConfig(keypoints=128, pose_after=100, pose_ramp=1e-3)
    task = JointTask(settings, module, cache, cache)  # type: ignore[arg-type]  # the module is known as a plain one
    batch = task.batch(range(4))
    with torch.no_grad():
        before, parts = task.loss(batch)
        assert parts["pose_share"] == 0 and parts["pose"] == 0
        task.after_step(500)
        after, parts = task.loss(batch)
    assert float(parts["pose_share"]) == pytest.approx(0.3) and float(parts["pose"]) == 70
    settled = float(parts["settled"])
    assert float(after) == pytest.approx(0.7 * (float(before) - settled) + 0.3 * 70 + settled, rel=1e-5)


def test_a_frontend_sees_what_was_trained_on(photos: list[Path]) -> None:
    """Keypoints and descriptors of a row, by the heads in training's form, are those of a frontend with the heads."""
    config = FrontendConfig(num_keypoints=64, cell=14, layers=[5])
    frontend = Frontend.from_pretrained("dinov2-vits14-int8", config=config, engine="torch", precision="fp32")
    pair = plane_pairs(photos, SIZE).pair(0)
    row = {name: torch.from_numpy(np.asarray(value)) for name, value in JointPreparer(frontend, SIZE)(pair).items()}
    torch.manual_seed(0)
    about = HeadsAbout("dinov2-vits14", 5, "finer", None, None, DescriptorConfig(), SaliencyConfig())
    heads = Heads(about)
    with torch.inference_mode():
        # Only what describes and judges is looked at.
        joint = JointHeads(heads.fine, heads.descriptor, None, heads.saliency).eval()  # type: ignore[arg-type]
        trained = joint(row["image0"][None], row["keypoints0"][None], row["tokens0"][None].float()).descriptors[0]
    seen = Frontend(frontend.backbone, config, heads=heads).extract(pair.image0)
    torch.testing.assert_close(seen.keypoints[0], row["keypoints0"])
    alike = (seen.descriptors[0] * trained).sum(1)[row["mask0"]]
    assert float(alike.min()) > 0.999


def test_offsets_that_bring_matches_together_cost_nothing() -> None:
    rng = torch.Generator().manual_seed(0)
    keypoints0, offset0, offset1 = (torch.rand(1, 5, 2, generator=rng) for _ in range(3))
    affine = torch.rand(1, 5, 2, 2, generator=rng)
    landed = keypoints0 + 7
    index = torch.tensor([[2, -1, 0, -2, 4]])
    keypoints1 = torch.zeros(1, 5, 2)
    for i in (0, 2, 4):
        j = index[0, i]
        keypoints1[0, j] = landed[0, i] + affine[0, i] @ offset0[0, i] - offset1[0, j]
    args = (keypoints0, keypoints1, offset0, offset1, landed, affine, index)
    torch.testing.assert_close(offset_distance(*args), torch.full((3,), 0.01), atol=1e-5, rtol=0)
    moved = offset_distance(keypoints0, keypoints1 + torch.tensor([3.0, 4.0]), *args[2:])
    torch.testing.assert_close(moved, torch.full((3,), 5.0), atol=1e-4, rtol=0)


def test_descriptor_likelihood_by_hand() -> None:
    torch.manual_seed(0)
    first, second = (torch.nn.functional.normalize(torch.randn(1, n, 8), dim=2) for n in (4, 3))
    mask0, mask1 = torch.tensor([[True, True, True, False]]), torch.ones(1, 3).bool()
    index0, index1 = torch.tensor([[1, -1, 0, -2]]), torch.tensor([[2, 0, -1]])
    logits = (first @ second.mT / 0.1)[0, :3]
    wanted = -(logits.log_softmax(1) + logits.log_softmax(0))[[0, 2], [1, 0]].mean()
    found = descriptor_nll(first, second, mask0, mask1, index0, index1, 0.1)
    torch.testing.assert_close(found, wanted)


def test_repeatability_counts_matches_within_the_better_halves(posed: HeadsRecipe, cache: PairCache) -> None:
    """A saliency that knows the matches repeats all that has one; one that loves the others repeats least."""
    task = KINDS["joint"].task(posed, cache, cache)
    batch = task.batch([0, 1])
    pose = JudgedPose(torch.zeros(2).bool(), None)
    shares = []
    for sign in (1, -1):
        judged = [task.module.saliency(torch.zeros(2, batch["mask0"].shape[1], 64)) for _ in range(2)]
        told = [j._replace(logit=sign * (batch[f"index{i}"] >= 0).float()) for i, j in enumerate(judged)]
        figures = joint_figures(pose, (told[0], told[1]), batch)
        shares.append(float(figures["repeatability"].mean()))
        assert (figures["rotation_deg"] == 180).all() and len(figures["rotation_deg"]) == int(batch["posed"].sum())
        torch.testing.assert_close(figures["apart_px"], figures["apart_untrained_px"])
    assert shares[0] > 0.7 > 0.3 > shares[1]


@pytest.mark.parametrize(
    "values",
    [{"keypoints": 4}, {"pose_ramp": 0.0}, {"pose_most": 1.5}, {"temperature": 0.0}, {"saliency_weight": -1.0}],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        # mypy takes a dict's values for every argument.
        JointTaskConfig(**values)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_batch_is_learnt_by_heart_and_its_poses_with_it(posed: HeadsRecipe, cache: PairCache, tmp_path: Path) -> None:
    """Matching first; from step 50 on the pose joins, and its error falls."""
    settings = JointTaskConfig(keypoints=128, pose_after=50, pose_ramp=2e-3, pose_most=0.2, layers=1, swap=False)
    task = KINDS["joint"].task(posed, cache, cache)
    # The module is known as a plain one.
    task = JointTask(settings, task.module, cache, cache)  # type: ignore[arg-type]
    before = task.evaluate()
    loop = LoopConfig(steps=100, batch=2, lr=3e-3, warmup=5, overfit=True, log_every=10, evaluate_every=0, device="cpu")
    train(task, loop, tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    steps = {line["step"]: line for line in log}
    assert steps[100]["nll"] < 0.3 * steps[10]["nll"] and steps[100]["recall"] > 0.8
    assert steps[50]["pose"] == 0 < steps[60]["pose"] and steps[60]["pose_share"] > 0
    assert all(np.isfinite(line["loss"]) for line in log)
    assert steps[100]["pose"] < 0.7 * steps[60]["pose"]
    assert steps[100]["apart_px"] < steps[10]["apart_px"] and steps[100]["saliency"] < steps[10]["saliency"]
    assert int(task.module.steps) == 100
    assert set(before) >= {"nll", "precision", "recall", "rotation_deg", "direction_deg", "repeatability", "apart_px"}
