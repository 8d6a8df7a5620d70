"""`slamfeat weights`, and what importing costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_backbones import make_backbone
from typer.testing import CliRunner

from slamfeat.backbones import store
from slamfeat.cli.weights import app
from slamfeat.errors import ConfigError, WeightsError

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    store.save_stored("tiny2", make_backbone("tiny2").state_dict(), source="here", source_sha256="0", note="A note.")


def test_list() -> None:
    result = runner.invoke(app, ["list", "--json"])
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["tiny2"]["stored"] and rows["tiny2"]["note"] == "A note."
    assert not rows["dinov2-vits14"]["stored"] and rows["dinov3-vits16"]["gated"]
    text = runner.invoke(app, ["list"]).stdout
    assert "dinov2-vitg14-reg4" in text and "DINOv3 License" in text and "A note." in text


def test_verify_and_get() -> None:
    for arguments in (["verify"], ["verify", "tiny2"], ["get", "tiny2"]):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert "tiny2" in result.stdout and "A note." in result.stdout
        (row,) = json.loads(runner.invoke(app, [*arguments, "--json"]).stdout)
        assert row["name"] == "tiny2" and row["source"] == "here"


def test_errors_are_left_to_the_main_program() -> None:
    assert isinstance(runner.invoke(app, ["get", "dinov2-vits"]).exception, ConfigError)
    assert isinstance(runner.invoke(app, ["get", "dinov3-vits16"]).exception, WeightsError)
    assert isinstance(runner.invoke(app, ["verify", "dinov2-vitb14"]).exception, WeightsError)


def test_nothing_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path / "empty"))
    assert "slamfeat weights get" in runner.invoke(app, ["verify"]).stdout
    assert json.loads(runner.invoke(app, ["verify", "--json"]).stdout) == []


@pytest.mark.parametrize("verb", ["list", "get", "verify"])
def test_help_has_an_example(verb: str) -> None:
    assert f"slamfeat weights {verb}" in runner.invoke(app, [verb, "--help"]).stdout


def test_import_is_silent_and_light() -> None:
    code = "import sys, slamfeat.backbones; print([m for m in ('onnx', 'typer', 'cv2') if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=root)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
