"""One cache folder for all of these tests, so that a backbone is exported and quantised once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slamfeat.backbones import Backbone
from slamfeat.engines import cache, graph


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slamfeat_home")


@pytest.fixture(autouse=True)
def home(session_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLAMFEAT_HOME", str(session_home))
    monkeypatch.setattr(cache, "_warned", set())
    return session_home


_exported: dict[str, bytes] = {}


@pytest.fixture
def export_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports take seconds; tests of what happens to their result share it."""
    export = graph.export_graph

    def remember(backbone: Backbone, layers: list[int]) -> bytes:
        key = graph.graph_entry(backbone, layers).identity
        if key not in _exported:
            _exported[key] = export(backbone, layers)
        return _exported[key]

    monkeypatch.setattr(graph, "export_graph", remember)


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes libraries look uninstalled."""

    def hide_these(*names: str) -> None:
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]

    return hide_these


@pytest.fixture
def images_folder(sample: Path, tmp_path: Path) -> Path:
    """Four frames of the sample, to calibrate with."""
    folder = tmp_path / "calibration"
    folder.mkdir()
    for image in sorted((sample / "rgb").iterdir())[::15]:
        (folder / image.name).write_bytes(image.read_bytes())
    return folder
