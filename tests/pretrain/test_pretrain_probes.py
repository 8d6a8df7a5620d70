"""Probes against what is known: warps with exact answers, ranks of made-up features, classes that can be told apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.backbones.registry import Architecture
from slamfeat.errors import ConfigError, ImageError
from slamfeat.pretrain.probes.classes import held_out_accuracy, leave_one_out_accuracy, linear_accuracy, linear_in_folds
from slamfeat.pretrain.probes.correspondence import correspondence_accuracy, draw_warp, warp
from slamfeat.pretrain.probes.features import Described, by_pixels, squares
from slamfeat.pretrain.probes.groups import Groups, open_groups
from slamfeat.pretrain.probes.probes import ProbeConfig, Probes
from slamfeat.pretrain.probes.spread import effective_rank, mean_cosine, nearest_entropy
from slamfeat.pretrain.sources import Joined


def square(photo: np.ndarray, size: int = 224) -> Tensor:
    return next(squares([photo], size, 1))[0]


def by_place(images: Tensor) -> Described:
    """Sees through the warp: each pixel's colour says where it was at first."""
    cells = F.avg_pool2d(images, 14)
    red, green = cells[:, 0], cells[:, 1]
    angles = [2 * math.pi * k * part / 4 for part in (red, green) for k in (1, 2, 3)]
    found = torch.stack([wave for angle in angles for wave in (angle.sin(), angle.cos())], 1)
    return Described(found.flatten(1), found)


def test_who_knows_the_place_finds_it() -> None:
    ramp = torch.linspace(0, 1, 224)
    places = torch.stack([ramp.expand(224, 224), ramp[:, None].expand(224, 224), torch.zeros(224, 224)])
    assert correspondence_accuracy(by_place, [places], 14, strength=0.1, light=0.0) > 0.9
    assert correspondence_accuracy(by_place, [places], 14, strength=0.0, light=0.0) == 1.0


def test_who_knows_nothing_guesses(photo: np.ndarray) -> None:
    def noise(images: Tensor) -> Described:
        found = torch.randn(len(images), 32, 16, 16, generator=torch.Generator().manual_seed(1))
        return Described(found.flatten(1), found)

    chance = correspondence_accuracy(noise, [square(photo)] * 8, 14, strength=0.1)
    assert 0 < chance < 3 * 9 / 256  # nine cells of 256 lie within one cell of a place
    pixels = correspondence_accuracy(by_pixels(14), [square(photo)], 14, strength=0.0, light=0.0)
    assert pixels == 1.0
    assert correspondence_accuracy(by_pixels(14), [square(photo)], 14) < 0.7
    assert math.isnan(correspondence_accuracy(noise, [], 14))


def test_warps_move_pixels_where_they_say(photo: np.ndarray) -> None:
    homography = draw_warp(224, 0.2, np.random.default_rng(0))
    dot = torch.zeros(3, 224, 224)
    dot[:, 100:103, 60:63] = 1.0  # centred on (61, 101)
    seen = warp(dot, homography)[0]
    x, y, w = homography @ np.array([61.0, 101.0, 1.0])
    rows, columns = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    found = float((seen * columns).sum() / seen.sum()), float((seen * rows).sum() / seen.sum())
    assert np.abs(np.array(found) - np.array([x / w, y / w])).max() < 0.5


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_rank_is_the_number_of_directions(rank: int) -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(400, rank, generator=generator)).Q
    features = basis @ torch.linalg.qr(torch.randn(32, rank, generator=generator)).Q.T
    assert effective_rank(features) == pytest.approx(rank, rel=0.01)


def test_spread_of_known_features() -> None:
    equal = torch.ones(10, 8)
    assert mean_cosine(equal) == pytest.approx(1.0) and nearest_entropy(equal) < -5
    axes = torch.eye(8)
    assert mean_cosine(axes) == pytest.approx(0.0) and nearest_entropy(axes) == pytest.approx(math.log(math.sqrt(2)))
    rows = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    unit = F.normalize(rows.double(), dim=1)
    pairs = [float(unit[i] @ unit[j]) for i in range(50) for j in range(50) if i != j]
    assert mean_cosine(rows) == pytest.approx(np.mean(pairs))
    twins = torch.cat([rows, rows[:1]])  # which neither decide alone nor make it infinite
    assert nearest_entropy(rows) - 0.5 < nearest_entropy(twins) < nearest_entropy(rows)


