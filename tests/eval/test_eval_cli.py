"""`slamfeat eval` against the real `evo_ape` and `evo_rpe`, run as their own processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import typer
from eval_paths import disturbed, walk
from typer.testing import CliRunner

from slamfeat.cli.eval import eval_command
from slamfeat.errors import InputError
from slamfeat.types import Trajectory

app = typer.Typer()
app.command("eval")(eval_command)


def slamfeat_eval(*arguments: object) -> dict[str, float]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def evo(program: str, home: Path, *arguments: object) -> dict[str, float]:
    """Statistics of an evo program, at full precision from its result file."""
    out = home / "result.zip"
    out.unlink(missing_ok=True)
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments), "--save_results", str(out)]
    environment = {**os.environ, "HOME": str(home), "MPLBACKEND": "agg"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    with zipfile.ZipFile(out) as archive:
        return json.loads(archive.read("stats.json"))  # type: ignore[no-any-return]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """An estimate with lost frames and a clock 4 ms late, and its ground truth at another rate."""
    reference = walk(0, count=150)
    estimate = disturbed(reference, scale=0.4, late=0.004)
    keep = [i for i in range(150) if not 40 <= i < 60]
    estimate = Trajectory(estimate.timestamps[keep], estimate.poses[keep])
    return estimate.save(tmp_path / "est.tum"), reference.save(tmp_path / "ref.tum")


FLAGS = {"sim3": ["-as"], "se3": ["-a"], "none": []}


@pytest.mark.parametrize("align", list(FLAGS))
def test_equals_evo_ape(pair: tuple[Path, Path], tmp_path: Path, align: str) -> None:
    est, ref = pair
    ours = slamfeat_eval(est, ref, "--align", align)
    theirs = evo("evo_ape", tmp_path, "tum", ref, est, *FLAGS[align], "--t_max_diff", 0.02)
    for name in ("rmse", "mean", "median", "max"):
        assert ours[f"ate_{name}_m"] == pytest.approx(theirs[name], abs=1e-9, rel=1e-9)
    assert ours["matched"] == 130 and ours["total"] == 150
    assert slamfeat_eval(est, ref, "--frames", 260)["tracked_percent"] == 50.0


def test_equals_evo_rpe(pair: tuple[Path, Path], tmp_path: Path) -> None:
    est, ref = pair
    ours = slamfeat_eval(est, ref, "--align", "sim3", "--delta", 3)
    arguments = ("tum", ref, est, "-as", "--t_max_diff", 0.02, "-d", 3, "-u", "f")
    assert ours["rpe_trans_m"] == pytest.approx(evo("evo_rpe", tmp_path, *arguments)["rmse"], abs=1e-9)
    rotation = evo("evo_rpe", tmp_path, *arguments, "-r", "angle_deg")
    assert ours["rpe_rot_deg"] == pytest.approx(rotation["rmse"], abs=1e-9)


@pytest.mark.parametrize("format", ["kitti", "euroc"])
def test_other_formats_equal_evo_ape(tmp_path: Path, format: str) -> None:
    reference = walk(3, count=60)
    estimate = disturbed(reference, scale=2.0)
    suffix = {"kitti": "txt", "euroc": "csv"}[format]
    est = estimate.save(tmp_path / f"est.{suffix}", format)
    ref = reference.save(tmp_path / f"ref.{suffix}", format)
    ours = slamfeat_eval(est, ref)
    # evo takes EuRoC only for the ground truth; the estimate is then a TUM file.
    theirs = est if format == "kitti" else estimate.save(tmp_path / "est.tum")
    assert ours["ate_rmse_m"] == pytest.approx(evo("evo_ape", tmp_path, format, ref, theirs, "-as")["rmse"], abs=1e-9)


def test_table_and_run_folder(pair: tuple[Path, Path], tmp_path: Path) -> None:
    est, ref = pair
    run = tmp_path / "run"
    run.mkdir()
    est.rename(run / "trajectory.tum")
    result = CliRunner().invoke(app, [str(run), str(ref)], catch_exceptions=False)
    assert result.exit_code == 0
    for text in ("ATE [m]", "RPE [deg]", "tracked [%]", "86.67", "sim3"):
        assert text in result.output
    assert "r_rel" not in result.output  # the path is too short for KITTI's segments


def test_errors_reach_the_command_line(pair: tuple[Path, Path], tmp_path: Path) -> None:
    est, _ = pair
    far = walk(0, start=5.0).save(tmp_path / "far.tum")
    with pytest.raises(InputError, match="no poses match in time"):
        CliRunner().invoke(app, [str(est), str(far)], catch_exceptions=False)
    with pytest.raises(InputError, match=r"missing\.tum: no such trajectory file"):
        CliRunner().invoke(app, [str(est), str(tmp_path / "missing.tum")], catch_exceptions=False)
