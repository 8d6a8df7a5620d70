"""The comparison of extracting every frame with extracting keyframes only."""

from __future__ import annotations

from pathlib import Path

from benchmarks.carried import SETTINGS, rows_of
from benchmarks.peers.opencv import OpenCVFrontend
from slamfeat.bench.data import parse_sequence


def test_a_row_for_each_setting_with_its_share_of_backbone_frames(sample: Path) -> None:
    rows = rows_of(OpenCVFrontend("orb"), parse_sequence(f"{sample}:rgbd@0:6"), rounds=2)
    assert [row["between_keyframes"] for row in rows] == list(SETTINGS)
    assert all(row["tracked_percent"] == 100 and row["fps"] > 0 for row in rows)
    assert rows[0]["backbone_percent"] == 100 > rows[-1]["backbone_percent"] > 0
    assert all(row["backbone_percent"] * 6 == 100 * row["keyframes"] for row in rows[1:])


def test_a_run_that_fails_is_a_row_too(sample: Path) -> None:
    rows = rows_of(OpenCVFrontend("orb", 8), parse_sequence(f"{sample}:rgbd@0:3"), rounds=1)
    assert all("frames tracked" in row["note"] and row["fps"] is None for row in rows)
