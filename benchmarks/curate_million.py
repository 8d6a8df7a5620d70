"""A million made-up embeddings from a known mixture: deduplicated, clustered and sampled; time, memory, evenness.

    python -m benchmarks.curate_million --out benchmarks/results/curate_million

The embeddings have 384 numbers. Kinds are directions drawn at random, with sizes that fall like 1 / rank; a member is
its kind's direction with noise, so that two members of a kind have a cosine of 0.67 on the average. Every twentieth row
is a copy of another (cosine 0.98), of a smaller image, and is to be dropped. All but making the store happens in a
process of its own, whose peak memory the kernel tells. A tenth is sampled. Evenness is measured on the true kinds,
which the curation does not know, and on the coarsest clusters.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from slamfeat.bench.provenance import header, header_line
from slamfeat.config import load_config
from slamfeat.curate.balance import gini
from slamfeat.curate.config import CurateConfig
from slamfeat.curate.engine import LocalEngine
from slamfeat.curate.folder import CurateFolder, stage_settings
from slamfeat.curate.rows import unit
from slamfeat.curate.stages import CurateRun, curate_stores
from slamfeat.curate.store import EmbeddingStore, Shard
from slamfeat.curate.store_writer import StoreWriter
from slamfeat.curate.watch import WatchedEngine
from slamfeat.eval import markdown_table
from slamfeat.files import write_text

DIM, SHARD = 384, 10_000
SPREAD = 0.7 / DIM**0.5
"""Noise of a member a number: two of a kind then have a cosine of 1 / 1.49."""
COPY_NOISE = 0.2 / DIM**0.5
"""Noise of a copy."""
COPIED = 20
"""Of so many rows, one is a copy."""
SETTINGS = ("dedup.correlation=0", "dedup.threshold=0.9", "sample.share=0.1")
MOST_MINUTES, MOST_MB = 20.0, 4096.0


def kinds_of(rows: int, kinds: int, seed: int) -> NDArray[np.int64]:
    """(rows,) kind of every row, sizes falling like 1 / rank."""
    weights = 1 / np.arange(1, kinds + 1)
    return np.random.default_rng(seed).choice(kinds, rows, p=weights / weights.sum())


def shards(rows: int, kinds: int, seed: int) -> Iterator[Shard]:
    """Embeddings; the last `1 / COPIED` of every shard are copies of its first rows, of smaller images."""
    of = kinds_of(rows, kinds, seed)
    centres = unit(np.random.default_rng(seed + 1).standard_normal((kinds, DIM), np.float32))
    for start in range(0, rows, SHARD):
        rng = np.random.default_rng([seed, start])
        members = of[start : start + SHARD]
        made = unit(centres[members] + SPREAD * rng.standard_normal((len(members), DIM), np.float32))
        copied = len(members) // COPIED
        sizes = np.full((len(members), 2), 256, np.int32)
        if copied:
            noise = COPY_NOISE * rng.standard_normal((copied, DIM), np.float32)
            made[-copied:] = unit(made[:copied] + noise)
            sizes[-copied:] = 128
        yield Shard(made, sizes)


def true_kinds(rows: int, kinds: int, seed: int) -> NDArray[np.int64]:
    """(rows,) kinds, those of copies being their originals'."""
    of = kinds_of(rows, kinds, seed)
    for start in range(0, rows, SHARD):
        part = of[start : start + SHARD]
        copied = len(part) // COPIED
        if copied:
            part[-copied:] = part[:copied]
    return of


def is_copy(rows: int) -> NDArray[np.bool_]:
    """(rows,) whether a row was planted."""
    found = np.zeros(rows, bool)
    for start in range(0, rows, SHARD):
        length = min(SHARD, rows - start)
        copied = length // COPIED
        found[start + length - copied : start + length] = True
    return found


def run(store: Path, out: Path, config: CurateConfig) -> dict[str, Any]:
    """The stages, in this process: their summary, wall time and peak memory."""

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    started = time.perf_counter()
    engine = WatchedEngine(LocalEngine(config.workers), say, lambda: False)
    summary = curate_stores(
        CurateRun(CurateFolder(out), config, engine, say, stage_settings(config, {}, {})), EmbeddingStore(store)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**summary, "wall_seconds": time.perf_counter() - started, "peak_mb": peak}


