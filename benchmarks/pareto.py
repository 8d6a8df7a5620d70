"""Time against accuracy of many settings, on train-split data: where the presets are chosen.

    python -m benchmarks.pareto ../shared/data --out runs/pareto --preset fast --preset balanced \
        --variant "large cells: frontend.cell=40 frontend.refine.passes=1" --peer xfeat

Accuracy: relative poses of the pairs of configs/bench/train_split.yaml, with slamfeat.bench's own code; `--pairs` thins
them (pairs a gap). Matches are kept in OUT by a digest of the settings and of the source, so that a variant is matched
once. Time: one extraction and one match at 640x480; measured anew in every call, all frontends in turn in one process.
Beside the area of pose errors stands that of rotation errors alone: fr1's camera turns, and where it hardly moves the
direction of its translation says little. Writes OUT/pareto.json, .md and .png.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.pareto_chart import draw, pareto_front
from slamfeat.bench import matching, matching_rows
from slamfeat.bench.config import BenchConfig, rooted
from slamfeat.bench.figures import data_figure
from slamfeat.bench.jobs import Job, run_jobs
from slamfeat.bench.provenance import header, header_line
from slamfeat.bench.registry import OURS, build_frontend, fingerprint, is_ours, settings_of
from slamfeat.bench.speed import SpeedJob, measure_times
from slamfeat.bench.store import file_name, load_npz
from slamfeat.config import load_config
from slamfeat.errors import ConfigError, SlamfeatError
from slamfeat.eval import markdown_table
from slamfeat.files import write_text
from slamfeat.vo.pipeline import load_pipeline

RECIPE = Path(__file__).parent.parent / "configs" / "bench" / "train_split.yaml"
FIGURES = {"auc_5": "AUC@5° of poses [%]", "rot_auc_5": "AUC@5° of rotations [%]"}


def parse_variant(text: str, folder: Path) -> tuple[str, str]:
    """The label of "LABEL: key=value ..." and the recipe that is written for its settings.

    Raises:
        ConfigError: no label, an unknown key, or a value of the wrong type.
    """
    label, colon, words = text.partition(":")
    if not colon or not label.strip():
        raise ConfigError(f"--variant '{text}' is not of the form 'LABEL: key=value key=value'")
    load_pipeline(None, shlex.split(words))  # says at once what is wrong
    content = json.dumps(nested(shlex.split(words)), indent=1) + "\n"  # JSON is YAML
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return label.strip(), str(write_text(folder / f"{file_name(label.strip())}-{digest}.yaml", content))


def nested(words: Sequence[str]) -> dict[str, Any]:
    """`a.b=1` words, known to be well formed, as nested dicts; values are read as YAML."""
    import yaml

    out: dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition("=")
        *parents, last = key.split(".")
        inner = out
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = yaml.safe_load(value)
    return out


def train_config(data: Path, frontends: Sequence[str], pairs: int, keypoints: int, rounds: int) -> BenchConfig:
    """The train split's recipe with these frontends, rooted in the shared data."""
    config = rooted(load_config(BenchConfig, RECIPE), data)
    return replace(
        config, frontends=list(frontends), num_keypoints=keypoints,
        matching=replace(config.matching, per_gap=pairs), speed=replace(config.speed, rounds=rounds),
    )  # fmt: skip


