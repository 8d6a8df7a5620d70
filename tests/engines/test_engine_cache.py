"""What engines build is kept, found again, verified, and never required."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine_backbones import LAYERS, make_backbone, need, random_images, reference

from slamfeat.backbones import Backbone
from slamfeat.engines import cache, graph, make_engine, plan_engine, quantise
from slamfeat.engines import libraries as libraries_module


@pytest.fixture(autouse=True)
def libraries(export_once: None) -> None:
    for name in ("onnxscript", "openvino", "nncf"):
        need(name)


@pytest.fixture
def backbone() -> Backbone:
    return make_backbone("dinov2")


def check(backbone: Backbone, precision: str = "fp32", folder: Path | None = None, engine: str = "openvino") -> None:
    images = random_images(backbone, 5, 7)
    (got, *_), (wanted, *_) = (
        make_engine(backbone, LAYERS, engine, precision, folder)(images),
        reference(backbone, images),
    )
    limit = 2e-5 if precision == "fp32" else 1.0
    torch.testing.assert_close(got, wanted, atol=limit, rtol=1e-4)


def forbid(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """From here on building fails; returns the list of attempts."""
    attempts: list[str] = []

    def refuse(*_: object) -> None:
        attempts.append("built again")
        raise AssertionError("built again")

    monkeypatch.setattr(graph, "export_graph", refuse)
    monkeypatch.setattr(quantise, "quantise", refuse)
    return attempts


def test_the_second_engine_builds_nothing(
    backbone: Backbone, images_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(backbone)
    check(backbone, "int8", images_folder)
    attempts = forbid(monkeypatch)
    check(backbone)
    check(backbone, "int8", images_folder)
    assert attempts == []


def test_what_is_kept_works_without_what_made_it(
    backbone: Backbone, images_folder: Path, monkeypatch: pytest.MonkeyPatch, hide: Callable[..., None]
) -> None:
    check(backbone, "int8", images_folder)
    hide("onnx", "onnxscript", "nncf")
    forbid(monkeypatch)
    assert plan_engine(backbone, LAYERS, calibration=images_folder).precision == "int8"
    check(backbone, "int8", images_folder)
    assert plan_engine(make_backbone("dinov2", seed=9), LAYERS).engine != "openvino"


def test_other_weights_blocks_versions_and_images_are_not_taken(
    backbone: Backbone, images_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(backbone, "int8", images_folder)
    entry = graph.graph_entry(backbone, LAYERS)
    assert cache.contains(entry) and cache.contains(quantise.quantised_entry(entry, images_folder))
    assert not cache.contains(graph.graph_entry(make_backbone("dinov2", seed=1), LAYERS))
    assert not cache.contains(graph.graph_entry(backbone, [0]))
    next(images_folder.iterdir()).unlink()
    assert not cache.contains(quantise.quantised_entry(entry, images_folder))
    monkeypatch.setattr(cache, "version", lambda name: "0.0.1")
    assert not cache.contains(entry)


def test_a_damaged_entry_is_built_again(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    check(backbone)
    (file,) = cache.engines_folder().glob("*/graph.onnx")
    whole = file.read_bytes()
    for damaged in (whole[:1000], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        file.write_bytes(damaged)
        caplog.clear()
        check(backbone)
        (line,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert "damaged" in line and str(file.parent) in line
        assert file.stat().st_size == len(whole)
    (file.parent / "manifest.json").write_text("{")
    check(backbone)
    assert list(cache.engines_folder().iterdir()) == [file.parent]


def test_a_folder_that_cannot_be_written_costs_one_warning(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    images_folder: Path,
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path / "file"))
    check(backbone)
    check(backbone, "int8", images_folder)
    (line,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert "SLAMFEAT_HOME" in line


def test_a_full_disk_leaves_nothing_behind(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    check(backbone)
    assert "No space left" in caplog.text
    assert list(cache.engines_folder().iterdir()) == []


def test_an_entry_that_another_process_made_meanwhile_is_kept(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    entry = cache.Entry("graph", "identity", ("torch",))

    def save(value: str, folder: Path) -> None:
        (folder / "file").write_text(value)

    def load(folder: Path) -> str:
        return (folder / "file").read_text()

    def build_second() -> str:
        assert cache.load_or_build(entry, load, lambda: "first", save) == "first"
        return "second"

    assert cache.load_or_build(entry, load, build_second, save) == "second"
    assert cache.load_or_build(entry, load, build_second, save) == "first"
    (entry.folder / "file").write_text("damaged")
    assert cache.load_or_build(entry, load, lambda: "third", save) == "third"
    assert cache.load_or_build(entry, load, build_second, save) == "third"


def test_what_dead_processes_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    old, young = (cache.engines_folder() / f".building-{name}" for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "graph.onnx").write_text("half")
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    entry = cache.Entry("graph", "identity", ("torch",))
    cache.load_or_build(
        entry, lambda folder: "", lambda: "x", lambda x, folder: (folder / "file").write_text(x) and None
    )
    assert sorted(cache.engines_folder().iterdir()) == sorted([young, entry.folder])


def test_telemetry_stays_hidden_until_the_last_thread_has_imported() -> None:
    name = "openvino_telemetry"
    before = sys.modules.get(name, "absent")
    first_in, second_in, first_leaves, second_leaves = (threading.Event() for _ in range(4))
    seen = []

    def hide_until(entered: threading.Event, leave: threading.Event) -> None:
        with libraries_module.without_telemetry():
            entered.set()
            leave.wait(10)
            seen.append(sys.modules.get(name, "absent"))

    threads = [
        threading.Thread(target=hide_until, args=events)
        for events in ((first_in, first_leaves), (second_in, second_leaves))
    ]
    threads[0].start()
    assert first_in.wait(10)
    threads[1].start()
    second_in.wait(0.3)  # unless it must wait for the first one, it is inside by now
    first_leaves.set()
    threads[0].join(10)
    second_leaves.set()
    threads[1].join(10)
    assert seen == [None, None]
    assert sys.modules.get(name, "absent") is before


def test_building_is_silent_and_tells_nobody(home: Path, images_folder: Path, tmp_path: Path) -> None:
    """No telemetry files in the home folder, no connection, nothing on the terminal, one line in the log."""
    code = (
        "import logging, socket, sys\n"
        "def refuse(*a, **k): raise SystemExit('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from engine_backbones import make_backbone, random_images\n"
        "from slamfeat.engines import make_engine\n"
        "handler = logging.FileHandler('log.txt')\n"
        "logging.getLogger('slamfeat').addHandler(handler)\n"
        "logging.getLogger('slamfeat').setLevel(logging.INFO)\n"
        "backbone = make_backbone('dinov2', seed=5)\n"
        f"engine = make_engine(backbone, [0], 'openvino', 'int8', {str(images_folder)!r})\n"
        "engine(random_images(backbone, 3, 4))\n"
        "from slamfeat.engines.libraries import installed\n"
        "if installed('onnxruntime'):\n"
        "    make_engine(backbone, [0], 'onnx')(random_images(backbone, 3, 4))\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
    )
    user, work = tmp_path / "user", tmp_path / "work"
    user.mkdir()
    work.mkdir()
    environment = {"HOME": str(user), "SLAMFEAT_HOME": str(home), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not [path for path in user.rglob("*") if path.is_file()]
    (line,) = (work / "log.txt").read_text().splitlines()
    assert "preparing the backbone" in line
