"""Two processes under torchrun learn what one learns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch
from matcher_toys import made_up_pairs, matcher_task
from torch import nn
from training_toys import GradientToy, ToyConfig, ToyTask, loop

from slamfeat.errors import ConfigError
from slamfeat.frontend.heads.fine import FinerCNN
from slamfeat.train.checkpoint import load_checkpoint, remove_checkpoints
from slamfeat.train.distributed import Ranks, share_norms
from slamfeat.train.draw import judged_layers
from slamfeat.train.loop import train
from slamfeat.train.matcher_task import MatcherTaskConfig
from slamfeat.train.order import SampleOrder
from slamfeat.train.rng import seed_of
from slamfeat.train.sharding import gathered

REPO = Path(__file__).parent.parent.parent
TOY, MATCHER = (Path(__file__).parent / f"{name}_toys.py" for name in ("training", "matcher"))
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}


def torchrun(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in two processes with Gloo."""
    command = [sys.executable, *TORCHRUN, str(program), *words]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120)


def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(tmp_path: Path) -> None:
    config = ToyConfig(loop(steps=5, batch=8, accumulate=2, evaluate_every=5, ema=0.9), noisy=False, size=50, rare=3)
    alone = GradientToy(config)
    train(alone, config.loop, tmp_path / "alone", settings=config)
    words = ["loop.steps=5", "loop.batch=8", "loop.accumulate=2", "loop.lr=1e-2", "loop.device=cpu"]
    words += ["loop.log_every=1", "loop.evaluate_every=5", "loop.ema=0.9", "noisy=false", "size=50", "rare=3"]
    done = torchrun(TOY, str(tmp_path / "two"), "", *words)
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        gradients = torch.load(tmp_path / f"two.grad-{rank}.pt", weights_only=True)
        torch.testing.assert_close(gradients, list(alone.gradients), atol=1e-6, rtol=1e-6)
    kept = [load_checkpoint(tmp_path / name / "checkpoints", 5) for name in ("alone", "two")]
    torch.testing.assert_close(kept[1].weights, kept[0].weights, atol=1e-6, rtol=1e-6)
    assert float(kept[1].weights["rare"]) != 0
    shares = [SampleOrder(config.loop, 50, rank, 2) for rank in (0, 1)]
    users = [sum(3 in share.indices(step, 0) + share.indices(step, 1) for share in shares) for step in range(5)]
    assert {0, 1} == set(users)  # no gradient for it in one process, or in both
    assert len(kept[1].state["generators"]) == 2
    assert not torch.equal(*(states["torch"] for states in kept[1].state["generators"]))
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").open()] for name in ("alone", "two")]
    assert [line["step"] for line in logs[1]] == [1, 2, 3, 4, 5, 5]
    for one, two in zip(*logs, strict=True):
        for name in {"loss", "bias", "grad_norm"} & one.keys():
            assert two[name] == pytest.approx(one[name], rel=1e-4, abs=1e-6)
    assert logs[1][-1]["evaluation"]["samples"] == 64
    assert logs[1][0]["count"] == 4 and logs[0][0]["count"] == 8


