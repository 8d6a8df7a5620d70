"""The runners: their figures on cases with a known answer, and their resumable store."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import odometry, readme_table, untrained
from benchmarks.peers.opencv import OpenCVFrontend
from benchmarks.provenance import header, header_line


def test_area_under_recall_in_closed_form() -> None:
    """One error e of one: recall rises from 0 to 1 linearly until e, then stays, as glue-factory defines it."""
    assert untrained.area_under_recall([2.0], 10) == pytest.approx(100 * (2 / 2 + 8) / 10)
    assert untrained.area_under_recall([0.0, 0.0], 5) == pytest.approx(100)
    assert untrained.area_under_recall([11.0, 12.0], 10) == pytest.approx(0)
    # Two errors, one beyond the limit: up to 4 the curve rises to a half, and stays there.
    assert untrained.area_under_recall([4.0, 50.0], 10) == pytest.approx(100 * (0.5 * 4 / 2 + 0.5 * 6) / 10)


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


def test_odometry_benchmark_resumes_and_says_how_it_was_made(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def measure(name: str, data: str, scale: str, config: object) -> dict[str, object]:
        calls.append(name)
        return {"sequence": "s", "mode": "mono", "frontend": name, "ate_rmse_m": 0.5, "tracked_percent": 99.0}

    monkeypatch.setattr(odometry, "measure", measure)
    out = tmp_path / "r"
    monkeypatch.setattr(sys, "argv", ["odometry", f"{sample}:rgbd", "--frontend", "orb", "--out", str(out)])
    odometry.main()
    monkeypatch.setattr(sys, "argv", ["odometry", f"{sample}:rgbd", "--frontend", "orb", "sift", "--out", str(out)])
    odometry.main()
    assert calls == ["orb", "sift"]
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [row["frontend"] for row in rows.values()] == ["orb", "sift"]
    text = out.with_suffix(".md").read_text()
    assert "0.5000" in text and "commit" in text and "benchmarks.odometry" in text


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
