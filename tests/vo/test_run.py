"""Running and evaluating a sequence, without the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from world import CAMERA, World, make_path

from slamfeat.errors import InputError, OutputError
from slamfeat.run_log import logging_to
from slamfeat.types import Frame, Trajectory
from slamfeat.vo import FrameReport, GroundTruthScale, Odometry
from slamfeat.vo.pipeline import PipelineConfig, build_frontend, settle_engine
from slamfeat.vo.run import run_odometry, summary
from slamfeat.vo.runfolder import FILES, plain, point_latest, run_folder, write_run
from slamfeat.vo.setup import usable_scale


class Frames(list[Frame]):
    """As much of a sequence as running needs."""

    path = Path("synthetic")
    skipped: tuple[()] = ()
    live = False

    def __init__(self, world: World, groundtruth: Trajectory | None = None) -> None:
        super().__init__(world.frames())
        self.groundtruth = groundtruth

    @property
    def timestamps(self) -> np.ndarray:
        """(N,) seconds."""
        return np.array([frame.timestamp for frame in self])


def test_the_settled_engine_is_the_one_that_is_built() -> None:
    open_ended = PipelineConfig()
    settled = settle_engine(open_ended)
    assert "auto" not in (settled.engine, settled.precision) and settle_engine(settled) == settled
    for config in (open_ended, settled):
        engine = build_frontend(config).engine
        assert (engine.name, engine.precision) == (settled.engine, settled.precision)


def make(blind: frozenset[int] = frozenset(), mode: str = "rgbd") -> tuple[Frames, Odometry]:
    path = make_path(12)
    world = World(path, blind=blind)
    return Frames(world, path), Odometry(world, CAMERA, mode, scale=GroundTruthScale(path))  # type: ignore[arg-type]


def test_result_is_evaluated_as_the_mode_asks() -> None:
    for mode, label in (("rgbd", "metric (depth)"), ("mono", "ground-truth scale a pair")):
        frames, odometry = make(mode=mode)
        result = run_odometry(frames, odometry)  # type: ignore[arg-type]
        row = summary(result, "synthetic", odometry, Path("out"))
        assert (row["tracked"], row["frames"], row["align"], row["scale"]) == (12, 12, "se3", label)
        assert row["ate_rmse_m"] < 0.02 and row["fps"] > 0 and not row["interrupted"]


def test_lost_frames_and_their_place_in_kittis_format(tmp_path: Path) -> None:
    frames, odometry = make(blind=frozenset({4, 5}))
    result = run_odometry(frames, odometry)  # type: ignore[arg-type]
    row = summary(result, "synthetic", odometry, tmp_path)
    assert (row["tracked"], row["tracked_percent"]) == (10, pytest.approx(100 * 10 / 12))
    write_run(tmp_path, "vo: {}\n", result, row, frames.groundtruth)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES) - {"run.log"}
    poses = Trajectory.load(tmp_path / "trajectory.kitti", "kitti").poses
    assert len(poses) == 12 and np.array_equal(poses[5], poses[3]) and not np.array_equal(poses[6], poses[3])
    loaded = Trajectory.load(tmp_path / "trajectory.tum")
    assert np.allclose(loaded.poses, result.trajectory.poses, atol=1e-12)


def test_stopping_and_interrupting_keep_what_is_there() -> None:
    frames, odometry = make()
    result = run_odometry(frames, odometry, stop=lambda: len(odometry.reports) == 5)  # type: ignore[arg-type]
    assert result.interrupted and result.total == result.tracked == 5

    def interrupt(report: FrameReport) -> None:
        if report.index == 6:
            raise KeyboardInterrupt

    frames, odometry = make()
    result = run_odometry(frames, odometry, progress=interrupt)  # type: ignore[arg-type]
    assert result.interrupted and result.tracked == 7
    frames, odometry = make()
    with pytest.raises(KeyboardInterrupt):
        run_odometry(frames, odometry, stop=lambda: True)  # type: ignore[arg-type]


def test_words_and_hopeless_sequences() -> None:
    frames, odometry = make()
    with pytest.raises(InputError, match="unknown alignment 'sim4'; use --align sim3, se3, none or auto"):
        run_odometry(frames, odometry, "sim4")  # type: ignore[arg-type]
    frames, odometry = make(blind=frozenset(range(12)))
    with pytest.raises(InputError, match=r"synthetic: only 0 of 12 frames tracked \(too few keypoints to start"):
        run_odometry(frames, odometry)  # type: ignore[arg-type]


def test_scale_is_not_taken_from_another_time() -> None:
    frames, _ = make()
    assert usable_scale("auto", frames) == "auto"  # type: ignore[arg-type]
    truth = frames.groundtruth
    assert truth is not None
    frames.groundtruth = Trajectory(truth.timestamps + 100, truth.poses)
    assert usable_scale("auto", frames) == "propagated"  # type: ignore[arg-type]
    assert usable_scale("groundtruth", frames) == "groundtruth"  # type: ignore[arg-type]
    frames.groundtruth = None
    assert usable_scale("auto", frames) == "auto"  # type: ignore[arg-type]


def fill(folder: Path, text: str = "new") -> None:
    for name in FILES:
        (folder / name).write_text(text)


def test_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    with pytest.raises(RuntimeError), run_folder(out, overwrite=False) as folder:
        fill(folder)
        raise RuntimeError
    assert not out.exists()
    with run_folder(out, overwrite=False) as folder:
        fill(folder)
        assert [path.name[0] for path in out.iterdir()] == ["."]
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    with pytest.raises(OutputError, match="already holds a run"), run_folder(out, overwrite=False):
        pass
    (out / "notes.txt").write_text("mine")
    with pytest.raises(RuntimeError), run_folder(out, overwrite=True) as folder:
        fill(folder, "newer")
        raise RuntimeError
    assert (out / "metrics.json").read_text() == "new" and (out / "notes.txt").read_text() == "mine"
    with run_folder(out, overwrite=True) as folder:
        fill(folder, "newer")
    assert (out / "metrics.json").read_text() == "newer" and (out / "notes.txt").read_text() == "mine"


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "a" / ".writing-1").mkdir(parents=True)
    with run_folder(tmp_path / "a", overwrite=False) as folder:
        fill(folder)
    assert (tmp_path / "a" / "metrics.json").exists()


def test_latest_points_at_the_newest(tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        point_latest(tmp_path / "runs" / name)
        assert (tmp_path / "runs" / "latest").readlink() == Path(name)
    point_latest(tmp_path)
    (tmp_path / "runs" / "latest").unlink()
    (tmp_path / "runs" / "latest").mkdir()
    point_latest(tmp_path / "runs" / "a")
    assert not (tmp_path / "runs" / "latest").is_symlink()


def test_a_full_disk_does_not_break_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import logging

    with logging_to(Path("/dev/full")):
        logging.getLogger("slamfeat").info("a line that cannot be written")
    assert capfd.readouterr().err == ""
    with pytest.raises(OutputError, match="another --out"), logging_to(tmp_path / "no" / "run.log"):
        pass


def test_json_has_no_nan() -> None:
    assert plain({"a": [float("nan"), 1.5, {"b": float("inf")}], "c": "nan"}) == {
        "a": [None, 1.5, {"b": None}],
        "c": "nan",
    }