def match_pairs(config: BenchConfig, out: Path, workers: int, say: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of the matching task, computing what is not kept, and what failed."""
    jobs, groups = matching.matching_jobs(config, out, {}, overwrite=True)
    if jobs:
        say(f"matching: {len(jobs)} jobs …")
    problems = run_jobs(jobs, workers, lambda job, problem: say(f"  {job.label} {problem or 'done'}"))
    # In this process: a worker would take the digest of the source anew, and refuse matches when a file was edited.
    problems |= run_jobs(matching_rows.evaluation_jobs(config, out, groups), 0)
    return list(matching_rows.rows_of(config, out, groups)), problems


def time_frontends(
    config: BenchConfig, out: Path, threads: int, workers: int
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Milliseconds of an extraction and a match by frontend, in turn in one (fresh) process, and what failed."""
    target = out / "times.npz"
    target.unlink(missing_ok=True)
    job = SpeedJob(target, config, tuple(config.frontends), threads)
    problems = run_jobs([Job("times", measure_times, (job,))], min(workers, 1))
    rows = [] if problems else load_npz(target)[1]["rows"]
    size = rows[0]["size"] if rows else ""
    return {row["frontend"]: row for row in rows if row["size"] == size}, problems


def merged_rows(
    labels: Mapping[str, str], settings: Mapping[str, dict[str, Any]], matched: list[dict[str, Any]],
    times: Mapping[str, dict[str, float]],
) -> list[dict[str, Any]]:  # fmt: skip
    """One row a frontend: times, areas over all pairs and a data set, and whether it lies on the fronts."""
    result = {"task": "matching", "rows": matched}
    data = [name for name in dict.fromkeys(row["data"] for row in matched) if name != "all"]
    rows = []
    for name, label in labels.items():
        preset = is_ours(name) and not name.endswith(".yaml")
        row: dict[str, Any] = {"frontend": label, "ours": is_ours(name), "preset": preset}
        row |= {key: times.get(name, {}).get(key) for key in ("extract_ms", "match_ms", "total_ms")}
        for key in FIGURES:
            row[key] = data_figure(result, "all", "pose", name, key)
            row |= {f"{short(one)} {key}": data_figure(result, one, "pose", name, key) for one in data}
        row["matches"] = data_figure(result, "all", "pose", name, "matches")
        row |= {"fingerprint": fingerprint(name), "settings": settings[name]}
        rows.append(row)
    for key in FIGURES:
        front = pareto_front(rows, key)
        for row in rows:
            row[f"front_{key}"] = row["frontend"] in front
    return rows


def short(data: str) -> str:
    """A data set's name for a heading."""
    return "fr1" if "freiburg1" in data else "fox" if "fox" in data else data


def markdown(facts: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, fastest first; the fronts' rows are marked."""
    left_out = {"settings", "fingerprint", "ours", "preset"}
    shown = []
    for row in sorted(rows, key=lambda row: row["total_ms"] or float("inf")):
        cells = {key: value for key, value in row.items() if key not in left_out}
        marks = {f"front_{key}": "yes" if row[f"front_{key}"] else "" for key in FIGURES}
        shown.append({key: f"{v:.1f}" if isinstance(v, float) else v for key, v in (cells | marks).items()})
    return f"{header_line(facts)}\n\n{markdown_table(shown)}"


def run(data: Path, out: Path, frontends: Mapping[str, str], given: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure and write; returns the rows.

    Args:
        data: the shared data folder.
        out: the results' folder.
        frontends: labels by name or recipe.
        given: pairs, keypoints, rounds, threads and jobs.
    """
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    config = train_config(data, list(frontends), given.pairs, given.keypoints, given.rounds)
    # All of them first: what cannot be built is said before the others have been measured for an hour.
    settings = {name: settings_of(build_frontend(name, given.keypoints)) for name in frontends}
    matched, problems = match_pairs(config, out, given.jobs, say)
    say(f"times: {len(frontends)} frontends in turn, {given.threads} threads, {given.rounds} rounds …")
    times, failed = time_frontends(config, out, given.threads, given.jobs)
    for label, problem in (problems | failed).items():
        say(f"failed: {label}: {problem}")
    rows = merged_rows(frontends, settings, matched, times)
    threads = f"{given.threads} for times, {max(given.jobs, 1)} processes for accuracy"
    facts = header("python -m benchmarks.pareto " + shlex.join(sys.argv[1:]), threads)
    write_text(out / "pareto.json", json.dumps({"header": facts, "rows": rows}, indent=1) + "\n")
    write_text(out / "pareto.md", markdown(facts, rows))
    draw(rows, FIGURES, f"640x480, {given.keypoints} keypoints, {given.threads} threads", out / "pareto.png")
    return rows


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the shared data folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variant", action="append", default=[], metavar='"LABEL: KEY=VALUE ..."')
    parser.add_argument("--preset", action="append", default=[], help="a preset or recipe, as in slamfeat:NAME")
    parser.add_argument("--peer", action="append", default=[], help="any name of `slamfeat bench list`")
    parser.add_argument("--pairs", type=int, default=12, help="pairs a gap; 0 for all (default 12)")
    parser.add_argument("--keypoints", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2, help="processes for matching")
    return parser.parse_args(arguments)


def labels_of(given: argparse.Namespace) -> dict[str, str]:
    """Labels by name or recipe of all that is to be measured.

    Raises:
        ConfigError: nothing, or two under one label; or see `parse_variant`.
    """
    found = [(f"{OURS}:{name}", name) for name in given.preset] + [(name, name) for name in given.peer]
    for text in given.variant:
        label, recipe = parse_variant(text, given.out / "variants")
        found.append((recipe, label))
    if not found:
        raise ConfigError("nothing to measure; give --variant, --preset or --peer")
    labels = [label for _, label in found]
    double = next((label for label in labels if labels.count(label) > 1), None)
    if double is not None:
        raise ConfigError(f"two frontends are called '{double}'; give each another label")
    return dict(found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    given = parse(arguments)
    try:
        run(given.data, given.out, labels_of(given), given)
    except SlamfeatError as error:
        sys.exit(f"error: {error}")
    print((given.out / "pareto.md").read_text())


if __name__ == "__main__":
    main()
