"""A curation from image files on, with a tiny backbone: unusable files, kills anywhere, a full disk, other settings."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curate_helpers import copies, manifest, photographs, settings, write_image

from slamfeat.backbones import Backbone
from slamfeat.backbones.checkpoints import read_metadata
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.own import save_backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.curate import CurateInputs, LocalEngine, curate
from slamfeat.curate.config import EmbedConfig
from slamfeat.curate.embed import embed_images
from slamfeat.errors import ConfigError, ImageError, InputError, OutputError, WeightsError
from slamfeat.frontend.pretrained import SHIPPED, weights_digest

TINY = Architecture(embed_dim=48, depth=2, num_heads=3, patch_size=14, registers=0, position="offset", grid=4)
SETTINGS: dict[str, Any] = {
    "embed_size": 56, "embed_shard": 3, "embed_batch": 2, "dedup_correlation": 0.87, "dedup_threshold": 0.5,
    "search_exact_up_to": 5, "search_cells": 2, "search_probes": 2, "cluster_levels": [4, 2], "cluster_resample": 1,
    "retrieve_neighbours": 1, "sample_target": 4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random backbone in place of the shipped one."""
    monkeypatch.setattr("slamfeat.curate.embed.load_embedder", lambda config: random_backbone(TINY).freeze())


@pytest.fixture
def inputs(sample: Path, tmp_path: Path) -> CurateInputs:
    """Seven pictures of three places, three copies, two broken files; two evaluation and two query images."""
    frames = photographs(sample / "rgb", 60)[::20]
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (60, 80, 3), dtype=np.uint8) for _ in range(6)]
    for at, image in enumerate([*frames, *noise[:4]]):
        write_image(tmp_path / "images" / f"{at}.png", image[::4, ::4] if at < 3 else image)
    for name in ("exact", "jpeg", "darker"):
        write_image(
            tmp_path / "images" / "again" / f"{name}.png", np.ascontiguousarray(copies(frames[0][::4, ::4])[name])
        )
    (tmp_path / "images" / "broken.jpg").write_bytes(b"nothing")
    (tmp_path / "images" / "again" / "cut.png").write_bytes((tmp_path / "images" / "0.png").read_bytes()[:500])
    write_image(tmp_path / "held" / "a.png", noise[1])
    write_image(tmp_path / "held" / "b.png", noise[5])
    write_image(tmp_path / "wanted" / "c.png", frames[1][::4, ::4])
    write_image(tmp_path / "wanted" / "d.png", noise[4])
    return CurateInputs(tmp_path / "images", (tmp_path / "held",), (tmp_path / "wanted",))


def made(out: Path) -> dict[str, bytes]:
    """What a curation decided, byte for byte."""
    names = ("manifest.jsonl", "page.html", "dedup/keeper.npy", "cluster/labels.npy", "sample/rows.npy")
    return {name: (out / name).read_bytes() for name in names}


def test_every_image_is_in_the_manifest_with_its_reason(inputs: CurateInputs, tmp_path: Path) -> None:
    said: list[str] = []
    summary = curate(inputs, tmp_path / "out", settings(**SETTINGS), LocalEngine(2), say=said.append)
    entries = manifest(tmp_path / "out")
    assert list(entries) == ["0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "6.png", "again/cut.png",
                             "again/darker.png", "again/exact.png", "again/jpeg.png", "broken.jpg"]  # fmt: skip
    assert (summary["images"], summary["unreadable"], summary["dropped_for_evaluation"]) == (12, 2, 1)
    assert "truncated" in entries["again/cut.png"]["reason"] and "decoded" in entries["broken.jpg"]["reason"]
    for name in ("again/darker.png", "again/exact.png", "again/jpeg.png"):
        assert entries[name] | {"stage": "dedup", "by": "0.png", "status": "dropped"} == entries[name]
    assert entries["4.png"]["by"] == "evaluation-0/a.png" and entries["1.png"]["by"] == "queries-0/c.png"
    assert entries["1.png"]["stage"] == "retrieve" and entries["1.png"]["size"] == [160, 120]
    assert sum(summary[key] for key in ("unreadable", "dropped_by_dedup", "dropped_for_evaluation",
                                        "dropped_by_sampling", "kept")) == 12  # fmt: skip
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["kept"] == summary["kept"]
    page = (tmp_path / "out" / "page.html").read_text()
    assert page.count("<img") > 8 and "again/jpeg.png" in page and "src='http" not in page
    assert [line for line in said if "skipped" in line and "cut.png" in line]
    assert all(line in (tmp_path / "out" / "run.log").read_text() for line in said)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.yaml", "embed", "dedup", "cluster", "retrieve", "sample", "manifest.jsonl", "summary.json", "page.html",
        "run.log",
    }  # fmt: skip


