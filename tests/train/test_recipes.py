"""Recipes: those of the package load, mistakes are named, and nothing held out is learnt from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from slamfeat.config import load_config, to_yaml
from slamfeat.errors import ConfigError, InputError, WeightsError
from slamfeat.frontend import Frontend
from slamfeat.frontend.heads.bundle import FINE_BRANCHES, Heads, HeadsAbout
from slamfeat.frontend.pretrained import SHIPPED, weights_digest
from slamfeat.pretrain.distill_recipe import DistillRecipe
from slamfeat.train import stages
from slamfeat.train.checksums import data_checksum
from slamfeat.train.heads_run import _borrowed
from slamfeat.train.loop import TrainingResult
from slamfeat.train.mixed import MixedPairs
from slamfeat.train.model_card import model_card, true_notes
from slamfeat.train.photometric import PhotometricConfig
from slamfeat.train.recipe import DataConfig, HeadsRecipe
from slamfeat.train.recipe_files import find_recipe, recipes_folder
from slamfeat.train.recipe_sources import make_source
from slamfeat.train.room_layouts import make_layout
from slamfeat.train.room_pairs import RoomPairs
from slamfeat.train.rows import HeadRows
from slamfeat.train.run_folder import check_settings
from slamfeat.train.warm import published_fine

NAMES = sorted(path.stem for path in recipes_folder().glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_recipes_load(name: str) -> None:
    recipe = load_config(HeadsRecipe, find_recipe(name))
    assert recipe != HeadsRecipe()


def test_an_unknown_recipe_or_key_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'cpu_tiny'"):
        find_recipe("cpu_tinny")
    with pytest.raises(ConfigError, match="check the path"):
        find_recipe(str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text("matcher: {row: 3}\n")
    with pytest.raises(ConfigError, match=r"did you mean 'matcher\.rows'"):
        load_config(HeadsRecipe, find_recipe(str(tmp_path / "mine.yaml")))


@pytest.mark.parametrize(
    "words",
    [
        ["stages=[mather]"],
        ["fine=sifd"],
        ["data.posed=1"],
        ["data.rooms=0", "data.homographies=0"],
        ["stages=[joint]"],
        ["stages=[joint,matcher]", "fine=finer", 'fine_weights=""'],
        ["joint.size=[320]"],
        ["matcher.selector.saliency=learned"],
        ['matcher.warm=""'],
    ],
)
def test_settings_that_cannot_be_are_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError):
        load_config(HeadsRecipe, None, words)


@pytest.mark.parametrize(
    "words",
    [[], ["fine=finer"], ["fine=aliked", "stages=[refiner]"], ["others=light"], ["stages=[matcher]", "others=light"]],
)
def test_a_fine_branch_that_nobody_trained_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="a fine branch that nobody trained"):
        load_config(HeadsRecipe, None, ['fine_weights=""', *words])


@pytest.mark.parametrize(
    "words", [["fine=sift"], ["fine=finer", "stages=[joint]"], ["stages=[refiner]", "others=light"]]
)
def test_a_fine_branch_may_come_without_published_weights(words: list[str]) -> None:
    assert load_config(HeadsRecipe, None, ['fine_weights=""', *words]).fine_weights == ""


def test_no_fine_branch_has_the_weights_it_was_drawn_with() -> None:
    with pytest.raises(ConfigError, match="unknown peer's weights ''"):
        published_fine("finer", "")
    assert not list(published_fine("sift", "").parameters())


def test_the_splits_share_no_photograph_and_no_draw() -> None:
    data = DataConfig(rooms=0.0, homographies=1.0)
    train, held_out = (make_source(data, PhotometricConfig(), split) for split in ("train", "held_out"))
    files = [set(source.read.files) for source in (train, held_out)]  # type: ignore[attr-defined]
    assert files[0] and files[1] and not files[0] & files[1]
    again = make_source(data, PhotometricConfig(), "train")
    np.testing.assert_array_equal(train.pair(3).image0, again.pair(3).image0)


def test_a_mix_has_the_kinds_of_pairs_that_its_parts_have() -> None:
    """Which source a pair is of says nothing about what the source draws for it."""
    data = DataConfig(rooms=0.6, homographies=0.4)
    data.room.cameras.sizes = [[80, 60]]
    mixed = make_source(data, PhotometricConfig(), "train")
    assert isinstance(mixed, MixedPairs)
    rooms, views = mixed.sources
    assert isinstance(rooms, RoomPairs)
    kinds = [
        make_layout(np.random.default_rng([rooms.config.seed, number]), rooms.config.room).kind
        for number in range(400)
        if mixed.source(number) is rooms
    ]
    assert len(kinds) / 400 == pytest.approx(0.6, abs=0.08)
    config = data.room.room
    shares = {"corridor": config.corridors, "desk": config.desks, "street": config.streets}
    shares["room"] = 1 - sum(shares.values())
    assert {kind: kinds.count(kind) / len(kinds) for kind in shares} == pytest.approx(shares, abs=0.09)
    first = [np.random.default_rng([data.seed, n]).random() for n in range(400) if mixed.source(n) is views]
    assert np.mean(first) == pytest.approx(0.5, abs=0.08)  # from it homographies draw how much closer one view is


def test_sequences_of_a_pattern_are_split_too(tmp_path: Path) -> None:
    data = DataConfig(sequences=[str(tmp_path / "P*")], posed=1.0, rooms=0.0, homographies=0.0)
    with pytest.raises(InputError, match="no folder matches"):
        make_source(data, PhotometricConfig(), "train")


def test_what_decides_the_rows_is_said() -> None:
    """A cache is refused when any of it changes, and kept when only the training does."""
    rows = HeadRows(load_config(HeadsRecipe, find_recipe("cpu_tiny")), "matcher", "train").made()
    other = load_config(HeadsRecipe, find_recipe("cpu_tiny"), ["matcher.loop.steps=70", "matcher.model.dim=32"])
    assert HeadRows(other, "matcher", "train").made() == rows
    words = ["data.seed=5", "layer=3", "matcher.photometric.strength=0.5", "data.held_out=0.3", "fine_weights=xfeat"]
    for word in [*words, "fine=xfeat fine_weights=xfeat", "matcher.selector.nms_radius=7"]:
        changed = load_config(HeadsRecipe, find_recipe("cpu_tiny"), word.split())
        assert HeadRows(changed, "matcher", "train").made() != rows


@pytest.mark.parametrize(
    ("others", "words", "said"),
    [
        ("full", [], "fine=aliked; set that"),
        ("light", ["layer=3"], "set layer=5"),
        ("light", [], ""),
    ],
)
def test_heads_are_borrowed_only_by_those_they_fit(others: str, words: list[str], said: str) -> None:
    """Without a stage that makes a matcher, theirs is taken, and must have learnt what it will be given."""
    recipe = load_config(HeadsRecipe, None, ["stages=[refiner]", f"others={others}", *words])
    about = HeadsAbout("dinov2-vits14" if said else "own-vitt14", recipe.layer, recipe.fine)
    with pytest.raises(ConfigError, match=said or "learnt on tokens of dinov2-vits14, not own-vitt14"):
        _borrowed(recipe, about)
    fitting = load_config(HeadsRecipe, None, ["stages=[refiner]", "others=light"])
    parts = _borrowed(fitting, HeadsAbout("dinov2-vits14", 5, "xfeat"))
    assert set(parts) == {"fine", "refiner", "matcher"}


def test_what_rows_are_made_of_is_known_by_its_content(sample: Path, tmp_path: Path) -> None:
    """Files by name and size, weights by their checksum: half a cache of others is not gone on with."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for file in sorted((sample / "rgb").iterdir())[:3]:
        shutil.copy(file, photos)
    weights = tmp_path / "dinov2-vits14-mine.safetensors"
    shutil.copy(SHIPPED["default"], weights)
    words = [f"data.photos=[{photos}]", f"weights={weights}", "fine=sift", "fine_weights=''"]
    rows = HeadRows(load_config(HeadsRecipe, None, words), "matcher", "train")
    before, without = rows.sources(True), rows.sources(False)
    assert rows.sources(True) == before
    assert before.items() - without.items() == {("photographs or sequences", before["photographs or sequences"])}
    (photos / "notes.txt").write_text("no photograph")
    assert rows.sources(True) == before
    one = sorted(photos.glob("*.jpg"))[0]
    shutil.copy(one, photos / "another.jpg")
    added = rows.sources(True)
    one.write_bytes(one.read_bytes()[:-1])
    cut = rows.sources(True)
    assert len({x["photographs or sequences"] for x in (before, added, cut)}) == 3
    assert before["weights"] == weights_digest("default")
    save_file({"x": torch.zeros(1)}, weights)
    assert rows.sources(False)["weights"] != before["weights"]
    weights.unlink()
    with pytest.raises(WeightsError, match="mine"):
        rows.sources(False)