def voted(vectors: Tensor, labels: Tensor, one: int, neighbours: int, temperature: float = 0.07) -> int:
    """The class that an image's nearest neighbours vote for, by the definition."""
    rows = [row for row in range(len(vectors)) if row != one]
    cosines = F.normalize(vectors[rows], dim=1) @ F.normalize(vectors[one], dim=0)
    nearest = cosines.argsort(descending=True)[:neighbours]
    votes = [float(sum((cosines[n] / temperature).exp() for n in nearest if labels[rows][n] == k)) for k in range(3)]
    return int(np.argmax(votes))


def test_classes_that_can_be_told_apart() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 16))
    labels = torch.from_numpy(rng.integers(0, 4, 300))
    features = torch.from_numpy(centres[labels] + 0.4 * rng.normal(size=(300, 16))).float()
    known, asked = slice(0, 200), slice(200, 300)
    assert linear_accuracy(features[known], labels[known], features[asked], labels[asked]) > 0.95
    assert leave_one_out_accuracy(features, labels) > 0.95
    assert held_out_accuracy(features[known], labels[known], features[asked], labels[asked]) > 0.95
    shuffled = labels[torch.randperm(200)]
    assert linear_accuracy(features[known], shuffled, features[asked], labels[asked]) < 0.45
    assert leave_one_out_accuracy(features[known], shuffled) < 0.45


def test_a_linear_layer_is_asked_for_what_it_did_not_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, labels = torch.randn(60, 8, generator=generator), torch.arange(60) % 3
    assert linear_in_folds(vectors, labels) < 0.55  # by heart it would be all
    vectors[torch.arange(60), labels] += 6.0
    assert linear_in_folds(vectors, labels) > 0.95


def test_neighbours_vote_by_their_likeness() -> None:
    """One near neighbour outvotes three far ones at a low temperature, and not at a high one."""
    near, far = [[1.0, 0.0], [1.0, 0.2]], [[0.0, 1.0], [0.05, 1.0], [-0.05, 1.0]]
    vectors, labels = torch.tensor([*near, *far]), torch.tensor([0, 0, 1, 1, 1])
    assert leave_one_out_accuracy(vectors, labels, neighbours=4, temperature=0.07) == 1.0
    assert leave_one_out_accuracy(vectors, labels, neighbours=4, temperature=10.0) == 0.6
    assert leave_one_out_accuracy(vectors, labels, neighbours=1, temperature=10.0) == 1.0


def test_held_out_images_are_asked_of_the_others_alone() -> None:
    rng = np.random.default_rng(2)
    labels = torch.from_numpy(rng.integers(0, 3, 60))
    vectors = torch.from_numpy(rng.normal(size=(3, 8))[labels] + 0.8 * rng.normal(size=(60, 8)))
    known, asked = slice(0, 40), range(40, 60)
    one_by_one = [
        voted(torch.cat([vectors[known], vectors[i : i + 1]]), torch.cat([labels[known], labels[i : i + 1]]), 40, 5)
        == int(labels[i])
        for i in asked
    ]
    said = held_out_accuracy(vectors[known], labels[known], vectors[40:], labels[40:], neighbours=5)
    assert said == pytest.approx(np.mean(one_by_one)) and 0.3 < said < 1


@pytest.mark.parametrize("block", [1, 7, 60, 1024])
def test_nobody_votes_for_itself(block: int) -> None:
    """Equal to asking each image of all others, one by one, however many are asked at a time."""
    rng = np.random.default_rng(1)
    labels = torch.from_numpy(rng.integers(0, 3, 60))
    vectors = torch.from_numpy(rng.normal(size=(3, 8))[labels] + 0.8 * rng.normal(size=(60, 8)))
    one_by_one = [voted(vectors, labels, i, neighbours=5) == int(labels[i]) for i in range(60)]
    assert leave_one_out_accuracy(vectors, labels, neighbours=5, block=block) == pytest.approx(np.mean(one_by_one))
    assert 0.4 < np.mean(one_by_one) < 1


def test_groups_by_the_names_of_files(tmp_path: Path) -> None:
    file = tmp_path / "groups.txt"
    file.write_text("# kinds\nfish n01440764-n01498041 n02514041-n02655020\ndog n02085620  # one\n")
    groups = Groups(file)
    assert groups.names == ["fish", "dog"]
    names = ["a/n01440764_tench.jpg", "n01498041_ray.jpg", "n01514668_cock.jpg", "n02526121_eel.jpg", "n02085620.jpg"]
    assert [groups.of(name) for name in names] == [0, 0, None, 0, 1]
    assert groups.of("/x/0.tar:n02085620_7.JPEG") == groups.of("/x/0.tar:b/n02085620_7.JPEG") == 1
    for wrong in ("fish\n", "fish n0\n"):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match=r"groups\.txt"):
            Groups(file)
    with pytest.raises(ConfigError, match="check the path"):
        open_groups(str(tmp_path / "none.txt"))


