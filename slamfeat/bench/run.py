"""Running tasks: what is missing is predicted, everything is evaluated, and the results are written.

OUT/
  costs.json         seconds a frontend, for the expected time
  predictions/       kept predictions, a folder a task and frontend, with what made them
  evaluations/       errors a pair, by estimator
  results/TASK.json  header, settings, rows
  results/TASK.items.jsonl   what the rows are made of: a line a row, with every pair or trial
  results/TASK.md    the table
  results/trajectories/, results/charts/
  results.html       everything on one page
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slamfeat.bench import matching, matching_rows, robustness, vo, vo_rows
from slamfeat.bench.config import BenchConfig
from slamfeat.bench.cost import Cost, in_words, measure_costs
from slamfeat.bench.data import parse_sequence
from slamfeat.bench.jobs import Job, Progress, run_jobs, threads_per_worker
from slamfeat.bench.provenance import header
from slamfeat.bench.registry import build_frontend, settings_of
from slamfeat.bench.speed_run import expected_seconds, run_speed
from slamfeat.config import to_dict
from slamfeat.errors import InputError
from slamfeat.files import write_text
from slamfeat.vo.runfolder import plain

TASKS = ("matching", "vo", "robustness", "speed")
Say = Callable[[str], None]
Results = dict[str, dict[str, Any]]
_OVERHEAD = 1.25  # starting workers, reading images, two processes sharing the memory's bandwidth


def run_tasks(
    tasks: Sequence[str], config: BenchConfig, out: Path, *, workers: int, command: str, overwrite: bool = False,
    say: Say = lambda line: None, watch: Callable[[int], Progress] | None = None,
) -> Results:  # fmt: skip
    """Run tasks and write their results.

    Args:
        tasks: of `TASKS`.
        config: see `BenchConfig`.
        out: the benchmark's folder; what it holds already is not computed again.
        workers: processes that work side by side, each with its share of the cores; 0 for this process alone.
        command: for the header.
        overwrite: throw away predictions that another configuration made, instead of refusing them.
        say: told a line before each step.
        watch: makes a progress callback for so many jobs.

    Raises:
        InputError: a task has no data.
        ConfigError: predictions of another configuration are in the way.
        WeightsError: a frontend's weights are missing.
    """
    for task in tasks:
        if not getattr(config, task).data:
            raise InputError(f"bench {task}: no data; name at least one, or give a recipe with {task}.data")
    check_estimators(config)
    _check_data(tasks, config)
    say(f"timing a frame of {len(config.frontends)} frontends …")
    cost = measure_costs(config, out)
    jobs, groups = _missing(tasks, config, out, cost, overwrite)
    say(_expectation(tasks, jobs, config, cost, out, workers))
    problems = run_jobs(jobs, workers, watch(len(jobs)) if watch else None) if jobs else {}
    if "matching" in tasks:
        evaluations = matching_rows.evaluation_jobs(config, out, groups)
        if evaluations:
            say(f"evaluating {len(evaluations)} groups of pairs with {config.estimator} …")
            problems |= run_jobs(evaluations, workers, watch(len(evaluations)) if watch else None)
    if "speed" in tasks:
        problems |= run_speed(config, out, say)
    results = collect(tasks, config, out, groups, workers, command, problems)
    write_results(results, out)
    return results


def check_estimators(config: BenchConfig) -> None:
    """Raise MissingDependencyError now rather than in every job, when an estimator's package is missing."""
    import numpy as np

    from slamfeat.geometry.robust import estimate_relative_pose
    from slamfeat.types import Camera

    camera = Camera(100, 100, 100.0, 100.0, 50.0, 50.0)
    points = np.random.default_rng(0).uniform(0, 100, (12, 2))
    for estimator in {config.estimator, config.odometry.estimator}:
        estimate_relative_pose(points, points + 1, camera, camera, estimator=estimator)


def _check_data(tasks: Sequence[str], config: BenchConfig) -> None:
    """Raise InputError now rather than when all frontends are built and timed, where data are not there."""
    for task in tasks:
        for word in getattr(config, task).data:
            path = Path(word if task == "matching" else parse_sequence(word).path)
            if not path.expanduser().exists():
                raise InputError(f"bench {task}: no such file or folder: {path}; check the path")