def test_sequences_are_known_by_all_of_their_files(tmp_path: Path) -> None:
    for name in ("P000", "P001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pose_left.txt").write_text("0 0 0 0 0 0 1")
    data = DataConfig(sequences=[str(tmp_path / "P*")], posed=1.0, rooms=0.0, homographies=0.0)
    before = data_checksum(data)
    (tmp_path / "P001" / "pose_left.txt").write_text("0 0 0 0 0 0 1\n")
    assert data_checksum(data) != before


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        ([], True),
        (["data.held_out=0.2", "matcher.rows=10"], True),
        (["data.photos=[mine]"], False),
        (["data.sequences=[mine]", "data.posed=0.5"], False),
        (["data.photos=[mine]", "notes.data=mine, CC0"], True),
    ],
)
def test_the_model_card_says_nothing_of_data_that_was_not_used(overrides: list[str], kept: bool) -> None:
    recipe = load_config(HeadsRecipe, find_recipe("cpu_full"), overrides)
    notes = true_notes(recipe.notes, overrides)
    assert (notes["data"] == recipe.notes["data"]) == kept and notes["warm"] == recipe.notes["warm"]
    assert kept or "Debian" not in notes["data"]


def test_a_note_does_not_make_a_run_another(tmp_path: Path) -> None:
    """A licence that was added, or one that holds no more, changes nothing that is learnt."""
    recipe = load_config(DistillRecipe, find_recipe("cpu_student", "distill"))
    (tmp_path / "config.yaml").write_text(to_yaml(replace(recipe, notes={})))
    check_settings(tmp_path / "config.yaml", recipe)
    with pytest.raises(ConfigError, match=r"begun with other settings: loop\.batch"):
        check_settings(tmp_path / "config.yaml", replace(recipe, loop=replace(recipe.loop, batch=7)))