def test_folders_are_classes() -> None:
    files = ["train/n02/a.jpg", "train/n01/b.jpg", "/x/train/n02/c.jpg", "0.tar:n03/d.jpg", "1.tar:e.jpg"]
    groups = open_groups("folders", files)
    assert groups.names == ["n01", "n02", "n03"] and [groups.of(file) for file in files] == [1, 0, 1, 2, None]
    images = Joined([Colours(*(f"{colour}/{i}.png" for colour in ("red", "green") for i in range(9)))])
    probes = Probes(ProbeConfig(images=4, size=56, groups="folders"), images, [0, 1, 9, 10])
    found = probes.judge(by_pixels(14), 14)
    assert found["knn"] == 1.0 and "linear" not in found  # of 18 images


def test_the_shipped_groups() -> None:
    groups = open_groups("imagenet_groups")
    wanted = {
        "n02085620_Chihuahua.jpg": "canine", "n03452741_grand_piano.jpg": "instrument", "n01608432_kite.jpg": "bird",
        "n03594945_jeep.jpg": "vehicle", "n07753592_banana.jpg": "food", "n09472597_volcano.jpg": "landscape",
    }  # fmt: skip
    assert {name: groups.names[number] for name in wanted if (number := groups.of(name)) is not None} == wanted
    assert groups.of("n03481172_hammer.jpg") is None


class Colours:
    """Red and green images, and those that it cannot read."""

    def __init__(self, *names: str) -> None:
        self.names, self.asked = names, list[int]()

    def read(self, number: int) -> np.ndarray:
        self.asked.append(number)
        if "damaged" in self.names[number]:
            raise ImageError("damaged")
        rng = np.random.default_rng(number)
        image = rng.integers(0, 60, (56, 56, 3), dtype=np.uint8)
        image[..., 0 if "red" in self.names[number] else 1] += 150
        return image


@pytest.fixture
def groups(tmp_path: Path) -> str:
    (tmp_path / "groups.txt").write_text("red red\ngreen green\n")
    return str(tmp_path / "groups.txt")


def test_probes_classify_by_neighbours(groups: str, caplog: pytest.LogCaptureFixture) -> None:
    """Red and green images are told apart by their pixels; a damaged one is passed over when it is met."""
    names = [f"{colour}_{i}.png" for colour in ("red", "green") for i in range(30)]
    source = Colours("red_damaged.png", *names)
    images = Joined([source])
    probes = Probes(ProbeConfig(images=4, size=56, groups=groups), images, [1, 2, 31, 32])
    assert not source.asked and not images.skipped  # nothing is read to begin with
    said = probes.judge(by_pixels(14), 14)
    assert said["knn"] == said["linear"] == 1.0
    assert list(images.skipped) == ["red_damaged.png"]
    found = probes.classed(by_pixels(14), 14)
    assert found.names == names and found.labels.tolist() == [0] * 30 + [1] * 30 and len(found.vectors) == 60
    # One's own images need not have the classes that a recipe names.
    other = Probes(ProbeConfig(images=4, size=56, groups="imagenet_groups"), images, [1, 2, 31, 32])
    assert "knn" not in other.judge(by_pixels(14), 14) and "no image has one of its classes" in caplog.text
    with pytest.raises(ConfigError, match="less than two of its classes"):
        other.classed(by_pixels(14), 14)
    broken = Joined([Colours("red_damaged.png", "green_damaged.png", "green.png")])
    with pytest.raises(ImageError, match="of 3 images with a class 1 can be read"):
        Probes(ProbeConfig(groups=groups), broken, [0, 1]).classed(by_pixels(14), 14)


def test_a_linear_layer_needs_images_that_can_be_read(groups: str) -> None:
    names = [f"{colour}_{i}.png" for colour in ("red", "green") for i in range(3)]
    images = Joined([Colours(*names, *(f"red_damaged{i}.png" for i in range(30)))])
    said = Probes(ProbeConfig(images=4, size=56, groups=groups), images, [0, 1, 3, 4]).judge(by_pixels(14), 14)
    assert said["knn"] == 1.0 and "linear" not in said


