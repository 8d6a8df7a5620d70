"""Pairs of rooms as a list that the benchmark reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.room_pairs import main
from slamfeat.data.pair_list import read_pair_list
from slamfeat.frontend import Frontend
from slamfeat.geometry.robust import estimate_relative_pose


@pytest.mark.shared
def test_the_poses_of_a_list_are_those_that_matches_give(shared: Path, tmp_path: Path) -> None:
    main([str(shared / "data"), "--out", str(tmp_path), "--count", "4"])
    pairs = read_pair_list(tmp_path / "pairs.txt")
    assert len(pairs) == 4
    frontend = Frontend.from_pretrained("default", engine="torch")
    errors = []
    for pair in pairs:
        matches = frontend.match(frontend.extract(pair.image0), frontend.extract(pair.image1))
        points0, points1, _ = matches.numpy()
        found = estimate_relative_pose(points0, points1, pair.camera0, pair.camera1, estimator="opencv")
        assert found is not None
        turn = found.T_1_0[:3, :3].T @ pair.T_1_0[:3, :3]
        errors.append(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
    assert np.median(errors) < 1.0
