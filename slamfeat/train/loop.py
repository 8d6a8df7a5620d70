"""The training loop: any `Task`, in a folder that says all about the run, resumed exactly after any interruption."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from rich.console import Console
from safetensors import SafetensorError

from slamfeat.errors import ConfigError, WeightsError
from slamfeat.train.checkpoint import Checkpoint, load_checkpoint
from slamfeat.train.config import LoopConfig
from slamfeat.train.distributed import Ranks, joined_ranks, share_norms
from slamfeat.train.loader import load_batches
from slamfeat.train.log import TrainingLog, training_log
from slamfeat.train.order import SampleOrder
from slamfeat.train.rng import seed_generators
from slamfeat.train.run_folder import RunFolder, find_start, lay_out, run_weights
from slamfeat.train.session import Session
from slamfeat.train.sharding import shard
from slamfeat.train.task import Task
from slamfeat.train.weights import Weights, check_frozen, copy_weights, kept_weights


@dataclass(frozen=True)
class TrainingResult:
    """How a session ended.

    Attributes:
        step: steps made in all sessions.
        reason: "steps", "patience", "minutes" or "stop"; the run can be resumed after the last two.
        best_step, best_score: of the best evaluation; 0 and None where there was none.
        seconds: wall time of all sessions.
    """

    step: int
    reason: str
    best_step: int
    best_score: float | None
    seconds: float


def train(
    task: Task,
    config: LoopConfig,
    out: str | Path,
    *,
    settings: Any = None,
    resume: str = "",
    overwrite: bool = False,
    init: str | Path | None = None,
    command: str = "",
    stop: Callable[[], bool] = lambda: False,
    console: Console | None = None,
) -> TrainingResult:
    """Train a task in this process, or this process's share under torchrun. Seeds the global generators.

    In single precision on the CPU, a run that was killed and resumed ends with the weights it would have had, bit for
    bit, given as many threads and processes. The module is left with the last weights; `run_weights` gives the best.

    Args:
        task: what is trained; its module and frozen networks are moved to the device.
        config: of the loop.
        out: folder of the run.
        settings: dataclass with all settings of the run, `config` among them, for config.yaml; `config` if None.
        resume: "last" or "auto" to go on with the run in `out`; see `find_start`.
        overwrite: a new run takes the place of the one in `out`.
        init: weights to begin a new run from: a .safetensors file, or the folder of a run, whose best are taken.
        command: that repeats the run, for config.yaml.
        stop: asked after each step; true ends the session with a checkpoint.
        console: for a person; standard error if None.

    Raises:
        ConfigError: frozen networks that are not, settings that do not fit the task or the run to resume.
        InputError, WeightsError: nothing to resume, or nothing usable.
        OutputError: the folder is not free, or cannot be written.
        TrainingError: the loss or a gradient is not finite.
    """
    if init is not None and resume == "last":
        raise ConfigError("resume=last goes on with the run's own weights; leave out init, or begin a new run")
    check_frozen(task.frozen)
    folder, all_settings = RunFolder(Path(out)), config if settings is None else settings
    with joined_ranks(config.device) as ranks, ExitStack() as stack:
        order = SampleOrder(config, task.size, ranks.rank, ranks.world)
        start, remarks = find_start(folder, all_settings, resume, overwrite, ranks.rank)
        start = _agree(start, folder, resume, ranks, remarks)
        session = _session(task, config, ranks, folder, start, init)
        if start is None:
            session.check_score()
        _write_folder(folder, all_settings, command, start, ranks)
        log: TrainingLog | None = None
        if ranks.first:
            console = console or Console(stderr=True)
            log = stack.enter_context(training_log(folder.log, folder.events, console, config.steps, session.step))
            for remark in remarks:
                log.event(remark)
            log.event(_opening(start, init, ranks))
        numbers = (order.indices(s, m) for s in range(session.step, config.steps) for m in range(config.accumulate))
        batches = stack.enter_context(load_batches(task.batch, numbers, config.workers, config.ahead))
        reason = session.run(batches, log, stop)
        if log is not None:
            log.event(f"ended at step {session.step}: {reason}")
    return TrainingResult(session.step, reason, session.best_step, session.best_score, session.seconds)


def read_init(path: str | Path) -> Weights:
    """Weights to begin a new run from: of a .safetensors file, or the best of a run's folder.

    Raises:
        WeightsError: missing or damaged.
        InputError: a folder without a run.
    """
    path = Path(path)
    if path.is_dir():
        return run_weights(path)
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read as weights ({error}); give a .safetensors file or a run") from error


def _agree(
    start: Checkpoint | None, folder: RunFolder, resume: str, ranks: Ranks, remarks: list[str]
) -> Checkpoint | None:
    """The newest checkpoint that all processes can go on from: one may find its part damaged, or not see it yet.

    Raises:
        WeightsError: there is none, or only the newest is wanted.
    """
    found = ranks.gather(0 if start is None else start.facts.step)
    least = min(found)
    if least == max(found):
        return start
    said = (
        f"{folder.checkpoints}: the processes find checkpoints of different steps usable ({', '.join(map(str, found))})"
    )
    if resume != "auto" or not least:
        raise WeightsError(f"{said}; see that all machines have the same folder, whole")
    remarks.append(f"{said}; going on from step {least}")
    return load_checkpoint(folder.checkpoints, least, ranks.rank)


def _session(
    task: Task, config: LoopConfig, ranks: Ranks, folder: RunFolder, start: Checkpoint | None, init: str | Path | None
) -> Session:
    for network in (*task.frozen, *([] if config.shard else [task.module])):
        network.to(ranks.device)
    share_norms(task.module, ranks)
    weights = kept_weights(task.module, task.frozen)
    if init is not None and start is None:
        copy_weights(read_init(init), weights, str(init))
    ranks.same_everywhere(weights.values())
    if config.shard:
        shard(task, ranks)  # from memory, unit by unit: no device ever holds the whole module
        task.module.to(ranks.device)
    seed_generators(config.seed + ranks.rank)
    session = Session(task, config, ranks, folder)
    if start is not None:
        session.go_on_from(start)
    return session


def _opening(start: Checkpoint | None, init: str | Path | None, ranks: Ranks) -> str:
    where = f"on {ranks.world} x {ranks.device}"
    if start is not None:
        others = start.facts.world != ranks.world
        seeded = f"; begun on {start.facts.world}, generators are seeded anew" if others else ""
        return f"resumed after step {start.facts.step}, {where}{seeded}"
    return f"begun, {where}" + (f", with the weights of {init}" if init is not None else "")


def _write_folder(folder: RunFolder, settings: Any, command: str, start: Checkpoint | None, ranks: Ranks) -> None:
    ranks.meet()  # nobody may find the folder taken by this very run
    if ranks.first:
        lay_out(folder, settings, command, None if start is None else start.facts.step)
    ranks.meet()
