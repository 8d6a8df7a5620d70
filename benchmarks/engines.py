"""Every engine and precision of the backbone: time, agreement with torch fp32, and share of the machine's peak.

    python -m benchmarks.engines ../shared/data --out benchmarks/results/engines

Each number of threads is a process of its own, in which all engines take turns; the median of the rounds counts.
`cosine`: mean over the tokens of real train-split images (the fox's and Kodak's; int8 was calibrated on others) with
torch's fp32 tokens. The peak is the best product of square matrices in torch or OpenVINO (slamfeat.bench.peak), taken
before and after the times; `of own peak` compares in the engine's precision, `of bf16 peak` with bf16 throughout.
Where OpenVINO's time goes, by type of operation, is measured apart, with its counters on. Writes OUT.json, .md, .png.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine_charts import draw
from benchmarks.engine_times import EngineJob, measure
from slamfeat.bench.jobs import Job, run_jobs
from slamfeat.bench.provenance import header, header_line
from slamfeat.eval import markdown_table
from slamfeat.files import write_text

SIZES = ("308x238", "224x168", "630x476")
WEIGHTS = ("default", "dinov2-vits14-int8", "dinov2-vits14")


def collect(job_files: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    """Rows, profiles and peaks of all processes."""
    parts = [json.loads(file.read_text(encoding="utf-8")) for file in job_files if file.exists()]
    return {key: [row for part in parts for row in part[key]] for key in ("rows", "profiles", "peaks")}


def markdown(facts: dict[str, Any], found: dict[str, list[dict[str, Any]]]) -> str:
    """All tables."""
    lines = [header_line(facts), "", "### Engines", "", markdown_table([_shown(row) for row in found["rows"]])]
    lines += ["", "### Best matrix products [GFLOP/s]", "", markdown_table([_shown(row) for row in found["peaks"]])]
    for profile in found["profiles"]:
        title = "{weights}, {engine} {arithmetic}, {size}, {threads} threads".format(**profile)
        lines += [
            "",
            f"### Where the time goes: {title}",
            "",
            markdown_table([_shown(o) for o in profile["operations"]]),
        ]
    return "\n".join(lines).rstrip() + "\n"


def _shown(row: dict[str, Any]) -> dict[str, str]:
    """Figures as text, each with the digits it deserves."""
    digits = {"cosine": 5, "lowest_cosine": 4, "median_ms": 2, "ms": 2}
    return {
        key.replace("_", " "): "" if value is None else f"{value:.{digits.get(key, 1)}f}"
        if isinstance(value, float)
        else str(value)
        for key, value in row.items()
    }  # fmt: skip


def run(given: argparse.Namespace) -> None:
    """Measure and write."""
    files, jobs = [], []
    for threads in given.threads:
        target = given.out.with_suffix(f".{threads}.part")
        target.unlink(missing_ok=True)
        files.append(target)
        work = EngineJob(target, given.data, tuple(given.weights), tuple(given.sizes), threads, given.rounds)
        jobs.append(Job(f"{threads} threads", measure, (work,)))
    problems: dict[str, str] = {}
    for job in jobs:  # one after the other: each needs the machine for itself
        problems |= run_jobs([job], 0 if given.here else 1)
    found = collect(files)
    for file in files:
        file.unlink(missing_ok=True)
    if problems:  # before anything is written: results of an earlier run may be there
        sys.exit("error: " + "; ".join(f"{label}: {text}" for label, text in problems.items()))
    facts = header("python -m benchmarks.engines " + shlex.join(sys.argv[1:]), "as each row says")
    write_text(given.out.with_suffix(".json"), json.dumps({"header": facts, **found}, indent=1) + "\n")
    write_text(given.out.with_suffix(".md"), markdown(facts, found))
    draw(found["rows"], given.out.with_suffix(".png"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the shared data folder")
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    parser.add_argument("--weights", nargs="+", default=list(WEIGHTS))
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), help="of the backbone's input, WxH")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--here", action="store_true", help="in this process; only sensible for one number of threads")
    run(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