def test_two_processes_teach_the_matcher_what_one_does(tmp_path: Path) -> None:
    """Also where only some of its layers are judged, which would be others if each process drew them by itself."""
    cache = made_up_pairs(tmp_path / "pairs")
    alone = matcher_task(cache, MatcherTaskConfig(keypoints=12, held_out=4))
    train(alone, loop(steps=3, batch=8, evaluate_every=0), tmp_path / "alone")
    assert any(judged_layers(1, 5, 8 * step) != judged_layers(1, 5, 8 * step + 4) for step in range(3))
    words = ["loop.steps=3", "loop.batch=8", "loop.lr=1e-2", "loop.device=cpu", "loop.log_every=1"]
    done = torchrun(MATCHER, str(cache.folder), str(tmp_path / "two"), *words, "loop.evaluate_every=0")
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        gradients = torch.load(tmp_path / f"two.grad-{rank}.pt", weights_only=True)
        torch.testing.assert_close(gradients, alone.gradients, atol=1e-6, rtol=1e-4)
    kept = [load_checkpoint(tmp_path / name / "checkpoints", 3).weights for name in ("alone", "two")]
    torch.testing.assert_close(kept[1], kept[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("device", "world"), [("cuda", 2), ("cuda", 1), ("cpu", 2)])
def test_batch_norms_are_shared_where_they_can_be(device: str, world: int) -> None:
    """Nothing else changes: the optimizer's parameters and the names in a checkpoint are the same."""
    branch = FinerCNN(8)
    before, names = [id(parameter) for parameter in branch.parameters()], list(branch.state_dict())
    share_norms(branch, Ranks(0, world, torch.device(device)))
    norms = [module for module in branch.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    shared = [isinstance(norm, nn.SyncBatchNorm) for norm in norms]
    assert shared == [device == "cuda" and world > 1] * len(norms) and norms
    assert before == [id(parameter) for parameter in branch.parameters()] and names == list(branch.state_dict())


def test_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    """Where nothing is drawn the weights are those of the uninterrupted run."""
    config = ToyConfig(loop(steps=6, batch=8, save_every=3, keep=9, evaluate_every=0, ema=0.9), noisy=False)
    words = ["loop.steps=6", "loop.batch=8", "loop.save_every=3", "loop.keep=9", "loop.evaluate_every=0"]
    words += ["loop.lr=1e-2", "loop.device=cpu", "loop.log_every=1", "loop.ema=0.9", "noisy=false"]
    done = torchrun(TOY, str(tmp_path / "run"), "", *words)
    assert done.returncode == 0, done.stderr
    checkpoints = tmp_path / "run" / "checkpoints"
    whole = load_checkpoint(checkpoints, 6)
    remove_checkpoints(checkpoints, [6])
    train(ToyTask(config), config.loop, tmp_path / "run", settings=config, resume="last")
    found = load_checkpoint(checkpoints, 6)
    assert (whole.facts.world, found.facts.world) == (2, 1)
    torch.testing.assert_close(found.weights, whole.weights, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.average, whole.average, atol=1e-6, rtol=1e-6)
    events = (tmp_path / "run" / "run.log").read_text()
    assert "resumed after step 3, on 1 x cpu; begun on 2, generators are seeded anew" in events
    assert len({seed_of(0, 3, 0), seed_of(0, 3, 1), seed_of(0, 4, 0), seed_of(1, 3, 0)}) == 4


def test_shared_out_parameters_need_as_many_processes(tmp_path: Path) -> None:
    words = ["loop.steps=2", "loop.device=cpu", "loop.evaluate_every=0", "loop.shard=true", "noisy=false"]
    done = torchrun(TOY, str(tmp_path / "run"), "", *words)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "run" / "checkpoints" / "step-00000002.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"world": 3}))
    done = torchrun(TOY, str(tmp_path / "run"), "last", *words)
    assert done.returncode != 0 and "shared out among 3 processes, not 2; resume with as many" in done.stderr


def test_a_process_that_dies_is_started_again(tmp_path: Path) -> None:
    """As torchrun's --max-restarts does with all of them, from the newest checkpoint.

    By the store that torch shares by default new processes may find the dead ones' addresses (pytorch#135712).
    """
    config = ToyConfig(loop(steps=12, batch=8, save_every=3, evaluate_every=0), noisy=False, seconds=0.2)
    words = ["loop.steps=12", "loop.batch=8", "loop.save_every=3", "loop.evaluate_every=0", "loop.lr=1e-2"]
    words += ["loop.device=cpu", "loop.log_every=1", "noisy=false", "seconds=0.2"]
    out = tmp_path / "run"
    command = [sys.executable, *TORCHRUN, "--max-restarts=1", str(TOY), str(out), "auto", *words]
    fresh = {**ENVIRONMENT, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with subprocess.Popen(command, env=fresh, stderr=subprocess.PIPE, text=True) as agent:
        try:
            until = time.monotonic() + 100
            while not (out / "checkpoints" / "step-00000003.json").is_file() and time.monotonic() < until:
                time.sleep(0.01)
            children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
            workers = [int(pid) for pid in children if TOY.name in Path(f"/proc/{pid}/cmdline").read_text()]
            assert len(workers) == 2
            os.kill(workers[1], signal.SIGKILL)
            _, said = agent.communicate(timeout=100)
        finally:
            agent.terminate()  # and its workers, where something went wrong
    assert agent.returncode == 0, said
    events = (out / "run.log").read_text()
    assert "resumed after step 3" in events or "resumed after step 6" in events
    alone = ToyTask(config)
    train(alone, config.loop, tmp_path / "alone", settings=config)
    kept = [load_checkpoint(folder / "checkpoints", 12).weights for folder in (out, tmp_path / "alone")]
    torch.testing.assert_close(kept[0], kept[1], atol=1e-6, rtol=1e-6)


def test_whole_tensors_are_held_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And by nobody but the process that writes them."""
    made: list[weakref.ref[torch.Tensor]] = []
    most = list[int]()

    def gather(value: torch.Tensor) -> torch.Tensor:
        most.append(sum(one() is not None for one in made))
        made.append(weakref.ref(part := value.clone()))
        return part

    monkeypatch.setattr("slamfeat.train.sharding.whole", gather)
    values = {str(number): torch.full((2,), float(number)) for number in range(4)}
    assert gathered(values, keep=False) == {} and most == [0] * 4
    torch.testing.assert_close(gathered(values, keep=True), values)


@pytest.mark.parametrize("words", [[], ["loop.shard=true"], ["loop.accumulate=2", "loop.batch=4", "loop.shard=true"]])
def test_what_one_process_cannot_learn_from_stops_both(words: list[str], tmp_path: Path) -> None:
    """Sample 14 is in the second process's share of the second step; nobody waits for the other in a backward pass."""
    given = ["loop.steps=9", "loop.device=cpu", "loop.evaluate_every=0", "poisoned=14", *words]
    done = torchrun(TOY, str(tmp_path / "two"), "", *given)
    assert done.returncode != 0
    assert done.stderr.count("TrainingError: step 2: the loss is not finite") == 2
    kept = torch.load(tmp_path / "two" / "nonfinite" / "step-00000002.pt", weights_only=True)
    assert kept["indices"] == [[14, 15] if "loop.accumulate=2" in words else [12, 13, 14, 15]]
    assert load_checkpoint(tmp_path / "two" / "checkpoints", 1).facts.world == 2


def test_processes_share_every_batch_without_overlap() -> None:
    config = loop(batch=6, accumulate=2)
    whole = SampleOrder(config, 10)
    shares = [SampleOrder(config, 10, rank, 3) for rank in range(3)]
    for step in range(4):
        for micro in range(2):
            joined = [index for share in shares for index in share.indices(step, micro)]
            assert joined == whole.indices(step, micro)
    with pytest.raises(ConfigError, match=r"batch=6 cannot be shared by 4 processes; use a multiple of 4"):
        SampleOrder(config, 10, 0, 4)
    with pytest.raises(ConfigError, match="no samples"):
        SampleOrder(config, 0)
