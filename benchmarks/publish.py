"""Put the results of a benchmark run into benchmarks/results/ and the README.

    python -m benchmarks.publish runs/bench/test_split --sanity runs/bench/sanity

Copies each task's JSON and per-item results, the charts and the trajectories; writes each task's tables, summary.md,
which the README shows between its markers, and standing.md, where slamfeat stands behind a peer and where ahead.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from benchmarks import readme_table
from slamfeat.bench.headlines import headlines
from slamfeat.bench.provenance import header_line
from slamfeat.bench.reading import Result
from slamfeat.bench.run import TASKS, read_results
from slamfeat.bench.standing import standing_markdown
from slamfeat.bench.summaries import speed_totals, summary
from slamfeat.bench.tables import markdown
from slamfeat.files import write_text

RESULTS = Path(__file__).parent / "results"
_STANDING = ("slamfeat", "slamfeat:accurate")
_TITLES = {
    "matching": "Matching", "vo": "Odometry", "robustness": "Robustness (area under the curves, %)", "speed": "Speed",
}  # fmt: skip


def publish(source: Path, target: Path = RESULTS) -> None:
    """Copy a run's results and write the summaries."""
    results = read_results(source / "results")
    target.mkdir(parents=True, exist_ok=True)
    for task, result in results.items():
        write_text(target / f"{task}.md", markdown(result))
        for suffix in (".json", ".items.jsonl"):
            file = source / "results" / f"{task}{suffix}"
            if file.exists():
                shutil.copy(file, target / file.name)
    for folder in ("charts", "trajectories"):
        shutil.rmtree(target / folder, ignore_errors=True)
        if (source / "results" / folder).is_dir():
            shutil.copytree(source / "results" / folder, target / folder)
    parts = [_part(task, results[task]) for task in TASKS if task in results]
    write_text(target / "summary.md", "\n".join(parts))
    shown = [name for name in _STANDING if any(name in line.values for line in headlines(results))]
    write_text(target / "standing.md", "\n\n".join(standing_markdown(results, name).strip() for name in shown) + "\n")


def _part(task: str, result: Result) -> str:
    """The README's paragraph of a task."""
    table = speed_totals(result) if task == "speed" else summary(result)
    return f"### {_TITLES[task]}\n{header_line(result['header'])}\n\n{table.markdown().strip()}\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the --out folder of `slamfeat bench all`")
    parser.add_argument("--target", type=Path, default=RESULTS, help="by default benchmarks/results, the README's")
    parser.add_argument("--sanity", type=Path, help="the --out folder of the peers' sanity run")
    given = parser.parse_args()
    publish(given.run, given.target)
    if given.sanity:
        shutil.copy(given.sanity / "results" / "matching.md", RESULTS / "sanity.md")
    readme_table.main()


if __name__ == "__main__":
    main()
