"""Photographs by split, and the surfaces painted from them."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from slamfeat.errors import ConfigError, ImageError, InputError
from slamfeat.train.room_surfaces import Surface, blank, detail, halves, photographs, repeated
from slamfeat.train.textures import Textures, is_held_out, photo_name


@pytest.fixture
def tiles(tmp_path: Path, photo: np.ndarray) -> Path:
    """Forty photographs of three tiles each, as the team's unlabelled ones are named."""
    for number in range(40):
        for tile in ("s025_0000_0000", "s100_0480_0640", "s100_1440_2560"):
            cv2.imwrite(str(tmp_path / f"photo{number:02}_by_A_B_{tile}.jpg"), photo[::8, ::8])
    return tmp_path


def test_tiles_of_one_photograph_stay_on_one_side(tiles: Path) -> None:
    sides = [{photo_name(f) for f in Textures([tiles], split, 0.3).files[0]} for split in ("train", "held_out")]
    assert len(sides[0]) + len(sides[1]) == 40 and not sides[0] & sides[1]
    assert len(Textures([tiles], "train", 0.3)) == 3 * len(sides[0])
    assert {len(name) for name in sides[0] | sides[1]} == {len("photo00_by_A_B")}


def test_the_share_is_kept_and_more_of_it_only_adds() -> None:
    names = [f"photo {n}" for n in range(4000)]
    held = [{name for name in names if is_held_out(name, share)} for share in (0.0, 0.1, 0.3, 1.0)]
    assert [len(h) for h in (held[0], held[3])] == [0, 4000]
    assert len(held[1]) / 4000 == pytest.approx(0.1, abs=0.02) and len(held[2]) / 4000 == pytest.approx(0.3, abs=0.03)
    assert held[1] < held[2]


def test_few_photographs_are_not_drowned_by_many(tmp_path: Path, photo: np.ndarray) -> None:
    for folder, count, grey in (("few", 4, 0), ("many", 100, 255)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), np.full((40, 40, 3), grey, np.uint8))
    textures = Textures([tmp_path / "few", tmp_path / "many"], "all")
    rng = np.random.default_rng(0)
    few = np.mean([textures.draw(rng).max() == 0 for _ in range(600)])
    assert few == pytest.approx(2 / 12, abs=0.05)


def test_images_are_kept_but_not_all_of_them(tiles: Path) -> None:
    textures = Textures([tiles], "all", kept=2)
    first, second, third = textures.files[0][:3]
    image = textures.read(first)
    assert textures.read(first) is image and not image.flags.writeable
    textures.read(second)
    textures.read(third)
    assert textures.read(first) is not image
    assert len(pickle.loads(pickle.dumps(textures))) == 120  # workers get a copy


def test_bad_settings_and_folders_are_named(tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="held_out"):
        Textures([tiles], "test")
    with pytest.raises(InputError, match="nowhere"):
        Textures([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="no held_out photographs"):
        Textures([tiles], "held_out", held_out=0.0)
    cut = tiles / "cut.jpg"
    cut.write_bytes((tiles / "photo00_by_A_B_s025_0000_0000.jpg").read_bytes()[:400])
    with pytest.raises(ImageError, match=r"cut\.jpg"):
        Textures([tiles], "all").read(cut)


def test_another_photograph_is_drawn_for_one_that_cannot_be_read(tiles: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two thirds of the files are cut off: each is warned of once, and what is drawn is the same every time."""
    whole, cut = [], []
    for number, file in enumerate(sorted(tiles.iterdir())):
        (cut if number % 3 else whole).append(file)
        if number % 3:
            file.write_bytes(file.read_bytes()[:400])
    with caplog.at_level(logging.WARNING):
        draws = [_drawn(tiles, count=60) for _ in range(2)]
    assert draws[0] == draws[1]
    warned = [file for file in cut if str(file) in caplog.text]
    assert len(warned) > 20 and len(caplog.records) == len(warned)
    for file in whole:
        file.write_bytes(b"")
    with pytest.raises(ImageError):
        Textures([tiles], "all").draw(np.random.default_rng(0))


def _drawn(folder: Path, count: int) -> list[bytes]:
    textures, rng = Textures([folder], "all"), np.random.default_rng(3)
    return [textures.draw(rng).tobytes() for _ in range(count)]


@pytest.fixture(scope="module")
def textures(sample: Path) -> Textures:
    return Textures([sample / "rgb"], "all")


def contrast(texels: np.ndarray) -> float:
    """Standard deviation of what is finer than a few texels; grey levels."""
    grey = cv2.cvtColor(texels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float((grey - cv2.GaussianBlur(grey, (0, 0), 3)).std())


@pytest.mark.parametrize("size", [(300, 200), (37, 90), (900, 16)])
def test_surfaces_have_their_size_and_kind(textures: Textures, size: tuple[int, int]) -> None:
    made = [photographs(np.random.default_rng(1), textures, size), repeated(np.random.default_rng(1), textures, size)]
    flat = blank(np.random.default_rng(1), size)
    assert {texels.shape for texels in (*made, flat)} == {(size[1], size[0], 3)}
    assert {texels.dtype for texels in (*made, flat)} == {np.dtype(np.uint8)}
    assert contrast(flat) < 3.5
    if min(size) > 100:  # a narrow strip of a photograph may be as dull as a wall
        assert min(contrast(texels) for texels in made) > 5


def test_a_repeated_surface_repeats_and_photographs_do_not(textures: Textures) -> None:
    def best_shift(texels: np.ndarray) -> float:
        """Highest correlation of the middle with another place of the surface."""
        grey = cv2.cvtColor(texels, cv2.COLOR_RGB2GRAY)
        found = cv2.matchTemplate(grey, grey[220:260, 220:260], cv2.TM_CCOEFF_NORMED)
        found[200:240, 200:240] = -1
        return float(found.max())

    for seed in range(3):
        assert best_shift(repeated(np.random.default_rng(seed), textures, (480, 480))) > 0.95
    assert np.mean([best_shift(photographs(np.random.default_rng(s), textures, (480, 480))) for s in range(3)]) < 0.9


def test_detail_changes_nothing_on_the_whole(textures: Textures) -> None:
    fine = detail(np.random.default_rng(0), textures)
    assert fine.shape == (480, 480) and fine.std() > 3
    coarse = cv2.resize(fine, (12, 12), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(coarse - 128).max() < 6


def test_halves_keep_the_mean_and_the_place(photo: np.ndarray) -> None:
    levels = halves(photo[:301, :437])
    assert [level.shape[:2] for level in levels[:3]] == [(301, 437), (151, 219), (76, 110)]
    assert levels[-1].shape == (1, 1, 3)
    # The centre of brightness, as a share of the side, is the same at every level but the coarsest.
    centres = [
        (level.sum(2) * (np.arange(level.shape[1]) + 0.5)).sum() / level.sum() / level.shape[1] for level in levels
    ]
    assert np.ptp(centres[:5]) < 2e-3
    assert np.ptp([level.mean() for level in levels[:5]]) < 1.0


def test_a_surface_is_painted_once() -> None:
    calls = []
    surface = Surface(lambda: calls.append(1) or np.zeros((8, 8, 3), np.uint8))
    assert calls == []
    assert surface.pyramid is surface.pyramid and surface.detail == () and calls == [1]
