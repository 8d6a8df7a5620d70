"""Times against an earlier commit: the ratios, a worker of its own tree, and that nothing is left behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.versus_commit import REPO, Worker, rows_of, take_turns, worktree
from slamfeat.errors import InputError

needs_git = pytest.mark.skipif(not (REPO / ".git").exists(), reason="no git checkout, and this is about commits")


def worktrees() -> str:
    return subprocess.run(["git", "worktree", "list"], cwd=REPO, capture_output=True, text=True, check=True).stdout


@needs_git
def test_the_checkout_is_removed_after_an_error_too() -> None:
    before = worktrees()
    with pytest.raises(RuntimeError), worktree("HEAD") as tree:
        assert (tree / "slamfeat" / "__init__.py").exists()
        assert str(tree) in worktrees()
        raise RuntimeError
    assert not tree.exists() and worktrees() == before
    with pytest.raises(InputError, match="--commit"), worktree("no-such-commit"):
        pass
    assert worktrees() == before


@needs_git
def test_a_worker_measures_the_package_of_its_tree(sample: Path) -> None:
    images = sorted((sample / "rgb").iterdir())[:2]
    with worktree("HEAD") as tree:
        worker = Worker(tree, "registry", "orb", images, 1, 200)
        try:
            extract, match = worker.round()
        finally:
            worker.close()
    assert extract > 0 and match > 0


def test_a_worker_that_dies_is_an_error_with_its_name(sample: Path) -> None:
    worker = Worker(REPO, "registry", "no-such-frontend", sorted((sample / "rgb").iterdir())[:2], 1, 200)
    try:
        with pytest.raises(InputError, match="no-such-frontend"):
            worker.round()
    finally:
        worker.close()


def test_ratios_are_of_rounds_so_that_a_slow_spell_hits_both() -> None:
    class Canned:
        def __init__(self, name: str, times: list[float]) -> None:
            self.times = iter(times)

        def round(self) -> tuple[float, float]:
            return next(self.times), 0.0

    # Two rounds to warm up; in the middle one of three the machine is ten times slower.
    workers = {
        "old": Canned("old", [999, 999, 100, 1000, 100]), "new": Canned("new", [999, 999, 20, 200, 20]),
        "xfeat": Canned("xfeat", [999, 999, 10, 100, 10]),
    }  # fmt: skip
    rows = {row["frontend"]: row for row in rows_of(take_turns(workers, 3), 2, "old", ["xfeat"])}
    assert [rows[name]["total_ms"] for name in workers] == [100, 20, 10]
    np.testing.assert_allclose([rows[name]["times_faster"] for name in workers], [1, 5, 10])
    np.testing.assert_allclose([rows[name]["vs_xfeat"] for name in workers], [10, 2, 1])
