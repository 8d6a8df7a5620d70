"""Small runs of pretraining and distillation, in this process or in several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def run(verb: str, out: Path, *words: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    given = [*start, *command(verb, out, *words)]
    return subprocess.run(given, env=environment(), capture_output=True, text=True, check=False, timeout=300)


def losses(out: Path) -> list[dict[str, Any]]:
    """The logged steps of a run."""
    lines = [json.loads(line) for line in (out / "run" / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]
