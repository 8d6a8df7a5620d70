"""Ray with two workers on this machine against the local engine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from functools import partial
from operator import mul
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from curate_helpers import copies, photographs, settings, write_image

from slamfeat.curate import CurateInputs, Engine, LocalEngine, curate
from slamfeat.errors import ConfigError, ImageError, MissingDependencyError
from slamfeat.image import read_image


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from slamfeat.curate.ray_engine import RayEngine

    monkeypatch.setattr("slamfeat.curate.ray_engine.installed", lambda name: False)
    with pytest.raises(MissingDependencyError, match=r'pip install "slamfeat\[ray\]"'):
        RayEngine()


def test_tasks_that_share_a_memory_are_counted() -> None:
    from slamfeat.curate.ray_engine import most_processors

    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "memory": 1e9}}, {"Alive": True, "Resources": {"CPU": 32.0}},
        {"Alive": False, "Resources": {"CPU": 99.0}}, {"Alive": True, "Resources": {}},
    ]  # fmt: skip
    assert most_processors(nodes) == 32 and most_processors([]) == 1


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    pytest.importorskip("ray", reason='Ray is not installed: pip install "slamfeat[ray]"')
    from slamfeat.curate.ray_engine import RayEngine

    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(home))
        made = RayEngine(workers=2)
        yield made
        made.close()
        assert list(home.iterdir()) == []  # no token, no telemetry's files
        assert not any(name.startswith("RAY_AUTH_") for name in os.environ)


@pytest.mark.slow
def test_results_come_in_order_and_errors_as_they_are(engine: Engine, sample: Path) -> None:
    files = sorted((sample / "rgb").iterdir())[:12]
    wanted = [read_image(file).tolist() for file in files[:2]]
    assert [array.tolist() for array in engine.run(read_image, files[:2])] == wanted
    double = partial(mul, 2)
    assert list(engine.run(double, range(20))) == list(LocalEngine(2).run(double, range(20))) == list(range(0, 40, 2))
    assert sorted(engine.stream(double, range(7))) == list(range(0, 14, 2)) and list(engine.stream(double, [])) == []
    for results in (engine.run(read_image, [files[0], Path("gone")]), engine.stream(read_image, [Path("gone")])):
        with pytest.raises(ImageError, match=r"^gone: No such file or directory; check the path$"):
            list(results)


@pytest.mark.slow
def test_local_and_ray_decide_the_same(engine: Engine, sample: Path, tmp_path: Path) -> None:
    """From image files on, with the shipped backbone and every stage."""
    frames = [frame[::2, ::2] for frame in photographs(sample / "rgb", 60)[::10]]
    for at, frame in enumerate(frames):
        write_image(tmp_path / "images" / f"{at}.png", frame)
    for name, altered in copies(frames[0]).items():
        write_image(tmp_path / "images" / f"{name}.png", altered)
    (tmp_path / "images" / "broken.png").write_bytes(b"x")
    write_image(tmp_path / "held" / "a.png", frames[5])
    write_image(tmp_path / "wanted" / "a.png", frames[2])
    inputs = CurateInputs(tmp_path / "images", (tmp_path / "held",), (tmp_path / "wanted",))
    config = settings(
        dedup_correlation=0.87, embed_shard=4, embed_batch=2, search_exact_up_to=4, search_cells=2, search_probes=2,
        cluster_levels=[3, 2], sample_target=2, dedup_chain=False,
    )  # fmt: skip
    shards, summaries = iter(range(10)), {}
    with pytest.raises(KeyboardInterrupt):  # begun here, gone on with there
        curate(inputs, tmp_path / "ray", config, LocalEngine(1), stop=lambda: next(shards) == 2)
    for name, one in (("local", LocalEngine(1)), ("ray", engine)):
        summaries[name] = curate(inputs, tmp_path / name, config, one)
    check_manifests(tmp_path / "local" / "manifest.jsonl", tmp_path / "ray" / "manifest.jsonl")
    assert summaries["ray"]["engine"] == "ray" and summaries["ray"]["workers"] == 2
    assert summaries["ray"]["dropped_by_dedup"] >= 7 and summaries["ray"]["unreadable"] == 1
    files = sorted((tmp_path / "local").rglob("*.np[yz]"))
    assert files
    for file in files:
        check_alike(file, tmp_path / "ray" / file.relative_to(tmp_path / "local"))

    # Embeddings may differ in their last bit from process to process; given the same ones, nothing does.
    shutil.copytree(tmp_path / "local", tmp_path / "shared")
    curate(inputs, tmp_path / "shared", config, engine, redo="dedup")
    assert (tmp_path / "shared" / "manifest.jsonl").read_bytes() == (tmp_path / "local" / "manifest.jsonl").read_bytes()


@pytest.mark.slow
def test_a_worker_that_dies_is_said(engine: Engine) -> None:
    with pytest.raises(ConfigError, match=r"Ray lost a task .*run the same command to go on"):
        list(engine.run(os._exit, [9]))
    for results in (engine.run(partial(mul, "a"), ["b"]), engine.stream(partial(mul, "a"), ["b"])):
        with pytest.raises(TypeError, match="can't multiply sequence"):  # a fault of the work is not Ray's
            list(results)


def test_no_more_workers_than_gpus() -> None:
    from slamfeat.curate.ray_engine import RayEngine

    made = object.__new__(RayEngine)
    made.workers, made._ray = 64, SimpleNamespace(cluster_resources=lambda: {"CPU": 64.0, "GPU": 8.0})
    assert [made._actors(gpus) for gpus in (0, 1, 0.5)] == [64, 8, 16]
    with pytest.raises(ConfigError, match=r"no 16 GPUs free for a worker; use embed\.device=cpu"):
        made._actors(16)


def check_manifests(local: Path, other: Path) -> None:
    """Every decision, its reason and its order are the same; a cosine may differ in its last digit (`check_alike`)."""
    ours, theirs = ([json.loads(line) for line in path.read_text().splitlines()] for path in (local, other))
    cosines = [[entry.pop("cosine", None) for entry in entries] for entries in (ours, theirs)]
    assert ours == theirs and len(ours) > 10
    assert any(cosine is not None for cosine in cosines[0])
    for one, another in zip(*cosines, strict=True):
        assert one == another or abs(one - another) < 2.5e-5


def check_alike(local: Path, other: Path) -> None:
    """Whole numbers are equal; of embeddings and their cosines another process may round the last bit otherwise."""
    loaded = [np.load(path) for path in (local, other)]
    ours, theirs = (dict(one) if isinstance(one, np.lib.npyio.NpzFile) else {"": one} for one in loaded)
    assert ours.keys() == theirs.keys()
    for key, values in ours.items():
        exact = not np.issubdtype(values.dtype, np.floating)
        np.testing.assert_allclose(theirs[key], values, rtol=0, atol=0 if exact else 2e-4, err_msg=f"{local} {key}")
        assert theirs[key].dtype == values.dtype
