"""Publishing: headers, the README's table, the committed results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import publish, readme_table
from benchmarks.peers.opencv import OpenCVFrontend
from slamfeat.bench.provenance import header, header_line


@pytest.mark.parametrize("name", ["orb", "sift"])
def test_peers_keep_the_contract_and_match_a_shifted_photo(name: str, photo: np.ndarray) -> None:
    frontend = OpenCVFrontend(name, 400)
    first, second = frontend.extract(photo[:-20, :-40]), frontend.extract(photo[20:, 40:])
    assert first.keypoints.shape == (1, 400, 2) and first.mask.shape == (1, 400)
    points0, points1, _ = frontend.match(first, second).numpy()
    error = np.linalg.norm(points0 - points1 - [40, 20], axis=1)
    assert len(points0) > 80 and (error < 4).mean() > 0.9  # ORB finds corners on coarse pyramid levels
    black = frontend.extract(np.zeros_like(photo))
    assert not black.mask.any() and len(frontend.match(black, first)) == 0


def test_header_names_machine_and_commit() -> None:
    facts = header("python -m x")
    assert {"date", "cpu", "threads", "torch", "commit", "command"} <= set(facts)
    assert "`python -m x`" in header_line(facts)


def test_readme_table_is_put_between_its_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.md").write_text("| a |\n")
    (tmp_path / "README.md").write_text("x\n<!-- results: t.md -->\nold\n<!-- end of results -->\ny\n")
    monkeypatch.setattr(readme_table, "REPO", tmp_path)
    readme_table.main()
    expected = "x\n<!-- results: t.md -->\n| a |\n<!-- end of results -->\ny\n"
    assert (tmp_path / "README.md").read_text() == expected


def test_publishing_copies_results_and_writes_summaries(tmp_path: Path) -> None:
    source, target = tmp_path / "run" / "results", tmp_path / "published"
    source.mkdir(parents=True)
    target.mkdir()
    row = {"size": "640x480", "threads": 1, "extract_ms": 1.0, "match_ms": 1.0, "vs_xfeat": None, "vs_sift": None}
    rows = [
        {**row, "frontend": name, "total_ms": ms, "peak_mb": None} for name, ms in (("slamfeat", 9.0), ("orb", 3.0))
    ]
    result = {
        "task": "speed", "header": header("slamfeat bench x"), "estimator": "none", "num_keypoints": 9, "config": {},
        "frontends": {"slamfeat": {"settings": {}}, "orb": {"settings": {}}}, "problems": {}, "rows": rows,
        "stages": {}, "peak": {},
    }  # fmt: skip
    (source / "speed.json").write_text(json.dumps(result))
    (source / "speed.md").write_text("table\n")
    publish.publish(tmp_path / "run", target)
    assert (target / "speed.json").read_text() == (source / "speed.json").read_text()
    assert "slamfeat bench x" in (target / "summary.md").read_text()
    standing = (target / "standing.md").read_text()
    assert "9" in standing and "orb" in standing