def test_what_a_set_could_not_give_is_listed(inputs: CurateInputs, tmp_path: Path) -> None:
    """The manifest is of the pool alone; a set's damaged images are in a file that the warning names."""
    for number in range(5):
        (tmp_path / "held" / f"broken{number}.png").write_bytes(b"nothing")
    said: list[str] = []
    curate(inputs, tmp_path / "out", settings(**SETTINGS), LocalEngine(2), say=said.append)
    (more,) = (line for line in said if "skipped 2 more" in line)
    listed = Path(more.removeprefix("warning: skipped 2 more; ").removesuffix(" lists them"))
    assert listed.is_relative_to(tmp_path / "out") and len(listed.read_text().splitlines()) == 5


class Killed(BaseException):
    """In place of a signal: nothing catches it."""


def test_a_run_killed_at_any_write_goes_on_to_the_same_result(
    inputs: CurateInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, replace, left = settings(**SETTINGS), Path.replace, [10**9]

    def counted(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", counted)
    curate(inputs, tmp_path / "whole", config, LocalEngine(1))
    writes = 10**9 - left[0]
    assert writes > 50
    killed = 0
    for survived in range(0, writes, 3):
        out = tmp_path / f"killed-{survived}"
        left[0] = survived
        with pytest.raises(Killed):
            curate(inputs, out, config, LocalEngine(1))
        left[0] = 10**9
        curate(inputs, out, config, LocalEngine(2))
        assert made(out) == made(tmp_path / "whole"), survived
        assert not list(out.rglob(".*"))
        killed += 1
    assert killed > 15


def test_asked_to_stop_it_keeps_what_is_done(inputs: CurateInputs, tmp_path: Path) -> None:
    config, asked = settings(**SETTINGS), [0]

    def second_time() -> bool:
        asked[0] += 1
        return asked[0] == 2

    with pytest.raises(KeyboardInterrupt):
        curate(inputs, tmp_path / "out", config, LocalEngine(1), stop=second_time)
    shards = sorted((tmp_path / "out" / "embed" / "pool" / "shards").glob("*.json"))
    before = [path.stat().st_mtime_ns for path in shards]
    assert 2 <= len(shards) <= 4
    curate(inputs, tmp_path / "out", config, LocalEngine(1))
    assert [path.stat().st_mtime_ns for path in shards] == before


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {repo!r}]
import slamfeat.curate.embed as embed
from test_curate_run import SETTINGS, TINY, random_backbone, settings
from slamfeat.curate import CurateInputs, LocalEngine, curate
import slamfeat.curate.store as store

embed.load_embedder = lambda config: random_backbone(TINY).freeze()
whole, calls = store.save_array, []

def save(path, array):
    calls.append(1)
    if len(calls) == 5:  # in the middle of the second shard
        path.with_name(".00001-ab12_xyz.npy").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    whole(path, array)

store.save_array = save
from pathlib import Path
curate(CurateInputs(Path({images!r})), Path({out!r}), settings(**SETTINGS), LocalEngine(1))
"""


def test_kill_9_in_the_middle_of_a_shard(inputs: CurateInputs, tmp_path: Path) -> None:
    here = Path(__file__).parent
    code = KILLED.format(tests=str(here), repo=str(here.parents[1]), images=str(inputs.images), out=str(tmp_path / "a"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    shards = tmp_path / "a" / "embed" / "pool" / "shards"
    assert [path.name for path in shards.glob("*.json")] == ["00000.json"]
    pool = CurateInputs(inputs.images)
    curate(pool, tmp_path / "a", settings(**SETTINGS), LocalEngine(1))
    curate(pool, tmp_path / "b", settings(**SETTINGS), LocalEngine(1))
    assert made(tmp_path / "a") == made(tmp_path / "b") and not list((tmp_path / "a").rglob(".*"))


def test_a_disk_that_fills_up_is_an_error_and_nothing_is_lost(
    inputs: CurateInputs, tmp_path: Path, small_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    config = settings(**SETTINGS)
    curate(inputs, tmp_path / "whole", config, LocalEngine(1))
    largest = max(path.stat().st_size for path in (tmp_path / "whole").rglob("*.np?"))
    for size in (200, largest - 1, (tmp_path / "whole" / "page.html").stat().st_size - 1):
        out = tmp_path / f"small-{size}"
        with small_disk(size), pytest.raises(OutputError, match="cannot write"):
            curate(inputs, out, config, LocalEngine(1))
        assert not list(out.rglob(".*"))
        curate(inputs, out, config, LocalEngine(1))
        assert made(out) == made(tmp_path / "whole")


def test_other_settings_are_refused_until_the_stage_is_made_anew(inputs: CurateInputs, tmp_path: Path) -> None:
    engine, out = LocalEngine(1), tmp_path / "out"
    curate(inputs, out, settings(**SETTINGS), engine)
    held = (out / "config.yaml").read_text()
    other = settings(**{**SETTINGS, "sample_target": 2})
    with pytest.raises(ConfigError, match=r"sample\.target \(4 there, 2 now\); pass --from sample"):
        curate(inputs, out, other, engine)
    assert (out / "config.yaml").read_text() == held
    embedded = (out / "embed" / "pool" / "store.json").stat().st_mtime_ns
    paired = (out / "dedup" / "kept.npy").stat().st_mtime_ns
    curate(inputs, out, other, engine, redo="sample")
    assert len(np.load(out / "sample" / "rows.npy")) == 2
    stricter = settings(**{**SETTINGS, "sample_target": 2, "dedup_threshold": 0.6})
    with pytest.raises(ConfigError, match="pass --from dedup"):
        curate(inputs, out, stricter, engine, redo="sample")
    assert (out / "dedup" / "kept.npy").stat().st_mtime_ns == paired
    curate(inputs, out, stricter, engine, redo="dedup")
    assert (out / "embed" / "pool" / "store.json").stat().st_mtime_ns == embedded
    with pytest.raises(ConfigError, match="unknown stage 'embed'"):
        curate(inputs, out, stricter, engine, redo="embed")
    decided = made(out)
    with pytest.raises(ConfigError, match=r"size \(56 there, 70 now\).*--overwrite"):
        curate(inputs, out, settings(**{**SETTINGS, "embed_size": 70}), engine, redo="dedup")
    with pytest.raises(ConfigError, match="unknown backbone"):
        curate(inputs, out, settings(**SETTINGS, embed_weights="dinov2-vits15"), engine, overwrite=True)
    assert made(out) == decided  # what is refused deletes nothing
    curate(inputs, out, settings(**{**SETTINGS, "embed_size": 70}), engine, overwrite=True)
    neutral = settings(**{**SETTINGS, "embed_size": 70}, memory_mb=300)
    assert made(out) == (curate(inputs, out, neutral, LocalEngine(3)) and made(out))


def test_sets_may_come_later_and_changed_images_are_seen(inputs: CurateInputs, tmp_path: Path) -> None:
    engine, config, out = LocalEngine(1), settings(**SETTINGS), tmp_path / "out"
    curate(CurateInputs(inputs.images), out, config, engine)
    with pytest.raises(ConfigError, match=r"evaluation .* pass --from dedup"):
        curate(inputs, out, config, engine)
    curate(inputs, out, config, engine, redo="dedup")
    curate(inputs, tmp_path / "at-once", config, engine)
    assert made(out) == made(tmp_path / "at-once")
    write_image(inputs.evaluation[0] / "new.png", np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"evaluation .* pass --from dedup"):
        curate(inputs, out, config, engine)
    assert curate(inputs, out, config, engine, redo="dedup")["dropped_for_evaluation"] == 1
    write_image(inputs.images / "new.png", np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"images have changed since \(then 12, now 13 names\)"):
        curate(inputs, out, config, engine)


def test_the_order_of_sets_counts(inputs: CurateInputs, tmp_path: Path) -> None:
    """Reasons name a set by its place."""
    config, engine, out = settings(**SETTINGS), LocalEngine(1), tmp_path / "out"
    write_image(tmp_path / "more" / "m.png", np.zeros((40, 40, 3), np.uint8))
    sets = (*inputs.evaluation, tmp_path / "more")
    curate(replace(inputs, evaluation=sets), out, config, engine)
    with pytest.raises(ConfigError, match=r"evaluation .* pass --from dedup"):
        curate(replace(inputs, evaluation=sets[::-1]), out, config, engine)
    curate(replace(inputs, evaluation=sets[::-1]), out, config, engine, redo="dedup")
    assert {entry["by"] for entry in manifest(out).values() if entry["stage"] == "evaluation"} == {"evaluation-1/a.png"}


def test_names_need_not_be_utf8(inputs: CurateInputs, tmp_path: Path) -> None:
    for name, odd in (("0.png", b"caf\xe9.png"), ("broken.jpg", b"\xff.jpg")):
        (inputs.images / name).rename(inputs.images / os.fsdecode(odd))
    summary = curate(inputs, tmp_path / "out", settings(**SETTINGS), LocalEngine(1))
    assert summary["images"] == 12 and summary["unreadable"] == 2
    assert r"caf\udce9.png" in (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert r"\udcff.jpg" in (tmp_path / "out" / "run.log").read_text(encoding="utf-8")


def test_folders_that_cannot_be_used(inputs: CurateInputs, tmp_path: Path) -> None:
    config, engine = settings(**SETTINGS), LocalEngine(1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"x")
    (tmp_path / "a file").write_text("x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="holds no images"):
        curate(CurateInputs(tmp_path / "empty"), tmp_path / "out", config, engine)
    with pytest.raises(InputError, match="holds no images"):
        curate(CurateInputs(inputs.images, (tmp_path / "empty",)), tmp_path / "out", config, engine)
    with pytest.raises(InputError, match="no such folder"):
        curate(CurateInputs(tmp_path / "nowhere"), tmp_path / "out", config, engine)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ImageError, match=r"none of 1 images can be used; first: .*a\.png"):
        curate(CurateInputs(tmp_path / "broken"), tmp_path / "out", config, engine)
    with pytest.raises(OutputError, match="is a file"):
        curate(inputs, tmp_path / "a file", config, engine)
    for name in ("thesis.txt", "run.log"):  # as a training or an odometry has one too
        (tmp_path / "mine" / name).write_text("x")
        with pytest.raises(OutputError, match="already holds something else"):
            curate(inputs, tmp_path / "mine", config, engine, overwrite=True)
    with pytest.raises(ConfigError, match=r"memory_mb=1 is too little"):
        curate(inputs, tmp_path / "out2", settings(**SETTINGS, memory_mb=1), engine)
    assert not list((tmp_path / "out2").rglob("*.sizes.npy"))  # said before any work


class Cluster(LocalEngine):
    """In place of Ray: many processors, two on each machine, and devices that this machine need not have."""

    name = "ray"

    def __init__(self) -> None:
        super().__init__(2)
        self.workers, self.together = 64, 2
        self.tasks: list[str] = []

    def stream(self, work: Any, tasks: Any) -> Any:
        self.tasks.append(work._config.device)
        assert work._backbone is None  # not sent along
        work._config = replace(work._config, device="cpu")
        return super().stream(work, tasks)


def test_the_machine_that_asks_needs_neither_gpu_nor_the_clusters_memory(
    inputs: CurateInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(config: EmbedConfig) -> Backbone:
        if config.device != "cpu":
            raise ConfigError("no CUDA GPU here")
        return random_backbone(TINY).freeze()

    monkeypatch.setattr("slamfeat.curate.embed.load_embedder", load)
    config, engine = settings(**SETTINGS, embed_device="cuda", memory_mb=100), Cluster()
    assert curate(inputs, tmp_path / "out", config, engine)["workers"] == 64
    assert set(engine.tasks) == {"cuda"}
    with pytest.raises(ConfigError, match="no CUDA GPU here"):
        curate(inputs, tmp_path / "here", config, LocalEngine(1))


def test_weights_trained_again_to_the_same_path_are_noticed(inputs: CurateInputs, tmp_path: Path) -> None:
    file, out = tmp_path / "backbone.safetensors", tmp_path / "out"
    config = settings(**SETTINGS, embed_weights=str(file))
    with pytest.raises(WeightsError, match="no weights file"):
        curate(inputs, out, config, LocalEngine(1))
    for seed in (0, 1):
        save_backbone(random_backbone(TINY, seed=seed).state_dict(), TINY, file, name="tiny")
        if not seed:
            curate(inputs, out, config, LocalEngine(1))
    with pytest.raises(ConfigError, match=r"made with other settings: weights_sha256 \("):
        curate(inputs, out, config, LocalEngine(1))
    plain = tmp_path / "plain.pth"  # carries no checksum of its own
    plain.write_bytes(b"weights")
    assert weights_digest(str(plain)) == hashlib.sha256(b"weights").hexdigest()
    assert weights_digest("default") == read_metadata(SHIPPED["default"])["sha256"]
    with pytest.raises(ConfigError, match="unknown backbone"):
        weights_digest("dinov2-vits15")


def test_embeddings_are_the_parts_asked_for(photo: np.ndarray) -> None:
    backbone = random_backbone(TINY).freeze()
    images = np.stack([photo[:56, :56], photo[100:156, 100:156]])
    both, only = embed_images(backbone, images), [embed_images(backbone, images, part) for part in ("class", "mean")]
    np.testing.assert_array_equal(both, np.concatenate(only, 1))
    np.testing.assert_allclose(np.linalg.norm(both.reshape(2, 2, 48), axis=2), 1, atol=1e-6)
