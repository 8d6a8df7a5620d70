"""`slamfeat run`: the closing object, the run folder, repeating, interrupting, and a mesh."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import cli, cli_json, truncate

from slamfeat.frontend import Frontend
from slamfeat.types import Trajectory
from slamfeat.vo.runfolder import FILES

pytestmark = pytest.mark.usefixtures("tiny")

WANTED = {
    "sequence", "frontend", "mode", "frames", "tracked", "align", "ate_rmse_m", "rpe_trans_m", "rpe_rot_deg", "fps",
    "ms", "out",
}  # fmt: skip


def test_json_is_one_object_with_the_promised_keys(sequence: Path) -> None:
    row = cli_json("run", sequence, "--out", "runs/a")
    assert set(row) >= WANTED
    assert (row["mode"], row["frames"], row["tracked"], row["align"]) == ("rgbd", 6, 6, "se3")
    assert row["ate_rmse_m"] > 0 and set(row["ms"]) == {"extract", "match", "pose"}
    assert json.loads(Path("runs/a/metrics.json").read_text()) == row


def test_eval_aligns_a_run_as_the_run_did(sequence: Path) -> None:
    row = cli_json("run", sequence, "--out", "runs/a")
    again = cli_json("eval", "runs/a", sequence)
    assert again["align"] == "se3" and again["ate_rmse_m"] == pytest.approx(row["ate_rmse_m"], abs=1e-6)
    assert cli_json("eval", "runs/a", sequence, "--align", "sim3")["align"] == "sim3"
    assert cli_json("eval", "runs/a/trajectory.tum", sequence)["align"] == "sim3"
    truth = (sequence / "groundtruth.txt").rename("truth.txt")  # a run that has none is metric nevertheless
    assert cli_json("run", sequence, "--out", "runs/b")["align"] is None
    assert cli_json("eval", "runs/b", truth)["align"] == "se3"


def test_the_folder_is_exactly_the_documented_tree(sequence: Path) -> None:
    assert cli("run", sequence, "--out", "runs/a").exit_code == 0
    assert sorted(path.name for path in Path("runs/a").iterdir()) == sorted(FILES)
    documented = re.findall(r"^  ([a-z]+\.[a-z]+) ", sys.modules["slamfeat.vo.runfolder"].__doc__ or "", re.M)
    assert sorted(documented) == sorted(FILES)
    assert Path("runs/latest").resolve() == Path("runs/a").resolve()
    assert len(Path("runs/a/frames.jsonl").read_text().splitlines()) == 6
    assert cli("run", sequence, "--mode", "mono", "--out", "runs/deeper/b").exit_code == 0
    assert Path("runs/latest").resolve() == Path("runs/deeper/b").resolve()
    assert cli("run", sequence, "--out", "elsewhere/c").exit_code == 0
    assert not Path("elsewhere/latest").is_symlink()


def test_default_folder_and_table(sequence: Path) -> None:
    result = cli("run", sequence)
    assert result.exit_code == 0
    (folder,) = (path for path in Path("runs").iterdir() if path.name != "latest")
    assert re.fullmatch(r"rgbd_dataset_freiburg1_six_tiny_rgbd_\d{8}-\d{6}", folder.name)
    for part in ("ATE [m]", "RPE [m]", "RPE [deg]", "tracked [%]", "6 tracked, 0 lost, 0 unreadable", str(folder)):
        assert part in result.stdout
    assert "…" not in result.stdout and result.stderr == ""


def test_overwriting_replaces_only_its_own_files(sequence: Path) -> None:
    assert cli("run", sequence, "--out", "runs/a").exit_code == 0
    Path("runs/a/notes.txt").write_text("mine")
    first = Path("runs/a/trajectory.tum").read_bytes()
    assert cli("run", sequence, "--out", "runs/a").exit_code == 1
    assert cli("run", sequence, "--out", "runs/a", "--overwrite", "--stop", 4).exit_code == 0
    assert Path("runs/a/notes.txt").read_text() == "mine"
    assert Path("runs/a/trajectory.tum").read_bytes() != first
    assert sorted(path.name for path in Path("runs/a").iterdir()) == sorted([*FILES, "notes.txt"])


def test_a_failed_overwrite_keeps_the_earlier_run(sequence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("run", sequence, "--out", "runs/a").exit_code == 0
    before = {path.name: path.read_bytes() for path in Path("runs/a").iterdir()}
    monkeypatch.setattr(Trajectory, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert cli("run", sequence, "--out", "runs/a", "--overwrite").exit_code == 1
    assert {path.name: path.read_bytes() for path in Path("runs/a").iterdir()} == before


def test_config_repeats_the_run(sequence: Path) -> None:
    settings = ("vo.keyframe_px=15", "vo.seed=3", "frontend.num_keypoints=250")
    assert cli("run", sequence, "--mode", "mono", "--stride", 2, "--out", "runs/a", *settings).exit_code == 0
    first = Path("runs/a/config.yaml").read_text().splitlines()[0]
    words = first.removeprefix("# slamfeat ").replace("config.yaml", "runs/a/config.yaml").split()
    assert cli(*words, "--out", "runs/b").exit_code == 0
    for name in ("trajectory.tum", "trajectory.kitti"):
        assert Path("runs/a", name).read_bytes() == Path("runs/b", name).read_bytes()
    assert json.loads(Path("runs/b/metrics.json").read_text())["frames"] == 3
    config = Path("runs/a/config.yaml").read_text().splitlines()
    assert {"engine: torch", "precision: fp32"} <= set(config)  # what ran, not the "auto" that was asked for


def test_evo_loads_both_trajectories(sequence: Path, tmp_path: Path) -> None:
    assert cli("run", sequence, "--out", "runs/a").exit_code == 0
    environment = {**os.environ, "HOME": str(tmp_path), "MPLBACKEND": "agg"}
    for kind in ("tum", "kitti"):
        command = [str(Path(sys.executable).with_name("evo_traj")), kind, f"runs/a/trajectory.{kind}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "6 poses" in done.stdout


def test_report_is_self_contained(sequence: Path) -> None:
    assert cli("run", sequence, "--out", "runs/a").exit_code == 0
    page = Path("runs/a/report.html").read_text()
    assert "data:image/png;base64," in page and "rgbd_dataset_freiburg1_six" in page
    assert not re.search(r"https?://|<script|<link", page)


def test_unreadable_frames_are_skipped_and_counted(sequence: Path) -> None:
    truncate(sorted((sequence / "rgb").iterdir())[2])
    row = cli_json("run", sequence, "--out", "runs/a")
    assert (row["frames"], row["tracked"], row["skipped"]) == (6, 5, 1)
    assert "skipped frame 2" in Path("runs/a/run.log").read_text()
    # KITTI's format has no times: a line must stay at its frame's place.
    poses = Trajectory.load("runs/a/trajectory.kitti", "kitti").poses
    assert len(poses) == 6 and (poses[2] == poses[1]).all() and not (poses[3] == poses[2]).all()


def test_ground_truth_elsewhere_in_time_keeps_the_run(sequence: Path) -> None:
    truth = sequence / "groundtruth.txt"
    lines = [line.split() for line in truth.read_text().splitlines() if not line.startswith("#")]
    truth.write_text("".join(f"{float(t) + 1000:.4f} {' '.join(rest)}\n" for t, *rest in lines))
    for mode in ("rgbd", "mono"):
        row = cli_json("run", sequence, "--mode", mode, "--out", f"runs/{mode}")
        assert row["tracked"] == 6 and row["ate_rmse_m"] is None and "no poses match in time" in row["note"]
    assert row["scale"] == "scale propagated between keyframes"


def interrupt_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Ctrl-C while the given image is worked on."""
    extract, calls = Frontend.extract, []

    def interrupted(self: Frontend, *arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return extract(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Frontend, "extract", interrupted)


def test_ctrl_c_keeps_what_was_tracked(sequence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 4)
    result = cli("run", sequence, "--out", "runs/a", "--json")
    assert result.exit_code == 130
    row = json.loads(result.stdout)
    # The fourth image is extracted ahead, when the second is about to be tracked or the third was already.
    assert row["interrupted"] and row["frames"] == row["tracked"] and 2 <= row["frames"] <= 4
    assert f"interrupted after {row['frames']} frames" in result.stderr
    assert sorted(path.name for path in Path("runs/a").iterdir()) == sorted(FILES)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_there_is_anything_to_keep(sequence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, 1)
    result = cli("run", sequence, "--out", "runs/a")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")
    assert not Path("runs/a").exists()


def test_logging_is_left_as_it_was(sequence: Path) -> None:
    logger = logging.getLogger("slamfeat")
    before = (logger.level, list(logger.handlers), list(logging.getLogger().handlers))
    assert cli("run", sequence, "--stop", 3).exit_code == 0
    assert (logger.level, list(logger.handlers), list(logging.getLogger().handlers)) == before


def test_a_mesh_beside_the_run(sequence: Path) -> None:
    result = cli("run", sequence, "--stop", 3, "--out", "runs/a", "--ply", "mesh.ply")
    assert result.exit_code == 0, result.output
    assert "written to runs/a and mesh.ply" in result.stdout
    header = Path("mesh.ply").read_bytes()[:400].decode(errors="replace")
    assert int(re.search(r"element vertex (\d+)", header)[1]) > 1000  # type: ignore[index]
