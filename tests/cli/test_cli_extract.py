"""`slamfeat extract`: hloc's layout, going on after Ctrl-C, kill -9 and a full disk, and adding images."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from cli_helpers import assert_one_line, cli, cli_json, write_picture
from test_cli_run import interrupt_at

from slamfeat.export.hloc import FeatureStore
from slamfeat.frontend import Frontend
from slamfeat.run_log import duration
from slamfeat.vo import pipeline
from slamfeat.vo.pipeline import PipelineConfig

pytestmark = pytest.mark.usefixtures("tiny")

Contents = dict[str, np.ndarray]
SmallDisk = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def images(sequence: Path) -> Path:
    """Five images, one of them in a folder further down."""
    folder = sequence / "rgb"
    files = sorted(folder.iterdir())
    (folder / "deep").mkdir()
    files[4].rename(folder / "deep" / "e.jpg")
    files[5].unlink()
    return folder


def contents(path: Path | str) -> Contents:
    """Every data set of an HDF5 file by its full name."""
    held: Contents = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: held.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return held


def assert_same(one: Contents, other: Contents) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert np.array_equal(one[name], other[name]) and one[name].dtype == other[name].dtype


def test_layout_is_hlocs(images: Path) -> None:
    row = cli_json("extract", images, "--out", "a.h5")
    assert (row["images"], row["failed"], row["done_before"], row["out"]) == (5, 0, 0, "a.h5")
    held = contents("a.h5")
    assert len(held) == 20
    count = len(held["deep/e.jpg/scores"])
    assert 100 < count <= 300
    assert held["deep/e.jpg/keypoints"].shape == (count, 2)
    assert held["deep/e.jpg/descriptors"].shape[1] == count
    assert held["deep/e.jpg/image_size"].tolist() == [640, 480]
    assert not Path("a.h5.part").exists()


def test_running_again_adds_only_what_is_new(images: Path) -> None:
    shutil.move(images / "deep", "later")
    assert cli("extract", images, "--out", "a.h5").exit_code == 0
    before = Path("a.h5").read_bytes()
    row = cli_json("extract", images, "--out", "a.h5")
    assert (row["images"], row["done_before"]) == (0, 4)
    assert Path("a.h5").read_bytes() == before
    shutil.move("later", images / "deep")
    row = cli_json("extract", images, "--out", "a.h5")
    assert (row["images"], row["done_before"]) == (1, 4)
    assert cli("extract", images, "--out", "b.h5").exit_code == 0
    assert_same(contents("a.h5"), contents("b.h5"))


def test_ctrl_c_keeps_what_is_done(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        result = cli("extract", images, "--out", "a.h5")
    assert (result.exit_code, result.stdout) == (130, "")
    assert "2 of 5 images are done and kept; run the same command again" in result.stderr
    assert Path("a.h5.part").exists() and not Path("a.h5").exists()
    row = cli_json("extract", images, "--out", "a.h5")
    assert (row["images"], row["done_before"]) == (3, 2)
    assert cli("extract", images, "--out", "b.h5").exit_code == 0
    assert_same(contents("a.h5"), contents("b.h5"))


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from conftest import TINY
import slamfeat.vo.pipeline as pipeline
from slamfeat.backbones.load import random_backbone
from slamfeat.export.journal import Journal
from slamfeat.frontend import Frontend

def build(config):
    config.frontend.num_keypoints = 300
    return Frontend(random_backbone(TINY).freeze(), config.frontend, "tiny")

whole, calls = Journal._write, []

def write(self, data):
    calls.append(1)
    if len(calls) == 4:  # the header, two images, and then in the middle of the third
        self._file.write(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    whole(self, data)

pipeline.default_preset = lambda weights: "untrained"
pipeline.build_frontend, Journal._write = build, write
sys.argv[1:] = ["extract", {images!r}, "--out", "a.h5"]
from slamfeat.cli.main import main
main()
"""


def test_kill_9_in_the_middle_of_an_image(images: Path) -> None:
    code = KILLED.format(tests=str(Path(__file__).parent), images=str(images))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    row = cli_json("extract", images, "--out", "a.h5")
    assert (row["images"], row["done_before"]) == (3, 2)
    assert cli("extract", images, "--out", "b.h5").exit_code == 0
    held, again = contents("a.h5"), contents("b.h5")
    assert held.keys() == again.keys()
    for name in held:
        assert np.allclose(held[name], again[name], atol=1e-5)


def test_a_disk_that_fills_up_while_extracting(images: Path, small_disk: SmallDisk) -> None:
    with small_disk(500_000):
        assert_one_line(cli("extract", images, "--out", "a.h5"), "a.h5.part", "free space and run again to go on")
    assert not Path("a.h5").exists()
    row = cli_json("extract", images, "--out", "a.h5")
    assert 0 < row["done_before"] < 5 and row["images"] + row["done_before"] == 5
    assert len(contents("a.h5")) == 20


def test_a_disk_that_fills_up_at_the_end(images: Path, monkeypatch: pytest.MonkeyPatch, small_disk: SmallDisk) -> None:
    publish = FeatureStore._publish

    def refused(self: FeatureStore) -> None:
        with small_disk(500_000):
            publish(self)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "_publish", refused)
        assert_one_line(cli("extract", images, "--out", "a.h5"), "a.h5", "free space")
    assert [path.name for path in Path().iterdir()] == ["a.h5.part"]
    row = cli_json("extract", images, "--out", "a.h5")
    assert (row["images"], row["done_before"]) == (0, 5) and len(contents("a.h5")) == 20


