"""Whatever is wrong with the input: exit 1, one line that names the file and the fix, no traceback."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_helpers import assert_one_line, cli, copy_sample, script, write_picture
from safetensors.torch import save_file

from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.registry import find_entry

pytestmark = pytest.mark.usefixtures("tiny")


def change_calibration(sequence: Path, **values: object) -> None:
    path = sequence / "calibration.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("verb", ["run", "extract"])
def test_missing_path_and_empty_folder(verb: str, tmp_path: Path) -> None:
    assert_one_line(cli(verb, "nowhere"), "nowhere", "check the path")
    (tmp_path / "empty").mkdir()
    assert_one_line(cli(verb, tmp_path / "empty"), "empty", "check the path")


def test_missing_images_to_match(tmp_path: Path) -> None:
    assert_one_line(cli("match", tmp_path / "a.png", tmp_path / "b.png"), "a.png", "check the path")


@pytest.mark.parametrize(
    ("side", "value", "says"), [(10, None, "the least is 32x32"), (64, 0, "no texture")], ids=["10x10", "black"]
)
def test_images_without_room_or_texture(tmp_path: Path, photo: Any, side: int, value: int | None, says: str) -> None:
    bad = write_picture(tmp_path / "bad.png", side, value)
    good = write_picture(tmp_path / "good.png", 64)
    assert_one_line(cli("match", good, bad), "bad.png", says)
    assert_one_line(cli("extract", bad), "bad.png", says)
    assert list(Path().iterdir()) == []


def test_images_that_cannot_be_used_at_all(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / "images" / name)
    result = cli("extract", tmp_path / "images", "--out", "f.h5")
    assert result.exit_code == 1 and "none of 2 images can be used" in result.stderr.splitlines()[-1]
    assert list(Path().iterdir()) == []


def test_calibration(sequence: Path, tmp_path: Path) -> None:
    change_calibration(sequence, fx=float("nan"))
    assert_one_line(cli("run", sequence), "calibration.json", "'fx' is nan", "finite")
    (sequence / "calibration.json").write_text("{")
    assert_one_line(cli("run", sequence), "calibration.json", "should look like")
    folder = tmp_path / "images"
    for index in range(4):
        write_picture(folder / f"{index}.png", 64)
    assert_one_line(cli("run", folder), "no calibration; write", "calibration.json", "--camera FILE")
    assert_one_line(cli("run", folder, "--camera", "no.json"), "no.json", "write a calibration file")


def test_depth_that_does_not_belong(sequence: Path) -> None:
    depth = sequence / "depth.txt"
    lines = [line.split() for line in depth.read_text().splitlines()]
    depth.write_text("".join(f"{float(time) + 5:.6f} {file}\n" for time, file in lines))
    assert_one_line(cli("run", sequence), str(sequence), "do not associate", "depth.txt")


def test_modes_and_words(sequence: Path, sample: Path, tmp_path: Path) -> None:
    assert_one_line(cli("run", sequence, "--mode", "lidar"), "unknown mode 'lidar'", "mono, rgbd, stereo or auto")
    assert_one_line(cli("run", sequence, "--scale", "huge"), "unknown scale 'huge'", "propagated")
    assert_one_line(cli("run", sequence, "--align", "sim4"), "unknown alignment 'sim4'", "sim3")
    assert_one_line(cli("run", sequence, "--start", 50), str(sequence), "leave no frames")
    grey = copy_sample(sample, tmp_path / "without_depth", 4, depth=False)
    assert_one_line(cli("run", grey, "--mode", "rgbd"), str(grey), "has no rgbd data", "--mode mono")
    assert_one_line(cli("run", grey, "--ply", "a.ply"), str(grey), "leave out --ply")
    assert_one_line(cli("run", sequence, "--ply", "a.txt"), "a.txt", ".ply")
    assert not Path("runs").exists()


def test_a_sequence_that_cannot_be_tracked(sequence: Path) -> None:
    for picture in (sequence / "rgb").iterdir():
        write_picture(picture, 64, 0)
    change_calibration(sequence, width=64, height=64)
    assert_one_line(cli("run", sequence, "--mode", "mono", "--out", "a"), str(sequence), "0 of 6", "too few keypoints")
    assert not Path("a").exists()


def test_settings(sequence: Path) -> None:
    assert_one_line(cli("run", sequence, "frontend.num_keypoint=5"), "did you mean 'frontend.num_keypoints'?")
    assert_one_line(cli("run", sequence, "vo.keyframe_px"), "'vo.keyframe_px' is not of the form key=value")
    assert_one_line(cli("run", sequence, "frontend.num_keypoints=many"), "frontend.num_keypoints=many")
    assert_one_line(cli("run", sequence, "--recipe", "no.yaml"), "no.yaml", "check the path")
    Path("bad.yaml").write_text("frontend: [\n")
    assert_one_line(cli("run", sequence, "--recipe", "bad.yaml"), "bad.yaml", "not valid YAML")
    Path("bad.yaml").write_text("fronted: {}\n")
    assert_one_line(cli("run", sequence, "--recipe", "bad.yaml"), "bad.yaml", "did you mean 'frontend'?")


def test_places_that_cannot_be_written(sequence: Path) -> None:
    Path("file").write_text("in the way")
    picture = sorted((sequence / "rgb").iterdir())[0]
    assert_one_line(cli("run", sequence, "--out", "file"), "file is a file", "another --out")
    assert_one_line(cli("run", sequence, "--out", "file/run"), "file/run", "another --out")
    assert_one_line(cli("run", sequence, "--out", "/proc/run"), "/proc/run", "another --out")
    assert_one_line(cli("extract", picture, "--out", "file/a.h5"), "file/a.h5", "another --out")
    assert_one_line(cli("extract", picture, "--out", "."), "folder", "feats.h5")
    assert_one_line(cli("match", picture, picture, "--save", "file/a.png"), "file/a.png")
    assert_one_line(cli("match", picture, picture, "--save", "a.xyz"), "a.xyz", ".png")
    assert Path("file").read_text() == "in the way"


def test_an_existing_run(sequence: Path) -> None:
    Path("mine").mkdir()
    Path("mine/precious.txt").write_text("x")
    assert_one_line(cli("run", sequence, "--out", "mine"), "mine already holds", "another --out", "--overwrite")
    assert [path.name for path in Path("mine").iterdir()] == ["precious.txt"]


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["pathlib.Path.write_text", "matplotlib.figure.Figure.savefig"])
def test_a_full_disk_leaves_no_half_run(sequence: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(name, full)
    assert_one_line(cli("run", sequence, "--out", "runs/a"), "No space left on device", "free space")
    assert list(Path("runs").iterdir()) == []


def test_a_full_disk_leaves_no_half_features(sequence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slamfeat.export.journal.Journal._write", full)
    result = cli("extract", sequence / "rgb", "--out", "a.h5")
    assert_one_line(result, "No space left on device", "free space")
    assert list(Path().glob("a.h5*")) in ([], [Path("a.h5.part")])


def test_video_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("not a video")
    result = script("run", tmp_path / "clip.mp4", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1 and "clip.mp4: no picture can be read" in result.stderr


def test_ground_truth_that_does_not_overlap(sequence: Path, sample: Path) -> None:
    assert cli("run", sequence, "--out", "runs/a").exit_code == 0
    lines = [line.split() for line in (sample / "groundtruth.txt").read_text().splitlines() if line[0] != "#"]
    Path("far.txt").write_text("".join(f"{float(t) + 1000:.4f} {' '.join(rest)}\n" for t, *rest in lines))
    assert_one_line(cli("eval", "runs/a", "far.txt"), "no poses match in time")
    assert_one_line(cli("eval", "runs/a", "missing.txt"), "missing.txt")
    Path("empty").mkdir()
    assert_one_line(cli("eval", "empty", "far.txt"), "empty/trajectory.tum")
    Path("words.txt").write_text("these are\nnot poses\n")
    assert_one_line(cli("eval", "runs/a", "words.txt"), "words.txt")


class TestWeights:
    """A file given with --weights; the real builder, since it is what must object."""

    NAME = "dinov2-vits14"

    @pytest.fixture(autouse=True)
    def real(self, monkeypatch: pytest.MonkeyPatch, tiny: None) -> None:
        from slamfeat.frontend import Frontend

        monkeypatch.setattr(
            "slamfeat.vo.pipeline.build_frontend", lambda config: Frontend.from_pretrained(config.weights)
        )

    def broken(self, name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
        state = dict(random_backbone(find_entry(self.NAME).architecture).state_dict())
        change(state)
        path = Path(f"{name}.safetensors")
        save_file(state, path)
        return path

    def refuses(self, picture: Path, weights: Path | str, *parts: str) -> None:
        assert_one_line(cli("extract", picture, "--out", "a.h5", "--weights", weights), str(weights), *parts)
        assert not Path("a.h5").exists() and not Path("a.h5.part").exists()

    def test_all(self, tmp_path: Path) -> None:
        picture, name = write_picture(tmp_path / "a.png", 64), self.NAME
        self.refuses(picture, self.broken(name, lambda s: s.pop("norm.weight")), "1 missing: norm.weight")
        self.refuses(picture, self.broken(name, lambda s: s.update(extra=torch.zeros(1))), "1 unexpected: extra")
        wrong = self.broken(name, lambda s: s.update({"norm.weight": torch.zeros(5)}))
        self.refuses(picture, wrong, "1 wrong shape: norm.weight (5,) instead of (384,)")
        whole = self.broken(name, lambda s: None)
        data = whole.read_bytes()
        whole.write_bytes(data[: len(data) // 2])
        self.refuses(picture, whole, "truncated", "fetch it again")
        other = self.broken("dinov2-vitb14", lambda s: None)
        self.refuses(picture, other, "dinov2-vitb14", "load it under that name")
        self.refuses(picture, "no/file.pth", "check the path")
        self.refuses(picture, "dinov2-vits15", "dinov2-vits14")


def test_usage_errors_exit_2(sequence: Path) -> None:
    for words in (["fly"], ["run"], ["run", sequence, "--stride", "0"], ["run", sequence, "--colour"]):
        result = cli(*words)
        assert result.exit_code == 2 and "Traceback" not in result.output
