"""How many times faster than the package at an earlier commit, and than a peer, measured by turns.

    python -m benchmarks.versus_commit ../shared/data --out benchmarks/results/versus_commit

The commit (by default the last one that computed everything in torch, with dtype=float32) is checked out beside the
tree for the time of the run. Every contestant lives in a worker process of its own; the workers are asked for one round
after the other, so that what else happens on the machine hits all alike. A round is two extractions and a match at
640x480; the median of the rounds counts, and the ratio is the median of the ratios within a round. Writes OUT.json and
OUT.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from slamfeat.bench.provenance import header, header_line
from slamfeat.bench.registry import is_ours
from slamfeat.commit import REPO
from slamfeat.data import open_sequence
from slamfeat.errors import InputError, SlamfeatError
from slamfeat.eval import markdown_table
from slamfeat.files import write_text

WORKER = Path(__file__).parent / "versus_worker.py"
COMMIT = "90d9f62"
SEQUENCE = "tum/rgbd_dataset_freiburg1_rpy_first60"
SETTING = {"GOMP_SPINCOUNT": "10000"}  # as slamfeat's command line sets it; a peer is no faster with it
STEP = 4  # frames between the two that are matched


class Worker:
    """A process that holds one frontend and measures a round when asked."""

    def __init__(self, tree: Path, kind: str, name: str, images: Sequence[Path], threads: int, keypoints: int) -> None:
        """Start it; it is ready when the first round has come back."""
        words = [kind, name, *map(str, images), str(threads), str(keypoints)]
        # -P: the worker's own folder stays out of the import path, so that `slamfeat` is the tree's.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(tree), *words], cwd=tree, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, **(SETTING if is_ours(name) else {})},
        )  # fmt: skip
        self.name = name

    def round(self) -> tuple[float, float]:
        """Milliseconds of an extraction and of a match.

        Raises:
            InputError: the worker died; what it said stands on standard error.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("round\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise InputError(f"the worker of {self.name} ended with {self._process.wait()}; its words stand above")
        extract, match = json.loads(line)
        return extract, match

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """A checkout of `commit` in a temporary folder, removed when the block ends, however it ends.

    Raises:
        InputError: git does not know the commit.
    """
    with tempfile.TemporaryDirectory(prefix="slamfeat-versus-") as folder:
        tree = Path(folder) / "tree"
        try:
            _git("worktree", "add", "--detach", str(tree), commit)
            yield tree
        finally:
            subprocess.run(
                ["git", "worktree", "remove", "--force", str(tree)], cwd=REPO, capture_output=True, check=False
            )


def take_turns(workers: Mapping[str, Worker], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Every worker's rounds, by turns; two rounds warm up."""
    spent: dict[str, list[tuple[float, float]]] = {label: [] for label in workers}
    for number in range(rounds + 2):
        for label, worker in workers.items():
            times = worker.round()
            if number > 1:
                spent[label].append(times)
    return spent


def rows_of(
    spent: Mapping[str, list[tuple[float, float]]], threads: int, base: str, peers: Sequence[str]
) -> list[dict[str, Any]]:
    """A row a contestant: median milliseconds, how often faster than `base`, and its time in a peer's."""
    totals = {label: np.sum(times, axis=1) for label, times in spent.items()}
    rows = []
    for label, times in spent.items():
        extract, match = np.median(times, axis=0).tolist()
        row = {"threads": threads, "frontend": label, "extract_ms": extract, "match_ms": match}
        row |= {"total_ms": float(np.median(totals[label]))}
        row["times_faster"] = float(np.median(totals[base] / totals[label]))
        row |= {f"vs_{peer}": float(np.median(totals[label] / totals[peer])) for peer in peers}
        rows.append(row)
    return rows


def measure(given: argparse.Namespace, tree: Path, images: Sequence[Path], threads: int) -> list[dict[str, Any]]:
    """All contestants with one number of threads."""
    base = f"{given.commit} fp32"
    here: dict[str, tuple[Path, str, str]] = {base: (tree, "float32", "default")}
    here |= {name: (REPO, "registry", name) for name in [*given.frontend, *given.peer]}
    workers: dict[str, Worker] = {}
    try:
        for label, (root, kind, name) in here.items():
            workers[label] = Worker(root, kind, name, images, threads, given.keypoints)
        return rows_of(take_turns(workers, given.rounds), threads, base, given.peer)
    finally:
        for worker in workers.values():
            worker.close()


def pair_of_images(data: Path) -> list[Path]:
    """Two frames of the train split, 640x480."""
    records = open_sequence(data / SEQUENCE).records
    return [Path(records[i].image).resolve() for i in (0, STEP)]


def _git(*words: str) -> None:
    done = subprocess.run(["git", *words], cwd=REPO, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"git {words[0]}: {done.stderr.strip().splitlines()[-1]}; name another --commit")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the shared data folder")
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    parser.add_argument("--commit", default=COMMIT)
    parser.add_argument(
        "--frontend", nargs="+", default=["slamfeat"], help="of the current tree, as in `slamfeat bench`"
    )
    parser.add_argument("--peer", nargs="*", default=["xfeat"])
    parser.add_argument("--keypoints", type=int, default=1024)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    given = parse(arguments)
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    rows: list[dict[str, Any]] = []
    try:
        images = pair_of_images(given.data)
        with worktree(given.commit) as tree:
            for threads in given.threads:
                say(f"{threads} threads, {given.rounds} rounds …")
                rows += measure(given, tree, images, threads)
    except SlamfeatError as error:
        sys.exit(f"error: {error}")
    facts = header("python -m benchmarks.versus_commit " + shlex.join(sys.argv[1:]), "as each row says")
    write_text(given.out.with_suffix(".json"), json.dumps({"header": facts, "rows": rows}, indent=1) + "\n")
    shown = [{key: f"{v:.2f}" if isinstance(v, float) else v for key, v in row.items()} for row in rows]
    write_text(given.out.with_suffix(".md"), f"{header_line(facts)}\n\n{markdown_table(shown)}")


if __name__ == "__main__":
    main()
