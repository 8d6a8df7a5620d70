"""The ablation of the pretraining: rows that differ by one thing, and runs that are gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.pretrain_ablation import VARIANTS, main, parse, recipe_of
from slamfeat.config import to_dict


def test_rows_differ_by_one_thing_and_warm_ups_keep_their_share() -> None:
    given = parse(["vits14", "--steps", "1000", "--out", "x", "data.images=[a]"])
    rows = [to_dict(recipe_of(given, words)) for words in VARIANTS.values()]
    for row, words in zip(rows[1:], list(VARIANTS.values())[1:], strict=True):
        differing = [
            f"{part}.{key}={row[part][key]}".removesuffix(".0")
            for part in row
            if isinstance(row[part], dict)
            for key in row[part]
            if row[part][key] != rows[0][part][key]
        ]
        assert differing == list(words)
    whole = to_dict(recipe_of(parse(["vits14", "--steps", "125000", "--out", "x", "data.images=[a]"]), ()))
    assert whole["loop"]["steps"] == 125 * rows[0]["loop"]["steps"]
    for part, key in (("loop", "warmup"), ("teacher", "warmup"), ("rates", "last_layer_from")):
        assert whole[part][key] == pytest.approx(125 * rows[0][part][key], abs=125)


@pytest.mark.slow
def test_a_table_of_all_rows_that_is_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cpu_tiny", "--steps", "3", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "table")]
    main([*words, "probes.images=4"])
    table = capsys.readouterr().out
    assert all(label in table for label in VARIANTS)
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["backbone"] for row in rows] == ["raw pixels", "untrained", *VARIANTS]
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("step-*.safetensors")}
    assert len(made) >= len(VARIANTS)
    main([*words, "probes.images=4"])
    assert {path: path.stat().st_mtime_ns for path in made} == made
    with pytest.raises(SystemExit, match="unknown recipe"):
        main(["cpu_tinny", *words[1:]])
