"""The tables of students in their teacher's place: a line each, beside nobody's weights, and ratios to the teacher."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import student
from benchmarks.student import main, parse, rivals
from benchmarks.student_table import TEACHER, UNTRAINED, WHOLE, markdown, rows_of_results
from benchmarks.student_tokens import likeness, milliseconds
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.own import save_backbone
from slamfeat.errors import InputError
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.pretrain.recipe import ModelConfig
from slamfeat.pretrain.sources import open_images, split_names
from slamfeat.sample import sample_path

STUDENT = "small14"
RECIPES = {TEACHER: "t.yaml", STUDENT: "s.yaml", UNTRAINED: "u.yaml"}


def made(folder: Path, name: str, *, held_out: float, depth: int = 1) -> Path:
    plain = ModelConfig(embed_dim=32, depth=depth, num_heads=1, layer_scale=1.0, grid=22).architecture(308)
    architecture = replace(plain, output_dim=384, imitates="dinov2-vits14/5")
    state, notes = (
        random_backbone(architecture, name, seed=1).state_dict(),
        {"recipe": f"data: {{held_out: {held_out}}}"},
    )
    return save_backbone(state, architecture, folder / f"{name}.safetensors", name=name, notes=notes)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("own"), STUDENT, held_out=0.3)


def words(file: Path, tmp_path: Path, *more: Path) -> list[str]:
    places = [
        "--images",
        str(sample_path() / "rgb"),
        "--work",
        str(tmp_path / "work"),
        "--out",
        str(tmp_path / "table"),
    ]
    return [str(tmp_path), str(file), *map(str, more), "--sizes", "56x42", *places]


def test_the_same_frontend_thrice(small: Path, tmp_path: Path) -> None:
    found = rivals(parse(words(small, tmp_path)))
    recipes = {label: json.loads(Path(rival.recipe).read_text()) for label, rival in found.items() if rival.recipe}
    assert list(recipes) == [TEACHER, STUDENT, UNTRAINED]
    assert {recipe["preset"] for recipe in recipes.values()} == {"balanced"}
    assert recipes[TEACHER]["weights"] == "dinov2-vits14-int8" and recipes[STUDENT]["weights"] == str(small)
    assert {label: (one.block, one.width) for label, one in found.items()} == {
        TEACHER: (5, 384), WHOLE: (11, 384), STUDENT: (0, 32), UNTRAINED: (0, 32),
    }  # fmt: skip
    assert load_pretrained(found[WHOLE].weights, torch.device("cpu"))[0].depth == 12
    own, _ = load_pretrained(small, torch.device("cpu"))
    floor, _ = load_pretrained(recipes[UNTRAINED]["weights"], torch.device("cpu"))
    assert floor.imitates == own.imitates == ("dinov2-vits14", 5)
    pairs = list(zip(own.state_dict().values(), floor.state_dict().values(), strict=True))
    assert all(one.shape == other.shape for one, other in pairs)
    assert not any(torch.equal(one, other) for one, other in pairs if one.ndim > 1 and len(one) > 1)


def test_several_students_have_a_line_each(small: Path, tmp_path: Path) -> None:
    deeper = made(tmp_path, "deeper14", held_out=0.5, depth=2)
    given = parse(words(small, tmp_path, deeper))
    found = rivals(given)
    assert list(found) == [TEACHER, WHOLE, STUDENT, "deeper14", UNTRAINED]
    assert (found[STUDENT].block, found["deeper14"].block, found[UNTRAINED].block) == (0, 1, 0)
    assert len({rival.recipe for rival in found.values()}) == 5
    images, held = student.held_out(given)
    assert (images.names, held) == (
        student.held_out(parse(words(small, tmp_path)))[0].names,
        split_names(images, 0.3)[1],
    )
    assert len(held) < len(split_names(images, 0.5)[1])


def test_a_recipe_without_poses_is_refused(small: Path, tmp_path: Path) -> None:
    speed = tmp_path / "speed.yaml"
    speed.write_text("speed: {threads: [1]}\n")
    given = parse([*words(small, tmp_path), "--recipe", str(speed)])
    with pytest.raises(InputError, match=r"speed\.yaml: names neither matching\.data nor vo\.data"):
        student.poses(rivals(given), given, print)


def test_a_run_that_goes_on_finds_the_files_it_began_with(small: Path, tmp_path: Path) -> None:
    def files() -> dict[str, bytes]:
        found = rivals(parse(words(small, tmp_path)))
        return {label: Path(found[label].weights).read_bytes() for label in (STUDENT, UNTRAINED)}

    assert files() == files()


@pytest.mark.slow
def test_poses_of_a_few_pairs(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, frames = tmp_path / "few.yaml", sample_path()
    recipe.write_text(json.dumps({
        "matching": {"data": [str(frames)], "per_gap": 2, "gaps": [1]}, "vo": {"data": [f"{frames}:rgbd@0:3"]},
    }))  # fmt: skip
    monkeypatch.setattr(student, "RECIPE", recipe)
    given = parse([*words(small, tmp_path), "--jobs", "0"])
    rows, problems = student.poses(rivals(given), given, print)
    assert not problems and len({row["figure"] for row in rows}) == len(rows) >= 5
    assert all(row[TEACHER] is not None for row in rows)
    assert student.poses(rivals(given), given, print) == (rows, problems)  # from what was kept


def test_tokens_are_compared_and_timed(small: Path) -> None:
    images = open_images([str(sample_path() / "rgb")])
    plain, centred = likeness({"a": ("default", 5), "b": ("default", 5), "c": (str(small), -1)}, "a", images, [0, 3])
    assert plain["a"] == plain["b"] == pytest.approx(1, abs=1e-5) and abs(plain["c"]) < 0.5
    assert centred["b"] == pytest.approx(1, abs=1e-5) and abs(centred["c"]) < 0.5
    row = milliseconds({"a": ("default", 5), "c": (str(small), -1)}, (224, 154))
    assert "backbone at 224x154, " in row["figure"] and row["a"] > row["c"] > 0


def test_without_poses_the_table_is_of_tokens_and_times(small: Path, tmp_path: Path) -> None:
    student.run(parse([*words(small, tmp_path), "--tokens-only"]))
    stored, table = json.loads((tmp_path / "table.json").read_text()), (tmp_path / "table.md").read_text()
    assert not stored["poses"] and len(stored["tokens"]) == 2 and len(stored["times"]) == 1
    assert f"| {STUDENT} | 1 | 32 |" in table and "AUC" not in table


STORED = {
    "header": {"command": "x"}, "students": [STUDENT], "tokens": [], "times": [], "poses": [], "problems": {},
    "backbones": {label: {"blocks": 1, "width": 32} for label in (TEACHER, WHOLE, STUDENT, UNTRAINED)},
}  # fmt: skip


def test_a_line_says_what_is_quick_enough_of_what() -> None:
    shapes = {TEACHER: (6, 384), WHOLE: (12, 384), "a": (2, 384), "b": (5, 192), UNTRAINED: (2, 384)}
    first = {TEACHER: 10.0, WHOLE: 20.0, "a": 3.8, "b": 3.5, UNTRAINED: 3.8, "figure": "backbone at 1x1 [ms]"}
    again = {**first, "b": 3.6, "figure": "backbone at 2x2 [ms]"}
    area = {TEACHER: 50.0, "a": 45.0, "b": 40.0, UNTRAINED: 10.0, "figure": "all: AUC@5 [%]"}
    stored = {
        **STORED, "students": ["a", "b"], "times": [first, again], "poses": [area],
        "backbones": {label: {"blocks": blocks, "width": width} for label, (blocks, width) in shapes.items()},
    }  # fmt: skip
    table = markdown(stored)
    assert "| a | 2 | 384 | 3.8 | 0.38 | 0.19 | 3.8 | 0.38 | 0.19 | 45.0 |" in table
    assert "| b | 5 | 192 | 3.5 | 0.35 | 0.17 | 3.6 | 0.36 | 0.18 | 40.0 |" in table
    assert "| whole teacher | 12 | 384 | 20.0 | 2.00 | 1.00 | 20.0 | 2.00 | 1.00 |  |" in table
    assert "| all: AUC@5 [%] | 50.0 | 45.0 | 40.0 | 10.0 | 0.90 | 0.80 |" in table
    assert "of the blocks that the frontend looks at: none; of all its blocks: a, b." in table
    once = markdown({**stored, "times": [first]})
    assert "of the blocks that the frontend looks at: b; of all its blocks: a, b." in once


def test_rows_and_ratios() -> None:
    pair = {"data": "kitti", "group": "1", "kind": "pose", "pairs": 2}
    run = {"sequence": "x", "mode": "mono", "scale": "propagated"}
    metric = {"sequence": "x", "mode": "rgbd", "scale": "metric"}
    results = {
        "matching": {"rows": [
            {**pair, "frontend": "t.yaml", "auc_5": 50.0, "auc_20": 80.0},
            {**pair, "frontend": "s.yaml", "auc_5": 45.0, "auc_20": 76.0},
            {**pair, "data": "all", "frontend": "t.yaml", "auc_5": 50.0, "auc_20": 80.0},
        ]},
        "vo": {"rows": [
            {**run, "frontend": "t.yaml", "ate_rmse_m": 0.5, "tracked_percent": 100.0},
            {**run, "frontend": "s.yaml", "ate_rmse_m": 0.6, "tracked_percent": 90.0},
            {**run, "frontend": "u.yaml", "ate_rmse_m": None, "tracked_percent": 20.0},
            {**metric, "sequence": "y", "frontend": "t.yaml", "ate_rmse_m": 2.0, "tracked_percent": 90.0},
            {**metric, "sequence": "y", "frontend": "s.yaml", "ate_rmse_m": 2.0, "tracked_percent": 90.0},
            {**metric, "frontend": "t.yaml", "ate_rmse_m": 0.5, "tracked_percent": 100.0},
            {**metric, "frontend": "s.yaml", "ate_rmse_m": 0.6, "ate_spread_m": 0.05, "tracked_percent": 100.0},
        ]},
    }  # fmt: skip
    rows = {row["figure"]: row for row in rows_of_results(results, RECIPES)}
    assert rows["kitti: AUC@5 [%]"][STUDENT] == 45.0 and rows["kitti: AUC@5 [%]"][UNTRAINED] is None
    assert not any(name.startswith("all") for name in rows)  # the others lack what the teacher has
    assert all(" ATE " in row["figure"] for row in rows_of_results({"vo": results["vo"]}, RECIPES))
    table = markdown({**STORED, "poses": list(rows.values()), "problems": {"a job": "out of memory"}})
    assert "| kitti: AUC@20 [%] | 80.0 | 76.0 |  | 0.95 |" in table
    assert "| x, mono, propagated: ATE [m] | 0.500 | 0.600 (90 %) | lost (20 %) |  |" in table
    assert "| x, rgbd, metric: ATE [m] | 0.500 | 0.600 ±0.050 |  | 1.20 |" in table
    assert "failed: a job: out of memory" in table
    assert "| y, rgbd, metric: ATE [m] | 2.000 (90 %) | 2.000 (90 %) |  | 1.00 |" in table  # and not in the mean
    assert f"Geometric mean of the ratios of ATE: {STUDENT} 1.20 (median 1.20, 1 runs)." in table
    again = {**rows["x, rgbd, metric: ATE [m]"], STUDENT: 0.25}
    both = markdown({**STORED, "poses": [*rows.values(), again]})
    assert f"{STUDENT} {(1.2 * 0.5) ** 0.5:.2f} (median 0.85, 2 runs)." in both


def test_the_files_are_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(student, "poses", lambda *words: ([{"figure": "p [%]", TEACHER: 2.0, STUDENT: 1.0}], {}))
    main(words(small, tmp_path))
    shown, stored = capsys.readouterr().out, json.loads((tmp_path / "table.json").read_text())
    figures = {part: [row["figure"] for row in stored[part]] for part in ("tokens", "times", "poses")}
    assert figures["tokens"] == ["cosine of patch tokens", "the same, each image's mean taken away"]
    assert figures["times"][0].startswith("backbone at 56x42, ") and figures["poses"] == ["p [%]"]
    assert WHOLE not in stored["tokens"][0] and stored["times"][0][WHOLE] > stored["times"][0][TEACHER]
    assert "| p [%] | 2.0 | 1.0 |  | 0.50 |" in shown and stored["header"]["preset"] == "balanced"


def test_who_imitates_nobody_is_refused(small: Path, tmp_path: Path) -> None:
    plain = ModelConfig(embed_dim=32, depth=1, num_heads=1).architecture(56)
    file = tmp_path / "own14.safetensors"
    save_backbone(random_backbone(plain, "own14").state_dict(), plain, file, name="own14")
    with pytest.raises(SystemExit, match="imitate=true"):
        main(words(file, tmp_path))
    with pytest.raises(SystemExit, match="imitates dinov2-vits14, not dinov2-vitb14"):
        main([*words(small, tmp_path), "--teacher", "dinov2-vitb14"])
    with pytest.raises(SystemExit, match="looks at blocks"):
        main([*words(small, tmp_path), "--preset", "fast"])
    with pytest.raises(SystemExit, match="multiples of the patch, 14, not 50x42"):
        main([*words(small, tmp_path), "--sizes", "50x42"])
    with pytest.raises(SystemExit, match="check the path"):
        main(words(tmp_path / "none.safetensors", tmp_path))
    with pytest.raises(SystemExit, match="more than one line of this name"):
        main(words(small, tmp_path, small))