def test_files_that_cannot_be_gone_on_with(images: Path) -> None:
    Path("a.h5.part").write_bytes(b"\0" * 5000)
    assert_one_line(cli("extract", images, "--out", "a.h5"), "a.h5.part is damaged", "delete it", "--overwrite")
    assert cli("extract", images, "--out", "a.h5", "--overwrite").exit_code == 0
    assert_one_line(cli("extract", images, "--out", "a.h5", "frontend.cell=28"), "a.h5", "other settings")
    whole = Path("a.h5").read_bytes()
    Path("a.h5").write_bytes(whole[: len(whole) // 2])
    assert_one_line(cli("extract", images, "--out", "a.h5"), "a.h5 is damaged", "--overwrite")
    Path("a.h5").write_bytes(b"another program's")
    assert_one_line(cli("extract", images, "--out", "a.h5"), "a.h5 is damaged", "--overwrite")


def test_unusable_images_are_left_out_and_counted(images: Path) -> None:
    write_picture(images / "black.png", 64, 0)
    write_picture(images / "tiny.png", 10)
    result = cli("extract", images, "--out", "a.h5")
    assert result.exit_code == 0 and len(result.stderr.splitlines()) == 2
    assert all(line.startswith("warning: skipped ") for line in result.stderr.splitlines())
    assert len(contents("a.h5")) == 20
    row = cli_json("extract", images, "--out", "a.h5")
    assert (row["images"], row["failed"], row["done_before"]) == (0, 2, 5)
    (images / "tiny.png").unlink()
    result = cli("extract", images, "--out", "a.h5")
    assert result.exit_code == 0 and "warning: skipped " in result.stderr and "black.png" in result.stderr
    write_picture(Path("alone/black.png"), 64, 0)
    assert_one_line(cli("extract", "alone", "--out", "b.h5"), "black.png", "no keypoints")


def test_batches_hold_the_same_and_can_be_gone_on_with(images: Path) -> None:
    assert cli("extract", images, "--out", "a.h5").exit_code == 0
    shutil.move(images / "deep", "later")
    assert cli("extract", images, "--out", "b.h5", "--batch", "3").exit_code == 0
    shutil.move("later", images / "deep")
    row = cli_json("extract", images, "--out", "b.h5")
    assert (row["images"], row["done_before"]) == (1, 4)
    one, other = contents("a.h5"), contents("b.h5")
    assert one.keys() == other.keys()
    assert all(np.allclose(one[name], other[name], atol=2e-5) for name in one)


def test_throughput_is_told_with_and_without_a_terminal(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slamfeat.cli.throughput.LINE_SECONDS", 0.0)
    write_picture(images / "tiny.png", 10)
    result = cli("extract", images, "--out", "a.h5", "--json")
    row = json.loads(result.stdout)
    assert row["megapixels_per_second"] == pytest.approx(5 * 0.3072 / row["seconds"])
    assert row["images_per_second"] == pytest.approx(6 / row["seconds"])
    lines = [line for line in result.stderr.splitlines() if "images/s" in line]
    assert len(lines) == 6
    for number, line in enumerate(lines, 1):
        assert re.fullmatch(rf"{number} of 6 images, [\d.]+ images/s, [\d.]+ MP/s, \d+:\d\d left", line), line
    assert lines[-1].endswith("0:00 left")


def test_the_clock_stands_still_before_the_file_is_published(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish, clock = FeatureStore._publish, SimpleNamespace(perf_counter=time.perf_counter)
    monkeypatch.setattr("slamfeat.cli.throughput.time", clock)

    def an_hour_later(self: FeatureStore) -> None:
        publish(self)
        clock.perf_counter = lambda: time.perf_counter() + 3600

    monkeypatch.setattr(FeatureStore, "_publish", an_hour_later)
    assert cli_json("extract", images, "--out", "a.h5")["seconds"] < 3600


def test_the_engine_that_runs_is_kept_with_the_features(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("extract", images, "--out", "a.h5").exit_code == 0
    with h5py.File("a.h5", "r") as file:
        settings = json.loads(file.attrs["settings"])
    assert (settings["engine"], settings["precision"]) == ("torch", "fp32")
    # The same command where another engine is foreseen, which fails, and then one that runs.
    monkeypatch.setattr(pipeline, "settle_engine", lambda config: replace(config, engine="openvino", precision="int8"))
    assert cli_json("extract", images, "--out", "a.h5")["done_before"] == 5
    build = pipeline.build_frontend

    def other(config: PipelineConfig) -> Frontend:
        frontend = build(config)
        frontend.engine.precision = "bf16"
        return frontend

    monkeypatch.setattr(pipeline, "build_frontend", other)
    assert_one_line(cli("extract", images, "--out", "a.h5"), "a.h5", "other settings")


def test_nothing_is_built_where_nothing_is_left_to_do(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("extract", images, "--out", "a.h5").exit_code == 0
    monkeypatch.setattr(pipeline, "build_frontend", None)
    row = cli_json("extract", images, "--out", "a.h5")
    assert (row["images"], row["done_before"], row["images_per_second"]) == (0, 5, 0)


def test_time_left() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.6, 75, 3725)] == ["0:00", "1:00", "1:15", "1:02:05"]