def test_the_model_card_says_what_made_the_heads() -> None:
    recipe = load_config(HeadsRecipe, find_recipe("cpu_full"), ["data.photos=[mine,yours]"])
    card = model_card(recipe, {"matcher": TrainingResult(50, "steps", 40, -0.6, 5400.0)}, "abc1234")
    assert card["commit"] == "abc1234" and card["hours"] == "matcher 1.50" and card["folders"] == "mine, yours"
    assert card["matcher"] == "step 40, score -0.6" and "photos" in card["recipe"] and card["date"]
    assert model_card(HeadsRecipe(), {}, "abc1234")["folders"] == "the shipped frames"


@pytest.mark.parametrize(
    ("world", "asked", "given"),
    [(8, "auto", "cuda:3"), (8, "cuda", "cuda:3"), (8, "cuda:1", "cuda:1"), (1, "auto", "cuda")],
)
def test_rows_are_made_on_the_gpu_of_their_process(
    world: int, asked: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preparing workers inherit the environment in which torchrun started their parent."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, value in {"RANK": 11, "LOCAL_RANK": 3, "WORLD_SIZE": world}.items():
        monkeypatch.setenv(name, str(value))
    places: list[torch.device] = []
    kind = replace(stages.KINDS["matcher"], preparer=lambda recipe, place: places.append(place))
    monkeypatch.setitem(stages.KINDS, "matcher", kind)
    HeadRows(load_config(HeadsRecipe, None, [f"matcher.loop.device={asked}"]), "matcher", "train").preparer()
    assert places == [torch.device(given)]


@pytest.mark.parametrize("stage", ["joint", "matcher", "refiner"])
def test_rows_are_not_made_by_a_backbone_that_asks_for_gradients(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def thawed(*args: object, **settings: object) -> Frontend:
        frontend = from_pretrained(*args, **settings)  # type: ignore[arg-type]
        frontend.backbone.unfreeze()
        return frontend

    from_pretrained = Frontend.from_pretrained
    monkeypatch.setattr(Frontend, "from_pretrained", thawed)
    recipe = load_config(HeadsRecipe, None, ["fine=sift", "fine_weights=''"])
    with pytest.raises(ConfigError, match=r"frozen .* asks for a gradient"):
        HeadRows(recipe, stage, "train").preparer()


def test_rows_are_not_made_by_a_fine_branch_that_asks_for_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    class Thawed(Heads):
        def __init__(self, about: HeadsAbout) -> None:
            super().__init__(about)
            self.fine.requires_grad_(True)

    monkeypatch.setattr(stages, "Heads", Thawed)
    monkeypatch.setattr(stages, "published_fine", lambda fine, weights: FINE_BRANCHES[fine]())
    with pytest.raises(ConfigError, match="frozen XFeatBranch asks for a gradient"):
        HeadRows(HeadsRecipe(), "matcher", "train").preparer()