def test_so_many_are_classified_at_most(groups: str) -> None:
    """Evenly spaced, and rare classes are among them."""
    names = [f"red_{i:03d}.png" for i in range(200)]
    names.insert(120, "green.png")
    names.insert(50, "blue.png")  # of no class
    source = Colours(*names)
    probes = Probes(ProbeConfig(images=2, size=56, groups=groups, classed=11), Joined([source]), [0, 1])
    found = probes.classed(by_pixels(14), 14)
    assert len(found.names) == 11 and found.names.count("green.png") == 1 and "blue.png" not in found.names
    chosen = [int(name[4:7]) for name in found.names if name != "green.png"]
    assert chosen == sorted(chosen) and max(np.diff([*chosen, 200])) <= 23
    assert sorted(source.asked) == source.asked and len(source.asked) == 11
    with pytest.raises(ConfigError, match="classed"):
        ProbeConfig(classed=1)


def test_a_collapse_is_told(caplog: pytest.LogCaptureFixture) -> None:
    source = Colours(*(f"{colour}_{i}.png" for i in range(4) for colour in ("red", "green")))
    probes = Probes(ProbeConfig(images=8, size=56), Joined([source]), range(8))

    def same(images: Tensor) -> Described:
        seen = by_pixels(14)(images)
        return Described(torch.ones(len(images), 8) + 0.01 * seen.whole[:, :8], seen.patches)

    def sound(images: Tensor) -> Described:
        seen = by_pixels(14)(images)
        return Described(
            seen.whole + torch.randn(seen.whole.shape, generator=torch.Generator().manual_seed(0)), seen.patches
        )

    assert probes.judge(sound, 14)["cosine"] < 0.95 and not caplog.records
    assert probes.judge(same, 14)["cosine"] > 0.95
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "look alike" in caplog.text

    def opposite(images: Tensor) -> Described:
        """Two kinds of images, as far from each other as can be, and nothing else."""
        seen = by_pixels(14)(images)
        return Described(seen.whole[:, :1].sign() * torch.ones(8), seen.patches)

    caplog.clear()
    assert probes.judge(opposite, 14)["cosine"] < 0 and "along one direction only" in caplog.text


def test_a_damaged_image_is_not_made_up_for_by_another() -> None:
    """Twice the same image would be a distance of nothing, and the entropy minus infinity."""
    source = Joined([Colours("red_0.png", "red_damaged.png", "red_1.png", "green.png")])
    probes = Probes(ProbeConfig(images=4, size=56), source, [0, 1, 2, 3])
    assert len(probes.images_at(14)) == 3 and math.isfinite(probes.judge(by_pixels(14), 14)["entropy"])
    assert list(source.skipped) == ["red_damaged.png"]
    broken = Probes(ProbeConfig(images=4, size=56), Joined([Colours("a_damaged.png", "b_damaged.png")]), [0, 1])
    with pytest.raises(ImageError, match="none of 2 images to judge by can be read; the first: damaged"):
        broken.images_at(14)


def test_images_are_spread_over_what_is_held_out(tmp_path: Path) -> None:
    """As are those of them that are shown; a folder's first images are often all of one kind."""
    source = Colours(*(f"{'red' if i < 40 else 'green'}_{i}.png" for i in range(80)))
    probes = Probes(ProbeConfig(images=4, size=56), Joined([source]), range(0, 80, 2))
    images = probes.images_at(14)
    assert source.asked == [0, 20, 40, 60]
    assert [bool(image[0].mean() > image[1].mean()) for image in images] == [True, True, False, False]
    drawn: list[Tensor] = []

    def draw(shown: list[Tensor], *_: object, alike: bool) -> None:
        drawn.extend(shown)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slamfeat.viz.tokens.plot_tokens", draw)
        probes.look(
            {"tiny": Architecture(8, 1, 1, 14, 0, "offset", grid=4).build("tiny").freeze()},
            tmp_path / "tokens.png",
            count=2,
        )
    assert torch.equal(torch.stack(drawn), torch.stack([images[0], images[2]]))


def test_what_is_held_out_is_looked_at_alone() -> None:
    """Where one is damaged, none that is learnt from stands in for it."""
    source = Colours("red_0.png", "green_1.png", "red_2.png", "damaged_3.png", "red_4.png")
    probes = Probes(ProbeConfig(images=2, size=56), Joined([source]), [1, 3])
    assert len(probes.images_at(14)) == 1 and source.asked == [1, 3]
