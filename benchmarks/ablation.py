"""The ablation: what each part of the frontend brings, one change a row, on train-split data.

    python -m benchmarks.ablation ../shared/data --out benchmarks/results/ablation

Rows are those of benchmarks/ablation_rows.py; each becomes a recipe, and all of them go through `slamfeat bench`'s own
tasks on the data of configs/bench/train_split.yaml: relative poses of pairs, odometry of fr1, and times at one thread.
What is predicted is kept in --work, so that an interrupted run goes on; what other code made is refused there, unless
--overwrite discards it. Rows that the heads lack something for are left out, and the table says why. All frontends are
timed in one process, which takes some 8 GB. Writes OUT.json and OUT.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.ablation_heads import write_heads
from benchmarks.ablation_rows import GROUPS, Row, all_rows, recipes_of
from benchmarks.ablation_table import markdown, rows_with_figures
from benchmarks.command import run_and_show
from slamfeat.bench.config import BenchConfig, quick, rooted
from slamfeat.bench.provenance import header
from slamfeat.bench.run import Results, run_tasks
from slamfeat.config import load_config
from slamfeat.errors import ConfigError
from slamfeat.files import write_text

RECIPE = Path(__file__).parent.parent / "configs" / "bench" / "train_split.yaml"
TASKS = ("matching", "vo", "speed")
TRIALS = 3  # of the odometry: its robust estimation is random, and what was matched serves all trials


def ablation_config(given: argparse.Namespace, frontends: Sequence[str]) -> BenchConfig:
    """The train split with these frontends, timed at one thread."""
    config = rooted(load_config(BenchConfig, RECIPE), given.data)
    config = replace(
        config, frontends=list(dict.fromkeys(frontends)), num_keypoints=given.keypoints,
        odometry=replace(config.odometry, covariances=True),
        vo=replace(config.vo, trials=TRIALS), speed=replace(config.speed, threads=[1], also=[]),
    )  # fmt: skip
    return quick(config) if given.quick else config


def run(given: argparse.Namespace) -> None:
    """Measure and write.

    Raises:
        ConfigError: no row is left to measure, or predictions of other code are in the way.
    """
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    command = "python -m benchmarks.ablation " + shlex.join(given.words)
    sources = {"light": given.heads, "full": given.heads_full, "scratch": given.heads_scratch}
    heads, missing = write_heads(sources, given.work / "heads")
    recipes, reasons = recipes_of(list(all_rows(GROUPS)), heads, missing, given.work / "recipes", given.keypoints)
    problems = {f"{row.group.title}, {row.label}": reason for row, reason in reasons.items()}
    for label, reason in problems.items():
        say(f"left out: {label}: {reason}")
    if not recipes:
        raise ConfigError("no row can be measured with these heads")
    config = ablation_config(given, list(recipes.values()))
    results = run_tasks(
        TASKS, config, given.work, workers=given.jobs, command=command, overwrite=given.overwrite, say=say,
        watch=lambda total: lambda job, problem: say(f"  {named(job.label, recipes)}: {problem or 'done'}"),
    )  # fmt: skip
    write(given.out, facts_of(given, config, command), recipes, results, problems)


def named(label: str, recipes: Mapping[Row, str]) -> str:
    """A job's label with the (first) row it is done for in place of the recipe."""
    for row, recipe in recipes.items():
        label = label.replace(recipe, f"{row.group.title}, {row.label},")
    return label


def facts_of(given: argparse.Namespace, config: BenchConfig, command: str) -> dict[str, Any]:
    """Where the figures come from."""
    names = [Path(word).name for word in config.matching.data]
    facts = header(command, f"1 for times, {max(given.jobs, 1)} processes for accuracy")
    facts |= {"data": " + ".join(names), "keypoints": config.num_keypoints, "trials": config.vo.trials}
    heads = f"{given.heads}, {given.heads_full}, {given.heads_scratch}"
    return facts | {"estimator": config.estimator_label, "heads": heads}


def write(
    out: Path, facts: dict[str, Any], recipes: Mapping[Row, str], results: Results, problems: dict[str, str]
) -> None:
    """The table, and the figures behind it, as OUT.md and OUT.json."""
    for result in results.values():
        problems = problems | {named(label, recipes): text for label, text in result["problems"].items()}
    rows = rows_with_figures(recipes, results)
    stored = {"header": facts, "rows": rows, "problems": problems}
    write_text(out.with_suffix(".json"), json.dumps(stored, indent=1) + "\n")
    write_text(out.with_suffix(".md"), markdown(facts, rows, problems))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, and as `words` what it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the shared data folder")
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    parser.add_argument("--work", type=Path, default=Path("runs") / "ablation", help="recipes and predictions")
    parser.add_argument("--heads", default="light", help="the base's: a name of shipped heads, or a file")
    parser.add_argument("--heads-full", default="full", help="those it is compared with")
    parser.add_argument(
        "--heads-scratch", default="scratch", help="those of `slamfeat train cpu_scratch`; none shipped"
    )
    parser.add_argument("--keypoints", type=int, default=1024)
    parser.add_argument("--jobs", type=int, default=2, help="processes for matching and odometry")
    parser.add_argument("--quick", action="store_true", help="few frames and pairs: not to be quoted")
    parser.add_argument("--overwrite", action="store_true", help="discard predictions that other code made")
    words = list(sys.argv[1:] if arguments is None else arguments)
    return parser.parse_args(words, argparse.Namespace(words=words))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    run_and_show(run, parse(arguments))


if __name__ == "__main__":
    main()
