"""The manifest: a line of JSON for every image that was listed, what became of it and why.

{"name": "a/b.jpg", "status": "kept", "stage": "sample", "reason": "sampled from its cluster", "row": 7,
 "size": [640, 480], "clusters": [12, 3]}

`status` is kept, dropped or unreadable; `stage` the one that decided. `by` names another image (of the pool, or
"evaluation-0/..." or "queries-0/..."), `via` an image of the pool, `cosine`, where it is given, is to `by`. The image
that stands for a duplicate is not kept for that: retrieval and sampling decide about it. `clusters` are the image's,
finest first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slamfeat.curate.dedup import Deduplicated
from slamfeat.curate.hierarchy import Hierarchy
from slamfeat.curate.retrieve import Hits
from slamfeat.curate.rows import Floats, Ints
from slamfeat.curate.store import EmbeddingStore
from slamfeat.files import atomic_path

_AT_ONCE = 4096  # names read together

Entry = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """All that the stages decided.

    Attributes:
        store: the pool; evaluation, queries: the sets' stores.
        dedup: see there; hierarchy: None where nothing was clustered.
        hits: None without queries; sampled: rows, None where none were to be sampled.
    """

    store: EmbeddingStore
    evaluation: Sequence[EmbeddingStore]
    queries: Sequence[EmbeddingStore]
    dedup: Deduplicated
    hierarchy: Hierarchy | None
    hits: Hits | None
    sampled: Ints | None


def write_manifest(path: Path, outcome: Outcome) -> Counter[tuple[str, str]]:
    """Write every image once, in the order of the listing; returns how many have each (status, stage).

    Raises:
        OutputError: the disk is full.
    """
    counts: Counter[tuple[str, str]] = Counter()
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for entry in entries(outcome):
            counts[entry["status"], entry["stage"]] += 1
            lines.write(json.dumps(entry) + "\n")
    return counts


def read_manifest(path: Path) -> Iterator[Entry]:
    """The entries of a manifest."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def entries(outcome: Outcome) -> Iterator[Entry]:
    """An entry an image, in the order of the listing."""
    store, judge = outcome.store, _Judge(outcome)
    failures, positions, row = store.failures(), store.positions(), 0
    failure = next(failures, None)
    for start in range(0, store.listing.count, _AT_ONCE):
        for place, name in enumerate(store.listing.names(start, min(start + _AT_ONCE, store.listing.count)), start):
            if failure is not None and failure[0] == place:
                yield {"name": name, "status": "unreadable", "stage": "embed", "reason": failure[1]}
                failure = next(failures, None)
                continue
            assert positions[row] == place, "rows and names have come apart"
            yield {"name": name, **judge(row)}
            row += 1


class _Judge:
    """What became of a row."""

    def __init__(self, outcome: Outcome) -> None:
        rows = outcome.store.rows
        self._outcome, self._names = outcome, outcome.store.names()
        self._evaluation = [store.names() for store in outcome.evaluation]
        self._queries = [store.names() for store in outcome.queries]
        self._kept, self._keeper, self._cosine = outcome.dedup.kept, outcome.dedup.keeper, outcome.dedup.cosine
        self._leaks, self._sizes = outcome.dedup.leaks, outcome.store.sizes()
        self._labels = None if outcome.hierarchy is None else outcome.hierarchy.labels
        self._hit = np.full(rows, -1, np.int64)
        if outcome.hits is not None:
            self._hit[outcome.hits.rows] = np.arange(len(outcome.hits.rows))
        self._sampled = np.zeros(rows, bool)
        if outcome.sampled is not None:
            self._sampled[outcome.sampled] = True

    def __call__(self, row: int) -> Entry:
        """The entry without the name."""
        entry = {**self._decision(row), "row": row, "size": [int(side) for side in self._sizes[row]]}
        if self._labels is not None and self._labels[row] >= 0:
            assert self._outcome.hierarchy is not None
            entry["clusters"] = self._outcome.hierarchy.path(int(self._labels[row]))
        return entry

    def _decision(self, row: int) -> Entry:
        sets, _, _ = self._leaks
        if sets[row] >= 0:
            return self._leak(row)
        if not self._kept[row]:
            keeper = int(self._keeper[row])
            reason = "duplicate of another image, which stands for both"
            return _entry("dropped", "dedup", reason, self._names[keeper], self._cosine[row])
        if self._hit[row] >= 0:
            return self._retrieved(int(self._hit[row]))
        if self._sampled[row]:
            return _entry("kept", "sample", "sampled from its cluster")
        if self._outcome.sampled is not None:
            return _entry("dropped", "sample", "its cluster gave as many as it was to")
        if self._outcome.hits is not None:
            return _entry("dropped", "retrieve", "not near enough to any query image")
        return _entry("kept", "dedup", "no duplicate of another image")

    def _leak(self, row: int) -> Entry:
        number, theirs, via = (int(part[row]) for part in self._leaks)
        name = f"evaluation-{number}/{self._evaluation[number][theirs]}"
        if via == row:
            return _entry("dropped", "evaluation", "resembles an evaluation image", name)
        entry = _entry("dropped", "evaluation", "duplicate of an image that resembles an evaluation image", name)
        return {**entry, "via": self._names[via]}

    def _retrieved(self, place: int) -> Entry:
        hits = self._outcome.hits
        assert hits is not None
        number, query = int(hits.sets[place]), int(hits.queries[place])
        if query < 0:
            return {**_entry("kept", "retrieve", "its cluster holds query images"), "by": f"queries-{number}"}
        name = f"queries-{number}/{self._queries[number][query]}"
        return _entry("kept", "retrieve", "near a query image", name, hits.cosines[place])


def _entry(status: str, stage: str, reason: str, by: str | None = None, cosine: Floats | None = None) -> Entry:
    entry: Entry = {"status": status, "stage": stage, "reason": reason}
    if by is not None:
        entry["by"] = by
    if cosine is not None:
        entry["cosine"] = round(float(cosine), 5)
    return entry


def tally(counts: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Images by what became of them."""
    return {
        "images": sum(counts.values()),
        "unreadable": counts.get(("unreadable", "embed"), 0),
        "dropped_by_dedup": counts.get(("dropped", "dedup"), 0),
        "dropped_for_evaluation": counts.get(("dropped", "evaluation"), 0),
        "dropped_by_sampling": counts.get(("dropped", "sample"), 0) + counts.get(("dropped", "retrieve"), 0),
        "retrieved": counts.get(("kept", "retrieve"), 0),
        "kept": sum(number for (status, _), number in counts.items() if status == "kept"),
    }
