"""The ablation: its rows as recipes, variants of heads, the table, and a small run from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import ablation
from benchmarks.ablation_heads import VARIANTS, without_tokens, write_heads
from benchmarks.ablation_rows import GROUPS, Group, all_rows, recipes_of, write_recipe
from benchmarks.ablation_table import markdown, rows_with_figures
from slamfeat.bench import matching, vo
from slamfeat.errors import ConfigError
from slamfeat.frontend.heads.bundle import Heads, HeadsAbout, load_heads, save_heads
from slamfeat.frontend.heads.matcher import AttentionConfig, MatcherInput
from slamfeat.vo.pipeline import load_pipeline

NAMES = {name: name for name in VARIANTS}


def small_heads(token_dim: int = 384) -> Heads:
    """Random heads without a refiner, whose tokens take part."""
    size = AttentionConfig(input_dim=128, token_dim=token_dim, token_width=8, dim=16, layers=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = Heads(HeadsAbout("dinov2-vits14", 5, "sift", size))
        for name, weights in heads.named_parameters():
            if "tokens.into" in name:
                torch.nn.init.normal_(weights)
    return heads.eval()


def test_every_row_is_a_frontend_of_its_own_within_its_group(tmp_path: Path) -> None:
    recipes = {row: write_recipe(row, NAMES, tmp_path) for row in all_rows(GROUPS)}
    for group in GROUPS:
        own = [recipe for row, recipe in recipes.items() if row.group is group]
        assert len(set(own)) == len(own) >= 2, group.title
    assert len(set(recipes.values())) < len(recipes), "equal settings are one recipe"


def test_a_recipe_holds_base_and_changes(tmp_path: Path) -> None:
    group = Group("g", "heads=light refine.method=lk", {"x": "layers=[5,11] refine.method=none"}, "dinov2-vits14")
    (row,) = all_rows((group,))
    config = load_pipeline(write_recipe(row, {"light": "some/file.safetensors"}, tmp_path))
    assert (config.weights, config.frontend.layers) == ("dinov2-vits14", [5, 11])
    assert (config.frontend.heads, config.frontend.refine.method) == ("some/file.safetensors", "none")
    (wrong,) = all_rows((Group("g", "", {"x": "refine.pases=1"}),))
    with pytest.raises(ConfigError, match="passes"):
        write_recipe(wrong, {}, tmp_path)


def test_without_tokens_is_the_matcher_with_zeros_in_their_place() -> None:
    heads = small_heads()
    blind = without_tokens(heads)
    assert heads.matcher is not None and blind.matcher is not None and blind.matcher.tokens is None
    generator = torch.Generator().manual_seed(0)
    sides = [
        MatcherInput(*(torch.randn(1, 9, width, generator=generator) for width in (2, 128, 384)), torch.ones(1, 9) > 0)
        for _ in range(2)
    ]
    plain = blind.matcher(*(side._replace(tokens=None) for side in sides)).similarity
    assert not torch.allclose(heads.matcher(*sides).similarity, plain)
    for name, weights in heads.matcher.named_parameters():
        if "tokens.into" in name:
            weights.zero_()
    assert torch.allclose(heads.matcher(*sides).similarity, plain, atol=1e-5)
    with pytest.raises(ConfigError, match="no matcher with tokens"):
        without_tokens(blind)


def test_heads_are_files_named_by_what_they_are(tmp_path: Path) -> None:
    file = str(save_heads(small_heads(), tmp_path / "a.safetensors"))
    files, missing = write_heads({"light": file, "full": "nowhere.safetensors", "scratch": "none"}, tmp_path / "heads")
    assert set(files) == {"light", "light-without-tokens"} and "nowhere" in missing["full"]
    again, _ = write_heads({"light": files["light"], "full": file, "scratch": "none"}, tmp_path / "heads")
    assert again["light"] == files["light"] and again["full"] != files["light"]
    other = save_heads(without_tokens(small_heads()), tmp_path / "b.safetensors")
    changed, missing = write_heads({"light": str(other), "full": file, "scratch": "none"}, tmp_path / "heads")
    assert changed["light"] != files["light"] and "light-without-tokens" in missing
    reloaded = load_heads(files["light-without-tokens"])
    assert reloaded.about.matcher is not None and reloaded.about.matcher.token_dim == 0


def made_up_results(names: list[str]) -> dict[str, dict[str, Any]]:
    """Results of the three tasks in which every next frontend is better and slower; the last is lost in mono."""
    pose = [
        {
            "data": data, "group": "all" if data == "all" else "gap 1", "kind": "pose", "frontend": name,
            "pairs": 10, "auc_5": 10.0 * at + shift, "auc_20": 20.0 * at + shift,
        }
        for data, shift in (("x_freiburg1", 0.0), ("fox", 1.0), ("all", 0.5)) for at, name in enumerate(names, 1)
    ]  # fmt: skip
    runs = [
        {
            "sequence": "s", "mode": mode, "scale": scale, "frontend": name, "ate_rmse_m": 0.1 / at,
            "tracked_percent": 30.0 if mode == "mono" and at == len(names) else 100.0,
        }
        for mode, scale in (("rgbd", "metric (depth)"), ("mono", "ground-truth"), ("mono", "propagated"))
        for at, name in enumerate(names, 1)
    ]  # fmt: skip
    times = [{"frontend": name, "extract_ms": 5.0, "match_ms": 2.0 * at, "total_ms": 5 + 2.0 * at}
             for at, name in enumerate(names, 1)]  # fmt: skip
    return {"matching": {"rows": pose}, "vo": {"rows": runs}, "speed": {"rows": times}}


def test_the_table_has_a_part_a_group_with_its_best_in_bold() -> None:
    first = Group("first", "cell=28", {"plain": "", "changed": "cell=56"}, "dinov2-vits14")
    rows = list(all_rows((first, Group("second", "", {"same": ""}))))
    recipes = dict(zip(rows, ("a.yaml", "b.yaml", "a.yaml"), strict=True))
    figures = rows_with_figures(recipes, made_up_results(["a.yaml", "b.yaml"]))
    assert figures[0]["fr1"]["auc_5"] == 10 and figures[0]["fox"]["auc_5"] == 11 and figures[0]["all"]["auc_5"] == 10.5
    assert figures[0]["mono"]["scale"] == "ground-truth" and figures[0]["mono propagated"]["scale"] == "propagated"
    text = markdown({"date": "today", "command": "python -m x"}, figures, {"first, third": "no refiner"})
    lines = [line for line in text.splitlines() if line.startswith(("| plain", "| changed"))]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    assert cells[0] == [
        "plain (base)", "10.5", "20.5", "10.0", "11.0", "0.1000", "100.00", "**0.1000**", "100.00", "**5.0**",
        "**2.0**", "**7.0**",
    ]  # fmt: skip
    assert cells[1][:7] == ["changed `cell=56`", "**20.5**", "**40.5**", "**20.0**", "**21.0**", "**0.0500**", "100.00"]
    assert cells[1][7] == "0.0500", "tracked over too little to be the best"
    assert text.index("### first") < text.index("`cell=28 weights=dinov2-vits14`") < text.index("### second")
    assert "- first, third: no refiner" in text and text.endswith("date today; `python -m x`\n")


@pytest.fixture
def tiny(tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line of a run over a few pairs and frames, with two rows that can be measured."""
    (tmp_path / "recipe.yaml").write_text(
        f"matching:\n  gaps: [4]\n  data: [{sample.name}]\nspeed:\n  data: [{sample.name}]\n"
        f"vo:\n  data: ['{sample.name}:rgbd,mono']\n"
    )
    rows = {
        "plain": "", "heads": "heads=light matcher.method=attention", "refined": "heads=light refine.method=learned",
        "others": "heads=full",
    }  # fmt: skip
    monkeypatch.setattr(ablation, "RECIPE", tmp_path / "recipe.yaml")
    monkeypatch.setattr(ablation, "GROUPS", (Group("Few", "refine.passes=1", rows),))
    monkeypatch.setattr(ablation, "TRIALS", 1)
    heads = save_heads(small_heads(), tmp_path / "light.safetensors")
    return [
        str(sample.parent), "--out", str(tmp_path / "ablation"), "--work", str(tmp_path / "work"),
        "--heads", str(heads), "--heads-full", "nowhere.safetensors", "--keypoints", "128", "--jobs", "0", "--quick",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_small_run_writes_the_table_and_keeps_its_predictions(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ablation.main(tiny)
    stored = json.loads((tmp_path / "ablation.json").read_text())
    rows = {row["label"]: row for row in stored["rows"]}
    assert set(rows) == {"plain", "heads"}
    assert rows["plain"]["rgbd"]["tracked_percent"] == 100 and rows["plain"]["all"]["pairs"] == 2
    assert all(row["speed"]["total_ms"] > 0 and "mono propagated" in row for row in rows.values())
    assert "no refiner" in stored["problems"]["Few, refined"] and "nowhere" in stored["problems"]["Few, others"]
    assert {"date", "cpu", "threads", "commit", "data", "command", "heads"} <= set(stored["header"])
    assert "| plain (base) |" in capsys.readouterr().out
    for module, name in ((matching, "predict"), (vo, "run_all")):
        monkeypatch.setattr(module, name, lambda job: pytest.fail("predicted again"))
    ablation.main(tiny)
    again = {row["label"]: row for row in json.loads((tmp_path / "ablation.json").read_text())["rows"]}
    assert again == rows, "times are kept as well"


def test_without_a_row_to_measure_it_says_so(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "GROUPS", (Group("Few", "", {"others": "heads=full"}),))
    with pytest.raises(SystemExit, match="no row can be measured"):
        ablation.main(tiny)


def test_rows_without_their_heads_are_left_out(tmp_path: Path) -> None:
    rows = list(all_rows((Group("g", "", {"a": "heads=light"}),)))
    recipes, reasons = recipes_of(rows, {}, {"light": "not there"}, tmp_path, 64)
    assert not recipes and reasons == {rows[0]: "not there"}


def test_jobs_are_told_by_their_row() -> None:
    rows = list(all_rows((Group("Few", "", {"a": "", "b": "cell=56"}), Group("More", "", {"c": ""}))))
    recipes = dict(zip(rows, ("x/1.yaml", "x/2.yaml", "x/1.yaml"), strict=True))
    assert ablation.named("matching x/1.yaml fox", recipes) == "matching Few, a, fox"
    assert ablation.named("speed 1 threads", recipes) == "speed 1 threads"
