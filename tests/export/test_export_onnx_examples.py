"""The command line, and the C++ example of docs/export.md, which is compiled where OpenVINO's headers are."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from slamfeat.cli.main import app
from slamfeat.engines.libraries import installed
from slamfeat.frontend import Frontend
from slamfeat.frontend.heads.bundle import Heads, HeadsAbout, save_heads
from slamfeat.frontend.heads.matcher import AttentionConfig
from slamfeat.image import read_image

# Not `importorskip`: importing ONNX Runtime or OpenVINO plainly starts their telemetry.
pytestmark = pytest.mark.skipif(
    not installed("onnx", "onnxscript", "onnxruntime"), reason='exporter not installed: pip install "slamfeat[onnx]"'
)

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def export(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("slamfeat")
    call = [str(script), "export", "onnx", *words]
    return subprocess.run(call, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


def error_of(words: list[str]) -> str:
    """The one line that a refused command prints."""
    result = CliRunner().invoke(app, ["export", "onnx", *words])
    assert result.exit_code == 1 and result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_the_verb_writes_a_checked_file_and_is_quiet(tmp_path: Path) -> None:
    done = export(tmp_path, "matcher", "--size", "280x196", "--keypoints", "64", "--out", "m.onnx", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    row = json.loads(done.stdout)
    assert row["keypoints"] == 64 and row["matches_equal"] >= 0.98
    assert row["checked_with"].startswith("ONNX Runtime ")
    assert (tmp_path / row["out"]).stat().st_size == pytest.approx(row["megabytes"] * 1e6)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["frontend", "--size", "640"], "--size 640 is not WIDTHxHEIGHT"),
        (["frontend", "--size", "20x480"], "at least 32"),
        (["backbone", "--size", "640x480"], "--size 644x476"),
        (["matcher", "frontend.matcher.method=guided", "--size", "280x196"], "guided"),
    ],
)
def test_mistakes_are_one_line(words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in error_of(words)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def heads_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of random weights, for the shipped backbone."""
    torch.manual_seed(0)
    heads = Heads(HeadsAbout("dinov2-vits14", 5, "xfeat", AttentionConfig(dim=32, layers=2)))
    return save_heads(heads, tmp_path_factory.mktemp("heads") / "heads.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["frontend", "matcher"])
def test_heads_are_exported(part: str, heads_file: Path, tmp_path: Path) -> None:
    words = ["frontend.matcher.method=attention", "frontend.matcher.layers=1", f"frontend.heads={heads_file}"]
    done = export(tmp_path, part, *words, "--size", "280x196", "--keypoints", "64", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    row = json.loads(done.stdout)
    assert row["matches_equal" if part == "matcher" else "keypoints_equal"] >= 0.98
    assert (tmp_path / f"{part}.onnx").is_file()


def test_heads_that_are_no_graph_are_refused(heads_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "preset=untrained",
        "frontend.matcher.method=attention",
        "frontend.matcher.exit=0.95",
        f"frontend.heads={heads_file}",
    ]
    monkeypatch.chdir(tmp_path)
    assert "pair by pair" in error_of(["matcher", "--size", "280x196", *words])


@pytest.mark.slow
def test_the_openvino_example_finds_the_matches(sample: Path, tmp_path: Path) -> None:
    program = _compile(tmp_path)
    size, slots = (280, 196), 256
    for part in ("frontend", "matcher"):
        done = export(tmp_path, part, "--size", "280x196", "--keypoints", str(slots), "frontend.refine.method=none")
        assert done.returncode == 0, done.stderr
    files = sorted((sample / "rgb").iterdir())
    pictures = [cv2.resize(read_image(files[n]), size, interpolation=cv2.INTER_AREA) for n in (20, 24)]
    for name, picture in zip("ab", pictures, strict=True):
        cv2.imwrite(str(tmp_path / f"{name}.ppm"), picture[..., ::-1])
    call = [str(program), "frontend.onnx", "matcher.onnx", "a.ppm", "b.ppm"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    found = np.array([line.split() for line in done.stdout.splitlines()], dtype=float)
    frontend = Frontend.from_pretrained("default", engine="torch", precision="fp32")
    frontend.config.refine.method = "none"
    points0, points1, _ = frontend.match(*(frontend.extract(picture, slots) for picture in pictures)).numpy()
    expected = np.column_stack([points0, points1])
    near = np.abs(found[:, None, :4] - expected).max(2).min(0) < 0.05
    assert len(expected) > 50 and abs(len(found) - len(expected)) <= 0.01 * len(expected) and near.mean() > 0.98


def _compile(folder: Path) -> Path:
    spec = importlib.util.find_spec("openvino")
    if spec is None or spec.origin is None:
        pytest.skip("OpenVINO is not installed")
    root = Path(spec.origin).parent
    library = next(iter(sorted((root / "libs").glob("libopenvino.so*"))), None)
    if shutil.which("g++") is None or library is None or not (root / "include").is_dir():
        pytest.skip("no g++, or an OpenVINO without headers and shared libraries")
    words = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-isystem", str(root / "include")]
    files = [str(EXAMPLES / "openvino.cpp"), str(library), f"-Wl,-rpath,{library.parent}", "-o", "features"]
    done = subprocess.run([*words, *files], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "features"
