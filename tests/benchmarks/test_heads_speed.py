"""The benchmark of heads: a small run, and the heads it is made with where none are trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import heads_speed
from benchmarks.published_heads import published_heads
from slamfeat.errors import WeightsError
from slamfeat.frontend.heads.bundle import Heads


@pytest.fixture
def heads() -> Heads:
    try:
        return published_heads("dinov2-vits14", 5, 384)
    except WeightsError as error:
        pytest.skip(f"the peers' weights are not stored: {error}")


def test_heads_of_published_weights_are_always_the_same_and_leave_chance_alone(heads: Heads) -> None:
    before = torch.get_rng_state()
    again = published_heads("dinov2-vits14", 5, 384)
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(heads.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert heads.matcher is not None and heads.matcher.tokens is not None
    assert bool((heads.matcher.tokens.into_cross != 0).all())


def test_a_small_run(heads: Heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_speed, "ENGINES", (("torch", "fp32"),))
    monkeypatch.setattr(heads_speed, "set_threads", lambda count: None)
    monkeypatch.setattr(heads_speed, "AGREEMENT_PAIRS", 1)
    out = tmp_path / "speed"
    heads_speed.main(["--out", str(out), "--keypoints", "100", "--rounds", "1"])
    found = json.loads(out.with_suffix(".json").read_text())
    assert found["same"] == {"torch fp32": 100.0} and {"date", "cpu", "threads", "commit", "data"} <= set(
        found["header"]
    )
    assert {"fine branch", "backbone", "matcher, 6 layers", "refiner, a pass", "match"} <= set(
        found["ms"]["torch fp32"]
    )
    assert set(found["ms"]["xfeat+lighterglue"]) == {"extract", "match"}
    assert "| refiner, a pass |" in out.with_suffix(".md").read_text()