def figures(out: Path, found: dict[str, Any], rows: int, kinds: int, seed: int) -> dict[str, Any]:
    """What the run decided, held against what was planted."""
    of, planted = true_kinds(rows, kinds, seed), is_copy(rows)
    keeper = np.load(out / "dedup" / "keeper.npy", mmap_mode="r")
    dropped = keeper != np.arange(rows)
    original = np.arange(rows)
    for start in range(0, rows, SHARD):
        length = min(SHARD, rows - start)
        copied = length // COPIED
        original[start + length - copied : start + length] = np.arange(start, start + copied)
    sampled = np.load(out / "sample" / "rows.npy", mmap_mode="r")
    before, after = np.bincount(of[~dropped], minlength=kinds), np.bincount(of[sampled], minlength=kinds)
    return {
        "rows": rows, "kinds": kinds, "minutes": found["wall_seconds"] / 60, "peak_mb": found["peak_mb"],
        "copies_planted": int(planted.sum()), "copies_recall": float((keeper[planted] == original[planted]).mean()),
        "dropped_precision": float(planted[dropped].mean()) if dropped.any() else None,
        "near_neighbours_found": found["neighbours_found"], "clusters": found["clusters"], "sampled": len(sampled),
        "kinds_gini_before": gini(before), "kinds_gini_after": gini(after),
        "largest_kind_percent_before": 100 * float(before.max() / before.sum()),
        "largest_kind_percent_after": 100 * float(after.max() / after.sum()),
        "kinds_missing_before": int((before == 0).sum()), "kinds_missing_after": int((after == 0).sum()),
        "coarsest_gini_before": found["evenness"][-1]["gini_before"],
        "coarsest_gini_after": found["evenness"][-1]["gini_after"],
        **{f"{stage}_seconds": seconds for stage, seconds in found["seconds"].items()},
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as of slamfeat curate, after those above")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kinds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder to keep; its store serves again, what follows is made anew")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_intermixed_args()
    config = load_config(CurateConfig, None, [*SETTINGS, *given.settings])
    if given.worker:
        print(json.dumps(run(given.work / "store", given.work / "curated", config)))
        return
    if given.out is None:
        parser.error("the following arguments are required: --out")
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        if not (work / "store" / "store.json").is_file():
            names = (f"{row:08d}.jpg" for row in range(given.rows))
            StoreWriter.filled(
                work / "store", names, SHARD, shards(given.rows, given.kinds, given.seed), {"seed": given.seed}
            )
        # A session that took up stages would know its own time and memory alone.
        shutil.rmtree(work / "curated", ignore_errors=True)
        words = [sys.executable, "-m", "benchmarks.curate_million", *given.settings, "--work", str(work), "--worker"]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=dict(os.environ), check=False)
        if done.returncode:
            raise SystemExit(f"the run ended with exit code {done.returncode}; its message stands above")
        found = json.loads(done.stdout.splitlines()[-1])
        row = figures(work / "curated", found, given.rows, given.kinds, given.seed)
    facts = header("python -m benchmarks.curate_million " + " ".join(sys.argv[1:]), f"{found['workers']} workers")
    facts |= {"settings": " ".join([*SETTINGS, *given.settings]), "memory_mb": config.memory_mb}
    write_text(given.out.with_suffix(".json"), json.dumps({"header": facts, "row": row, "run": found}, indent=1) + "\n")
    shown = [
        {"what": key, "value": f"{value:.4g}" if isinstance(value, float) else str(value)} for key, value in row.items()
    ]
    table = markdown_table(shown, columns=["what", "value"])
    write_text(given.out.with_suffix(".md"), f"{header_line(facts)}\n\n{table}")
    Console().print(table, soft_wrap=True, markup=False)
    if row["minutes"] > MOST_MINUTES or row["peak_mb"] > MOST_MB:
        raise SystemExit(f"more than {MOST_MINUTES:.0f} minutes or {MOST_MB:.0f} MB")


if __name__ == "__main__":
    main()
