"""The benchmarks of curation: what they plant, and how they count."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import curate_duplicates, curate_million, curated_pool
from slamfeat.config import load_config
from slamfeat.curate import CurateConfig
from slamfeat.curate.store import Shard
from slamfeat.curate.store_writer import StoreWriter
from slamfeat.errors import ConfigError
from slamfeat.image import read_image
from slamfeat.train.textures import is_held_out, photo_name


def test_copies_are_planted_of_every_second_image(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for file in sorted((sample / "rgb").iterdir())[:3]:
        shutil.copy(file, tmp_path / "source")
    planted = curate_duplicates.plant(tmp_path / "source", tmp_path / "images", 2)
    assert len(planted) == 18 and len(list((tmp_path / "images").iterdir())) == 21
    assert len({kind for _, kind in planted.values()}) == 9
    sizes = {kind: read_image(tmp_path / "images" / name).shape[:2] for name, (_, kind) in planted.items()}
    assert sizes["exact"] == sizes["JPEG 30"] == sizes["brightness x 0.6"] == (480, 640)
    assert sizes["resized to 0.5"] == (240, 320) and sizes["90 % cut out, anywhere"] == (432, 576)


def test_recall_and_precision_count_groups_whoever_is_kept() -> None:
    planted = {"a~1": ("a", "resized"), "a~2": ("a", "JPEG"), "b~1": ("b", "JPEG"), "c~1": ("c", "resized")}
    of = {"a": "a~1", "a~2": "a~1", "b~1": "b", "d": "e"}  # c~1 is missed, d dropped wrongly
    entries = {
        name: {"status": "dropped", "stage": "dedup", "by": of[name]} if name in of
        else {"status": "kept", "stage": "dedup"}
        for name in ("a", "b", "c", "d", "e", *planted)
    }  # fmt: skip
    result = curate_duplicates.score(entries, planted)
    assert (result["planted"], result["originals"], result["dropped"]) == (4, 5, 4)
    assert (result["recall"], result["precision"]) == (0.75, 0.75)
    assert result["lost"] == ["d"]
    assert result["missed"] == ["c~1 (resized)"] and result["wrong"] == ["d, dropped for e"]
    assert {row["copies"]: row["recall"] for row in result["rows"]} == {"resized": 0.5, "JPEG": 1.0}
    halves = [result[key] for key in ("chosen_on", "held_out")]
    assert sum(half["planted"] for half in halves) == 4 and sum(half["dropped"] for half in halves) == 4
    result["margins"] = [{"measure": "cosine", "copies, least": 0.9}]
    assert "c~1 (resized)" in curate_duplicates.report(result, {"date": "today", "command": "x"})


def test_margins_are_of_copies_and_of_other_photographs(tmp_path: Path) -> None:
    embeddings = np.array([[1, 0], [0.96, 0.28], [0, 1], [0.8, 0.6]])
    thumbs = np.random.default_rng(0).integers(0, 255, (4, 32, 32), dtype=np.uint8)
    thumbs[1] = thumbs[0] // 2
    shard = Shard(embeddings, np.full((4, 2), 64, np.int32), thumbs)
    store = StoreWriter.filled(tmp_path, ["a", "a~1", "b", "c"], 4, [shard], {})
    cosine, correlation = curate_duplicates.margins(store, {"a~1": ("a", "darker")}, 0.5)
    assert cosine["copies, least"] == pytest.approx(0.96, abs=1e-3)
    assert cosine["others, most"] == pytest.approx(0.8, abs=1e-3) and cosine["pairs of others"] == 3
    assert (
        correlation["copies, least"] > 0.99 > 0.5 > correlation["others, most"] and correlation["pairs of others"] == 2
    )


def test_the_mixture_is_what_it_says_and_is_curated_as_planted(tmp_path: Path) -> None:
    rows, kinds = 4000, 40
    shard = next(curate_million.shards(rows, kinds, 0))
    cosines = shard.embeddings @ shard.embeddings.T
    of = curate_million.true_kinds(rows, kinds, 0)
    same = (of[:, None] == of[None]) & ~np.eye(rows, dtype=bool)
    assert (
        abs(float(np.median(cosines[same])) - 0.67) < 0.02
        and float(np.abs(cosines[~same & ~np.eye(rows, dtype=bool)]).max()) < 0.4
    )
    planted = curate_million.is_copy(rows)
    assert planted.sum() == 200 and np.diag(cosines[:200, 3800:]).min() > 0.95
    store = StoreWriter.filled(
        tmp_path / "store", (f"{row}.jpg" for row in range(rows)), curate_million.SHARD, [shard], {}
    ).folder
    settings = [*curate_million.SETTINGS, "search.exact_up_to=500", "workers=1"]
    found = curate_million.run(store, tmp_path / "out", load_config(CurateConfig, None, settings))
    row = curate_million.figures(tmp_path / "out", found, rows, kinds, 0)
    assert row["copies_planted"] == 200 and row["copies_recall"] == row["dropped_precision"] == 1
    assert row["sampled"] == 380 and row["kinds_gini_after"] < row["kinds_gini_before"] - 0.1
    assert row["peak_mb"] > 50 and row["minutes"] > 0


def test_a_planted_twin_stays_on_its_originals_side(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number, file in enumerate(sorted((sample / "rgb").iterdir())[:6]):
        shutil.copy(file, tmp_path / "source" / f"photo{number // 2}_s2_{number}_0.png")  # two tiles of each
    (tmp_path / "groups.txt").write_text("often photo\nseldom other\n")
    given = argparse.Namespace(groups=str(tmp_path / "groups.txt"), favoured="often", thin=1, every=1, held_out=0.3)
    pool, held = curated_pool.plant(tmp_path / "source", tmp_path / "images", given)
    assert pool and len(set(pool)) == len(pool) == 10 * (6 - len(held)) == len(list((tmp_path / "images").iterdir()))
    photos = {photo_name(Path(name)) for name in pool}
    assert photos | {photo_name(Path(name)) for name in held} == {"photo0", "photo1", "photo2"}
    made = curated_pool.count(pool, curated_pool.favours(given))
    assert made == {"images": len(pool), "favoured": len(pool), "photographs": len(photos)}
    assert not any(is_held_out(photo_name(Path(name)), 0.3) for name in pool)


def test_others_are_thinned_and_some_are_copied(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number, file in enumerate(sorted((sample / "rgb").iterdir())[:10]):
        shutil.copy(file, tmp_path / "source" / f"{'often' if number < 4 else 'else'}{number}.png")
    (tmp_path / "groups.txt").write_text("often often\nseldom other\n")
    given = argparse.Namespace(groups=str(tmp_path / "groups.txt"), favoured="often", thin=3, every=4, held_out=1e-9)
    pool, held = curated_pool.plant(tmp_path / "source", tmp_path / "images", given)
    made = curated_pool.count(pool, curated_pool.favours(given))
    # Four favoured and two of six others; of those six the first and the fifth have nine copies each.
    assert not held and made["photographs"] == 6 and made["images"] == 6 + 2 * 9
    assert made["favoured"] == (4 + 9 if "else6.png" in pool else 0) and "else9.png" in pool
    with pytest.raises(ConfigError, match="more than 6 photographs; raise --every"):
        curated_pool.choices(given, pool)
    given.favoured = "cat"
    with pytest.raises(ConfigError, match="no group 'cat'"):
        curated_pool.favours(given)


@pytest.mark.slow
def test_the_curated_choice_shows_more_than_a_random_one(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    files = sorted((sample / "rgb").iterdir())[::4]
    for file in files:
        shutil.copy(file, tmp_path / "source")
    (tmp_path / "groups.txt").write_text(f"often {files[0].stem} {files[4].stem}\nseldom {files[1].stem}\n")
    words = f"--groups {tmp_path / 'groups.txt'} --favoured often --thin 1 --every 20 --held-out 0.2".split()
    curated_pool.main([str(tmp_path / "source"), *words, "--out", str(tmp_path / "out"), "workers=1"])
    made = json.loads((tmp_path / "out" / "choices.json").read_text())
    assert made["pool"]["images"] > made["pool"]["photographs"] == len(files) - made["held out"] > 5
    assert made["curated"]["images"] == made["random-0"]["images"] == made["curated"]["photographs"]
    assert made["curated"]["images"] == made["pool"]["images"] // 2
    assert made["curated"]["photographs"] > made["random-0"]["photographs"]
    names = ("curated", "random-0", "random-1")
    lists = [(tmp_path / "out" / f"{name}.txt").read_text().split() for name in names]
    assert (
        lists[1] != lists[2]
        and len(lists[0]) == len(lists[1])
        and all(Path(line).is_file() for line in (*lists[0], *lists[1]))
    )
