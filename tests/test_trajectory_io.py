"""Trajectory files: exact round trips, evo reads them, and every bad file names its line and the fix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from slamfeat.errors import InputError
from slamfeat.geometry.se3 import make_pose
from slamfeat.types import Trajectory

SUFFIX = {"tum": ".tum", "kitti": ".kitti", "euroc": ".csv"}


def random_trajectory(
    seed: int, count: int, start_ns: int = 1_403_636_579_763_555_584, scale: float = 10.0
) -> Trajectory:
    """Timestamps on whole nanoseconds that a float can hold apart, and arbitrary poses."""
    rng = np.random.default_rng(seed)
    ns = start_ns + np.cumsum(rng.integers(1_000_000, 90_000_000, count))
    rotations = Rotation.random(count, random_state=seed).as_matrix()
    poses = [make_pose(r, t) for r, t in zip(rotations, rng.normal(0, scale, (count, 3)), strict=True)]
    return Trajectory(np.array([int(n) / 10**9 for n in ns]), np.array(poses))


@settings(max_examples=60, deadline=None)
@given(
    format=st.sampled_from(["tum", "kitti", "euroc"]),
    seed=st.integers(0, 2**31),
    count=st.integers(1, 20),
    start_ns=st.integers(0, 2 * 10**18),
    scale=st.sampled_from([1e-9, 1.0, 1e7]),
)
def test_round_trip_is_exact(
    tmp_path_factory: pytest.TempPathFactory, format: str, seed: int, count: int, start_ns: int, scale: float
) -> None:
    trajectory = random_trajectory(seed, count, start_ns, scale)
    path = tmp_path_factory.mktemp("trajectory") / f"t{SUFFIX[format]}"
    loaded = Trajectory.load(trajectory.save(path))
    assert np.array_equal(loaded.positions, trajectory.positions)
    assert np.abs(loaded.poses[:, :3, :3] - trajectory.poses[:, :3, :3]).max() < 1e-14
    if format == "kitti":
        assert np.array_equal(loaded.poses, trajectory.poses)
        assert np.array_equal(loaded.timestamps, np.arange(count))
    else:
        # The nearest float to the written nanoseconds; below 2**23 s floats are finer than that.
        assert np.abs(loaded.timestamps - trajectory.timestamps).max() <= 1e-12


@given(offset=st.floats(0, 1e-3), rate=st.floats(1.0, 1000.0))
@settings(max_examples=30, deadline=None)
def test_times_off_the_nanosecond_grid_move_by_half_a_nanosecond(
    tmp_path_factory: pytest.TempPathFactory, offset: float, rate: float
) -> None:
    times = offset + np.arange(5) / rate
    trajectory = Trajectory(times, np.tile(np.eye(4), (5, 1, 1)))
    for format in ("tum", "euroc"):
        path = tmp_path_factory.mktemp("times") / "t.txt"
        loaded = Trajectory.load(trajectory.save(path, format), format)
        assert np.abs(loaded.timestamps - times).max() <= 0.5e-9 + 1e-15


def test_layouts_as_published(tmp_path: Path) -> None:
    pose = make_pose(Rotation.from_quat([0.5, 0.5, 0.5, 0.5]).as_matrix(), [1.5, -2.0, 0.25])
    trajectory = Trajectory(np.array([1305031102.175304]), pose[None])
    tum = trajectory.save(tmp_path / "a.tum").read_text().splitlines()[-1].split()
    assert tum[0] == "1305031102.175304000"
    assert np.allclose([float(x) for x in tum[1:]], [1.5, -2.0, 0.25, 0.5, 0.5, 0.5, 0.5], atol=1e-15)
    euroc = trajectory.save(tmp_path / "a.csv").read_text().splitlines()
    assert euroc[0].startswith("#timestamp [ns]")
    assert euroc[1].split(",")[0] == "1305031102175304000"
    kitti = trajectory.save(tmp_path / "a.kitti").read_text().split()
    assert np.allclose([float(x) for x in kitti], pose[:3].reshape(-1), atol=0)


def test_quaternion_order(tmp_path: Path) -> None:
    turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    half = np.sqrt(0.5)
    (tmp_path / "a.tum").write_text(f"1.0 1 2 3 0 0 {half} {half}\n")
    (tmp_path / "a.csv").write_text(f"#t\n1000000000,1,2,3,{half},0,0,{half},9,9,9,9\n")
    for name in ("a.tum", "a.csv"):
        loaded = Trajectory.load(tmp_path / name)
        assert loaded.timestamps[0] == 1.0
        assert np.allclose(loaded.poses[0], make_pose(turn, [1, 2, 3]), atol=1e-15)


def test_guesses_text_files_by_columns(tmp_path: Path) -> None:
    trajectory = random_trajectory(3, 4)
    for format, name in (("tum", "a.txt"), ("kitti", "b.txt"), ("tum", "c.dat"), ("euroc", "d.txt")):
        loaded = Trajectory.load(trajectory.save(tmp_path / name, format))
        assert np.allclose(loaded.poses, trajectory.poses, atol=1e-14)


def test_kitti_takes_times_beside(tmp_path: Path) -> None:
    path = random_trajectory(1, 3).save(tmp_path / "00.txt", "kitti")
    (tmp_path / "times.txt").write_text("0.000000e+00\n1.037036e-01\n2.074071e-01\n")
    assert Trajectory.load(path).timestamps.tolist() == [0.0, 0.1037036, 0.2074071]
    (tmp_path / "times.txt").write_text("0.0\n0.1\n")
    with pytest.raises(InputError, match=r"3 poses, but .*times\.txt has 2 times"):
        Trajectory.load(path)


def test_evo_reads_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # evo's tools write a settings folder there
    from evo.tools import file_interface

    trajectory = random_trajectory(5, 12)
    tum = file_interface.read_tum_trajectory_file(str(trajectory.save(tmp_path / "a.tum")))
    euroc = file_interface.read_euroc_csv_trajectory(str(trajectory.save(tmp_path / "a.csv")))
    kitti = file_interface.read_kitti_poses_file(str(trajectory.save(tmp_path / "a.kitti")))
    for read in (tum, euroc):
        assert np.abs(read.timestamps - trajectory.timestamps).max() < 5e-7  # evo divides by 1e9 in floats
    for read in (tum, euroc, kitti):
        assert np.abs(np.array(read.poses_se3) - trajectory.poses).max() < 1e-12


GOOD = "1.0 0 0 0 0 0 0 1"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tum", "", r"a\.tum: the trajectory is empty"),
        ("a.txt", "# only a comment\n", r"a\.txt: the trajectory is empty"),
        ("a.tum", f"{GOOD}\n2.0 0 0 x 0 0 0 1\n", r"a\.tum, line 2: 'x' is not a number"),
        ("a.tum", f"# c\n\n{GOOD}\n2.0 0 0 nan 0 0 0 1\n", r"line 4: a value is NaN or infinite; remove"),
        ("a.tum", f"{GOOD}\n2.0 0 0 0 0 0 1\n", r"line 2: 7 columns, but tum needs 8"),
        ("a.txt", "1 2 3 4 5\n", r"line 1: 5 columns are neither TUM \(8\) nor KITTI \(12\)"),
        ("a.tum", "1403636579763555584 0 0 0 0 0 0 1\n", r"line 1: .*looks like nanoseconds.*divide by 1e9"),
        ("a.csv", "1403636579.76,0,0,0,1,0,0,0\n", r"line 1: .*not whole nanoseconds.*multiply it by 1e9"),
        ("a.tum", f"{GOOD}\n2.0 0 0 0 0 0 0 0\n", r"line 2: the quaternion has length zero"),
        ("a.tum", f"{GOOD}\n{GOOD}\n", r"line 2: the timestamp does not increase; sort"),
        ("a.kitti", " ".join("123456789012") + "\n", r"line 1: the 3x3 part is not a rotation"),
        ("a.csv", "1,2,3\n", r"line 1: 3 columns, but euroc needs at least 8"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        Trajectory.load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_bad_paths_and_formats(tmp_path: Path) -> None:
    trajectory = random_trajectory(0, 3)
    with pytest.raises(InputError, match="no such trajectory file"):
        Trajectory.load(tmp_path / "missing.tum")
    with pytest.raises(InputError, match="cannot read"):
        Trajectory.load(tmp_path)
    (tmp_path / "binary.tum").write_bytes(b"\xff\xfe\x00\x80" * 10)
    with pytest.raises(InputError, match="not a text file"):
        Trajectory.load(tmp_path / "binary.tum")
    with pytest.raises(InputError, match="'bag' is unknown; use one of tum, kitti, euroc"):
        trajectory.save(tmp_path / "a.txt", "bag")
    with pytest.raises(InputError, match="cannot tell the format"):
        trajectory.save(tmp_path / "a.xyz")
    close = Trajectory(np.array([0.0, 1e-11]), np.tile(np.eye(4), (2, 1, 1)))
    with pytest.raises(InputError, match="within one nanosecond"):
        close.save(tmp_path / "a.tum")
    assert not (tmp_path / "a.tum").exists()
