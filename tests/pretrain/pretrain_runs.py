"""Small runs of pretraining and distillation, in this process or in several."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from slamfeat.config import load_config
from slamfeat.pretrain.distill_recipe import DistillRecipe
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.train.recipe_files import find_recipe

REPO = Path(__file__).parent.parent.parent
SMALL = (
    "crops.global_size=56", "crops.local_size=28", "crops.local_count=2", "probes.size=56", "probes.images=4",
    "loop.batch=4", "loop.warmup=0", "loop.log_every=1", "loop.device=cpu", "teacher.warmup=0",
)  # fmt: skip


def small_recipe(*words: str) -> PretrainRecipe:
    return load_config(PretrainRecipe, find_recipe("cpu_tiny", "pretrain"), [*SMALL, *words])


def small_distillation(*words: str) -> DistillRecipe:
    given = [word for word in SMALL if not word.startswith(("teacher", "crops.local"))]
    return load_config(DistillRecipe, find_recipe("cpu_tiny", "distill"), [*given, "crops.local_size=28", *words])


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}  # bit for bit is for as many threads


def command(verb: str, out: Path, *words: str) -> list[str]:
    given = SMALL if verb == "pretrain" else [w for w in SMALL if not w.startswith(("teacher", "crops.local_count"))]
    return ["-m", "slamfeat.cli.main", verb, "cpu_tiny", *given, *words, "--out", str(out)]


def run(
    verb: str, out: Path, *words: str, processes: int = 1, largest: int = resource.RLIM_INFINITY
) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end; no file may grow beyond `largest` bytes, as on a full disk."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    given = [*start, *command(verb, out, *words)]
    return subprocess.run(
        given, env=environment(), capture_output=True, text=True, check=False, timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY)),
    )  # fmt: skip


def kill(verb: str, out: Path, *words: str, step: int) -> None:
    """Begin a run, or go on with one, and kill it as soon as it has the checkpoint of a step."""
    process = subprocess.Popen(
        [sys.executable, *command(verb, out, *words)], env=environment(), stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not (out / "run" / "checkpoints" / f"step-{step:08d}.json").is_file():
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it had ended before"


def kept(out: Path, step: int, suffix: str = ".safetensors") -> dict[str, Tensor]:
    """Weights of a run's checkpoint."""
    weights: dict[str, Tensor] = load_file(out / "run" / "checkpoints" / f"step-{step:08d}{suffix}")
    return weights


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Equal bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def losses(out: Path) -> list[dict[str, Any]]:
    """The logged steps of a run."""
    lines = [json.loads(line) for line in (out / "run" / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]