def collect(
    tasks: Sequence[str], config: BenchConfig, out: Path, groups: list[Any], workers: int, command: str,
    problems: dict[str, str],
) -> Results:  # fmt: skip
    """The results of tasks from what is kept."""
    frontends = {
        name: {"settings": settings_of(build_frontend(name, config.num_keypoints))} for name in config.frontends
    }
    results: Results = {}
    for task in tasks:
        threads = f"{max(workers, 1)} processes with {threads_per_worker(workers)} of this machine's cores each"
        made: dict[str, Any] = {
            "task": task, "header": header(command, "as each row says" if task == "speed" else threads),
            "estimator": config.estimator_label if task == "matching" else _odometry_label(config),
            "num_keypoints": config.num_keypoints, "config": to_dict(config), "frontends": frontends,
            "problems": {label: text for label, text in problems.items() if _concerns(task, label)},
        }  # fmt: skip
        made["rows"] = _rows(task, config, out, groups, made)
        if task == "vo":
            made["pictures"] = vo_rows.draw_trajectories(config, out, out / "results")
        results[task] = dict(plain(made))
    return results


def write_results(results: Results, out: Path) -> None:
    """Write each task's JSON and markdown, the charts and the page of all tasks that have results in `out`."""
    from slamfeat.bench.charts import write_charts
    from slamfeat.bench.page import page
    from slamfeat.bench.tables import markdown

    folder = out / "results"
    for task, result in results.items():
        rows = [{key: value for key, value in row.items() if key != "items"} for row in result["rows"]]
        write_text(folder / f"{task}.json", json.dumps({**result, "rows": rows}, indent=1) + "\n")
        items = [row for row in result["rows"] if "items" in row]
        if items:
            write_text(folder / f"{task}.items.jsonl", "".join(json.dumps(_item_line(row)) + "\n" for row in items))
        write_text(folder / f"{task}.md", markdown(result))
    every = read_results(folder)
    charts = write_charts(every, folder / "charts")
    write_text(out / "results.html", page(every, charts, folder))


def _item_line(row: dict[str, Any]) -> dict[str, Any]:
    """The words that name a row, and its items."""
    return {key: value for key, value in row.items() if isinstance(value, str) or key == "items"}


def read_results(folder: Path) -> Results:
    """The results that a folder holds, by task."""
    found = {task: folder / f"{task}.json" for task in TASKS}
    return {task: json.loads(path.read_text(encoding="utf-8")) for task, path in found.items() if path.exists()}


def _missing(
    tasks: Sequence[str], config: BenchConfig, out: Path, cost: Cost, overwrite: bool
) -> tuple[list[Job], list[Any]]:
    jobs: list[Job] = []
    groups: list[Any] = []
    if "matching" in tasks:
        jobs, groups = matching.matching_jobs(config, out, cost, overwrite)
    if "vo" in tasks:
        jobs += vo.vo_jobs(config, out, cost, overwrite)
    if "robustness" in tasks:
        jobs += robustness.robustness_jobs(config, out, cost, overwrite)
    return jobs, groups


def _expectation(
    tasks: Sequence[str], jobs: list[Job], config: BenchConfig, cost: Cost, out: Path, workers: int
) -> str:
    seconds = _OVERHEAD * sum(job.seconds for job in jobs) / max(workers, 1)
    longest = max((job.seconds for job in jobs), default=0.0)
    seconds = max(seconds, _OVERHEAD * longest)
    if "speed" in tasks:
        seconds += expected_seconds(config, cost, out)
    return f"{len(jobs)} jobs to run; expected to take about {in_words(seconds)}. Interrupted, it goes on where it was."


def _rows(task: str, config: BenchConfig, out: Path, groups: list[Any], made: dict[str, Any]) -> list[dict[str, Any]]:
    if task == "matching":
        return list(matching_rows.rows_of(config, out, groups))
    if task == "vo":
        return list(vo_rows.rows_of(config, out))
    if task == "robustness":
        return list(robustness.rows_of(config, out))
    from slamfeat.bench.speed_run import speed_result

    made |= speed_result(config, out)
    return list(made["rows"])


def _concerns(task: str, label: str) -> bool:
    return label.startswith(("matching", "evaluating") if task == "matching" else task)


def _odometry_label(config: BenchConfig) -> str:
    odometry = config.odometry
    return (
        f"essential matrix: {odometry.estimator}, {odometry.threshold_px:g} px; PnP: {odometry.pnp_estimator}, "
        f"{odometry.pnp_threshold_px:g} px"
    )
