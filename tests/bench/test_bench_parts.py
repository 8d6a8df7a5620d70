"""Small parts of the runner: names of frontends and data, the recorder, the guard, ratios."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slamfeat.bench.config import BenchConfig, quick, rooted
from slamfeat.bench.data import parse_sequence, reduced_size
from slamfeat.bench.guard import GuardedFrontend, describe_failures
from slamfeat.bench.recorder import Recorder
from slamfeat.bench.registry import build_frontend, fingerprint, list_frontends, settings_of
from slamfeat.bench.speed import with_ratios
from slamfeat.config import load_config
from slamfeat.errors import ConfigError, InputError

REPO = Path(__file__).parents[2]


def test_every_peer_of_the_issue_is_known_by_name() -> None:
    wanted = {"slamfeat", "orb", "sift", "gftt-lk", "xfeat", "xfeat+lighterglue", "aliked+lightglue", "disk+lightglue"}
    assert wanted <= set(list_frontends())


def test_names_files_and_recipes_build_frontends(tmp_path: Path) -> None:
    assert build_frontend("orb", 300).name == "orb"
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("frontend: {refine: {method: none}}\n")
    mine = build_frontend(str(recipe), 300)
    assert mine.name == "mine" and settings_of(mine)["refine.method"] == "none"
    assert settings_of(mine)["num_keypoints"] == 300
    assert fingerprint(str(recipe)) != fingerprint("slamfeat")
    with pytest.raises(ConfigError, match="did you mean 'sift'"):
        build_frontend("sfit", 300)
    with pytest.raises(ConfigError, match="no such file"):
        build_frontend("nowhere.py", 300)
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    with pytest.raises(ConfigError, match="no FRONTENDS"):
        build_frontend(str(empty), 300)


def test_heads_count_by_what_is_in_their_file(tmp_path: Path) -> None:
    """Heads trained anew under the old name make other predictions."""
    heads, recipe = tmp_path / "heads.safetensors", tmp_path / "mine.yaml"
    recipe.write_text(f"frontend: {{heads: {heads}}}\n")
    digests = []
    for content in (b"first", b"second", b"first"):
        heads.write_bytes(content)
        fingerprint.cache_clear()
        digests.append(fingerprint(str(recipe)))
    assert digests[0] != digests[1] and digests[0] == digests[2]


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("a/b", ("a/b", (), 0, 0, 1)),
        ("a/b:mono,rgbd", ("a/b", ("mono", "rgbd"), 0, 0, 1)),
        ("a/b@5:60:2", ("a/b", (), 5, 60, 2)),
        ("a/b:stereo@::3", ("a/b", ("stereo",), 0, 0, 3)),
        ("a/b@10:", ("a/b", (), 10, 0, 1)),
    ],
)
def test_words_of_data(word: str, parts: tuple[object, ...]) -> None:
    found = parse_sequence(word)
    assert (found.path, found.modes, found.start, found.stop, found.stride) == parts
    assert parse_sequence(found.word) == found


def test_a_wrong_mode_is_named() -> None:
    with pytest.raises(InputError, match="unknown mode 'lidar'"):
        parse_sequence("a/b:mono,lidar")


def test_frames_of_a_word(sample: Path) -> None:
    sequence = parse_sequence(f"{sample}@10:31:5").open()
    assert len(sequence) == 5
    assert len(parse_sequence(f"{sample}@10:31:5").first(3).open()) == 3
    with pytest.raises(InputError, match="leaves no frames"):
        parse_sequence(f"{sample}@100:200:").open()


def test_recorder_computes_and_times_each_thing_once(photo: np.ndarray) -> None:
    class Counting:
        name = "counting"
        extracted = matched = 0

        def __init__(self) -> None:
            self.inner = build_frontend("orb", 200)

        def extract(self, image: object, num_keypoints: object = None, mask: object = None) -> object:
            self.extracted += 1
            return self.inner.extract(image)  # type: ignore[arg-type]

        def match(self, a: object, b: object) -> object:
            self.matched += 1
            return self.inner.match(a, b)  # type: ignore[arg-type]

    counting = Counting()
    recorder = Recorder(counting)  # type: ignore[arg-type]
    other = np.ascontiguousarray(photo[:, ::-1])
    for _ in range(3):
        f0, f1 = recorder.extract(photo.copy()), recorder.extract(other)
        found = recorder.match(f0, f1)
    assert (counting.extracted, counting.matched) == (2, 1)
    assert (len(recorder.extract_ms), len(recorder.match_ms)) == (2, 1)
    assert len(found) == len(counting.inner.match(f0, f1))
    # Without room for features they are computed again, give the same, and are timed no second time.
    tight = Recorder(Counting(), most_bytes=0)  # type: ignore[arg-type]
    again = [tight.match(tight.extract(photo), tight.extract(other)) for _ in range(3)]
    assert [len(matches) for matches in again] == [len(found)] * 3
    assert (len(tight.extract_ms), len(tight.match_ms)) == (2, 1)


def test_guard_passes_interruption_on_and_names_failures(photo: np.ndarray) -> None:
    class Interrupted:
        name = "interrupted"

        def extract(self, *given: object) -> object:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GuardedFrontend(Interrupted(), 10).extract(photo)  # type: ignore[arg-type]

    class Throwing:
        name = "throwing"

        def extract(self, *given: object) -> object:
            raise OSError("a\nb")

    guard = GuardedFrontend(Throwing(), 10)  # type: ignore[arg-type]
    f0 = guard.extract(photo)
    assert f0.mask.shape == (1, 10) and not f0.mask.any()
    assert f0.image_size.tolist() == [[640, 480]]
    assert len(guard.match(f0, guard.extract(photo))) == 0
    assert guard.failures.as_dict() == {"OSError": {"count": 2, "first": "a b"}}
    assert describe_failures([guard.failures.as_dict(), {}]) == "2 frames: 2 OSError"
    assert describe_failures([{}, {}]) == ""


def test_an_image_without_texture_counts_as_nothing() -> None:
    guard = GuardedFrontend(build_frontend("orb", 50), 50)
    guard.extract(np.zeros((240, 320, 3), np.uint8))
    assert describe_failures([guard.failures.as_dict()]) == "1 frame: 1 nothing"


def test_ratios_are_to_the_same_size_and_threads() -> None:
    rows = [
        {"size": s, "threads": t, "frontend": name, "total_ms": ms}
        for s, t, name, ms in [("a", 1, "xfeat", 10.0), ("a", 1, "slamfeat", 30.0), ("b", 1, "slamfeat", 50.0)]
    ]
    found = with_ratios(rows, {"slamfeat": {"a": 400.0}})
    assert [row["vs_xfeat"] for row in found] == [1.0, 3.0, None]
    assert [row["vs_sift"] for row in found] == [None] * 3
    assert [row["peak_mb"] for row in found] == [None, 400.0, None]


def test_recipes_of_the_benchmark_load_and_reduce() -> None:
    for name in ("test_split", "train_split"):
        config = load_config(BenchConfig, REPO / "configs" / "bench" / f"{name}.yaml")
        below = rooted(config, Path("/data"))
        assert all(word.startswith("/data/") for word in below.vo.data + below.matching.data)
        small = quick(below)
        assert small.speed.rounds < below.speed.rounds and small.matching.per_gap == 2
        assert all(parse_sequence(word).stop > 0 for word in small.vo.data)


def test_train_recipe_touches_no_test_data() -> None:
    config = load_config(BenchConfig, REPO / "configs" / "bench" / "train_split.yaml")
    words = config.vo.data + config.matching.data + config.robustness.data + config.speed.data
    assert not [w for w in words for held_out in ("kitti", "7scenes", "euroc", "pairs/") if held_out in w]


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"estimator": "magsac"}, {"num_keypoints": 0}, {"threshold_px": 0.0}, {"frontends": []}):
        with pytest.raises(ConfigError):
            BenchConfig(**wrong)  # type: ignore[arg-type]


def test_images_are_reduced_by_their_longer_side() -> None:
    assert reduced_size((1600, 1200), 640) == (640, 480)
    assert reduced_size((480, 640), 0) == (480, 640)
    assert reduced_size((320, 240), 640) == (320, 240)


def test_groups_are_thinned_evenly(sample: Path) -> None:
    from slamfeat.bench.config import MatchingConfig
    from slamfeat.bench.matching import groups_of

    whole = groups_of(str(sample), BenchConfig(matching=MatchingConfig(gaps=[2])))[0]
    few = groups_of(str(sample), BenchConfig(matching=MatchingConfig(gaps=[2], most_pairs=3)))[0]
    names = [pair.image0.name for pair in whole.pairs]
    assert [pair.image0.name for pair in few.pairs] == [names[0], names[round((len(names) - 1) / 2)], names[-1]]


def test_the_speed_table_names_what_failed() -> None:
    from slamfeat.bench.tables import summary_markdown

    row = {"size": "a", "threads": 1, "frontend": "mine", "extract_ms": 1.0, "match_ms": 1.0, "total_ms": 2.0}
    whole, broken = ({**row, "failed": text} for text in ("", "1 frame: 1 NaN"))
    frontends = {"mine": {"settings": {}}}
    shown = [
        summary_markdown({"task": "speed", "frontends": frontends, "rows": with_ratios([one], {})})
        for one in (whole, broken)
    ]
    assert "failed" not in shown[0] and "1 frame: 1 NaN" in shown[1]
