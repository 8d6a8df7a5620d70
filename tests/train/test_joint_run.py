"""Heads from nothing by `slamfeat train`: killed and resumed, under torchrun, on TartanAir, and used by a frontend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tartanair_room import make_tartanair_room
from train_runs import command, environment, kill_once_there, run, same

from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.heads.bundle import load_heads
from slamfeat.frontend.matcher import MatcherConfig
from slamfeat.frontend.refine import RefineConfig
from slamfeat.frontend.selector import SelectorConfig

SMALL = [
    "joint.rows=6", "joint.held_out=2", "joint.size=[160,112]", "joint.keypoints=96", "joint.task.keypoints=96",
    "joint.model.layers=2", "joint.loop.steps=12", "joint.loop.warmup=2", "joint.loop.batch=2",
    "joint.loop.evaluate_every=6", "joint.loop.save_every=3", "joint.loop.log_every=3", "joint.loop.device=cpu",
]  # fmt: skip
SCRATCH = [
    *SMALL, "stages=[joint,refiner]", "workers=1", "joint.task.pose_after=4", "joint.task.pose_ramp=1e-3",
    "data.room.cameras.sizes=[[160,112]]", "data.homography.width=160", "data.homography.height=112",
    "refiner.rows=4", "refiner.held_out=2", "refiner.points=32", "refiner.loop.steps=60", "refiner.loop.save_every=3",
    "refiner.loop.evaluate_every=30",
]  # fmt: skip


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scratch")
    run(out, *SCRATCH, recipe="cpu_scratch")
    return out


@pytest.mark.slow
def test_the_run_makes_all_heads_and_a_frontend_uses_them(scratch: Path, sample: Path) -> None:
    file = scratch / "heads.safetensors"
    heads = load_heads(file)
    assert heads.descriptor is not None and heads.saliency is not None
    assert heads.matcher is not None and heads.refiner is not None
    assert heads.about.fine == "finer" and heads.matcher.tokens is None
    assert "joint" in heads.about.notes and "refiner" in heads.about.notes
    config = FrontendConfig(
        num_keypoints=128, cell=14, heads=str(file), selector=SelectorConfig(saliency="learned"),
        matcher=MatcherConfig(method="attention", min_probability=0.0), refine=RefineConfig(method="none"),
    )  # fmt: skip
    frontend = Frontend.from_pretrained("default", config=config, engine="torch", precision="fp32")
    features = [frontend.extract(frame) for frame in sorted((sample / "rgb").iterdir())[:2]]
    assert features[0].descriptors.shape == (1, 128, 96)
    assert frontend.match(*features).mask.any()


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_it_would_have_had(scratch: Path, tmp_path: Path) -> None:
    """Killed while pairs are prepared, and while heads are trained before and after the pose has come in."""
    out = tmp_path / "killed"
    words = command(out, *SCRATCH, recipe="cpu_scratch")
    joint = ("joint/checkpoints/step-00000003.json", "joint/checkpoints/step-00000006.json")
    for place in ("cache/joint_train/done.u8", *joint, "refiner/checkpoints"):
        kill_once_there(out / place, words)
    run(out, *SCRATCH, recipe="cpu_scratch")
    assert same(load_heads(out / "heads.safetensors"), load_heads(scratch / "heads.safetensors"))


@pytest.mark.slow
def test_a_refiner_made_later_joins_the_heads(scratch: Path, tmp_path: Path) -> None:
    """With `others`, what learnt together stays together, and only the refiner is new."""
    others = scratch / "heads.safetensors"
    run(tmp_path, *SCRATCH, "stages=[refiner]", f"others={others}", "refiner.loop.seed=4", recipe="cpu_scratch")
    before, after = load_heads(others).state_dict(), load_heads(tmp_path / "heads.safetensors").state_dict()
    assert before.keys() == after.keys()
    differing = {name.partition(".")[0] for name, value in before.items() if not value.equal(after[name])}
    assert differing == {"refiner"}


@pytest.mark.slow
def test_the_recipe_for_gpus_in_miniature(sample: Path, tmp_path: Path) -> None:
    """On a processor, in bfloat16 as the recipe has it, from TartanAir's files; in two processes under torchrun."""
    photos = sorted((sample / "rgb").iterdir())[::20]
    moves = np.array([[0, 0, 0, 0], [0.2, 0.3, 0, -0.05], [0.3, 0.6, -0.1, -0.1]])
    for number in range(2):
        make_tartanair_room(tmp_path / f"data/boards/Easy/P00{number}", photos, moves * [1, 1 - 2 * number, 1, 1])
    out = tmp_path / "run"
    words = [
        *SMALL, "weights=dinov2-vits14-int8", "layer=5", "workers=1", f"data.sequences=['{tmp_path}/data/*/*/P*']",
        "data.sequence.max_gap=3", "joint.loop.accumulate=1", "joint.loop.steps=6", "joint.loop.evaluate_every=3",
        "joint.task.pose_after=2", "joint.task.pose_ramp=1e-3",
    ]  # fmt: skip
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    program = command(out, *words, recipe="gpu_tartanair")[1:]
    done = subprocess.run([*launch, *program], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    heads = load_heads(out / "heads.safetensors")
    assert heads.matcher is not None and heads.matcher.config.dim == 192 and heads.matcher.config.heads == 3
    assert heads.descriptor is not None and heads.descriptor.config.dim == 192
