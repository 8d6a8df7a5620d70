"""Training on both halves of a pool: what each row is trained on, what all are asked, and a folder that is no pool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.curated_or_random import main, parse, recipes_of
from slamfeat.train.textures import is_held_out, photo_name


@pytest.fixture
def pool(sample: Path, tmp_path: Path) -> Path:
    """Lists of frames, as benchmarks.curated_pool leaves them; half of the frames are held out of all."""
    folder, frames = tmp_path / "pool", sorted((sample / "rgb").iterdir())
    folder.mkdir()
    asked = {"data": str(sample / "rgb"), "held_out": "0.5", "favoured": "canine"}
    held = [frame for frame in frames if is_held_out(photo_name(frame), 0.5)]
    learnt = [frame for frame in frames if frame not in held]
    assert held and len(learnt) > 4
    for half, chosen in (("curated", learnt), ("random-0", learnt[:-1]), ("random-1", learnt[1:])):
        (folder / f"{half}.txt").write_text("".join(f"{frame}\n" for frame in (*chosen, *held)))
    counts: dict[str, Any] = {
        name: {"images": 6, "photographs": 5, "favoured": 1} for name in ("pool", "curated", "random-0")
    }
    counts["held out"] = len(held)
    (folder / "pool.json").write_text(json.dumps({"of": asked}))
    (folder / "choices.json").write_text(json.dumps(counts))
    return folder


def test_rows_differ_by_their_list_and_seed(pool: Path) -> None:
    words = ["cpu_tiny", "--pool", str(pool), "--steps", "12", "--seeds", "2", "--out", "x", "loop.seed=5"]
    found = recipes_of(parse(words), 0.5)
    assert list(found) == [f"{half} half, seed {seed}" for half in ("random", "curated") for seed in (5, 6)]
    for label, recipe in found.items():
        name = {"random half, seed 5": "random-0", "random half, seed 6": "random-1"}.get(label, "curated")
        assert recipe.data.images == [str(pool / f"{name}.txt")] and recipe.data.held_out == 0.5
        assert (recipe.loop.steps, recipe.loop.warmup, recipe.loop.seed) == (12, 1, int(label[-1]))


def test_a_folder_that_is_no_pool_is_named(pool: Path) -> None:
    (pool / "curated.txt").unlink()
    with pytest.raises(SystemExit, match=r"curated\.txt: not found; make the pool"):
        main(["cpu_tiny", "--pool", str(pool), "--steps", "2", "--out", str(pool / "table")])


def test_a_list_that_an_earlier_pool_left_is_not_taken(pool: Path) -> None:
    with pytest.raises(SystemExit, match=r"random-1\.txt is of another pool; make it anew with --draws 2"):
        main(["cpu_tiny", "--pool", str(pool), "--steps", "2", "--seeds", "2", "--out", str(pool / "table")])


@pytest.mark.slow
def test_all_are_asked_for_the_same_images(pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cpu_tiny", "--pool", str(pool), "--steps", "2", "--seeds", "1", "--work", str(tmp_path / "work")]
    main([*words, "--out", str(tmp_path / "table"), "probes.images=4", "loop.batch=4"])
    table, found = capsys.readouterr().out, json.loads((tmp_path / "table.json").read_text())
    names = [row["backbone"] for row in found["rows"]]
    assert names == ["raw pixels", "untrained", "random half, seed 0", "curated half, seed 0"]
    frames = [Path(line) for line in (pool / "curated.txt").read_text().split()]
    held_out = sum(is_held_out(photo_name(frame), 0.5) for frame in frames)
    assert found["header"]["held out"].startswith(f"{held_out}, of them ")
    assert "curated 6 images of 5 photographs (1 canine)" in table
    assert "random-0 6 images of 5 photographs (1 canine)" in table
