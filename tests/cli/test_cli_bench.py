"""`slamfeat bench` from the command line: tables, JSON, errors in one line, and a run that is killed and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slamfeat.cli.main import app

SMALL = ["num_keypoints=300", "matching.gaps=[2]", "matching.per_gap=3"]


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["bench", *words])


def test_list_names_frontends_and_degradations() -> None:
    plain = call("list")
    assert plain.exit_code == 0 and "xfeat+lighterglue" in plain.output and "motion_blur" in plain.output
    listed = json.loads(call("list", "--json").output)
    assert {"slamfeat", "orb", "gftt-lk"} <= set(listed["frontends"])
    assert len(listed["degradations"]) == 10 and all(len(a) == 3 for a in listed["degradations"].values())


def test_matching_prints_a_table_and_json(sample: Path, tmp_path: Path) -> None:
    words = ["matching", str(sample), *SMALL, "-f", "orb", "-f", "sift", "--out", str(tmp_path), "--jobs", "0"]
    plain = call(*words)
    assert plain.exit_code == 0, plain.output
    assert "AUC@5" in plain.output and "orb" in plain.output and "expected to take about" in plain.output
    result = CliRunner().invoke(app, ["bench", *words, "--json"])
    rows = json.loads(result.stdout)["rows"]
    assert {row["frontend"] for row in rows} == {"orb", "sift"}
    assert all(row["pairs"] == 3 for row in rows)


def test_tasks_done_one_by_one_join_in_the_folder(sample: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    data = "{data: ['" + sample.name + "']}"
    recipe.write_text(f"matching: {data}\nvo: {{data: ['{sample.name}:rgbd@0:12:']}}\n")
    words = ["all", str(sample.parent), *SMALL, "--recipe", str(recipe), "--out", str(tmp_path / "run"), "--jobs", "0"]
    for task in ("vo", "matching"):
        made = call(*words, "-f", "orb", "--task", task)
        assert made.exit_code == 0, made.output
    assert {path.name for path in (tmp_path / "run" / "results").glob("*.json")} == {"matching.json", "vo.json"}
    page = (tmp_path / "run" / "results.html").read_text()
    assert "AUC@5" in page and "ATE" in page
    wrong = call(*words, "--task", "slam")
    assert wrong.exit_code == 1 and "unknown task 'slam'" in wrong.output


def test_speed_measures_every_frontend_and_the_ratios(sample: Path, tmp_path: Path) -> None:
    words = ["speed", str(sample), "num_keypoints=300", "speed.rounds=1", "speed.threads=[1]", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["bench", *words, "-f", "slamfeat", "-f", "sift", "--json"])
    assert result.exit_code == 0, result.output
    stored = json.loads(result.stdout)
    ours, sift = stored["rows"]
    assert ours["vs_sift"] == pytest.approx(ours["total_ms"] / sift["total_ms"]) and sift["vs_sift"] == 1
    assert ours["peak_mb"] > sift["peak_mb"] > 0
    stages = stored["stages"]["640x480, 1 thread"]
    assert {"select", "backbone", "match", "refine", "other"} <= set(stages)
    assert all(ms >= 0 for ms in stages.values()) and stages["backbone"] > 1
    peak = stored["peak"]["1"]
    assert 0 < peak["share_percent"] < 110 and peak["fp32_gflops"] > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["matching", "SAMPLE", "-f", "orbb"], "did you mean 'orb'"),
        (["matching"], "no data"),
        (["matching", "nowhere", "-f", "orb"], "nowhere"),
        (["vo", "SAMPLE:lidar", "-f", "orb"], "unknown mode 'lidar'"),
        (["vo", "SAMPLE:stereo", "-f", "orb"], "has no stereo data"),
        (["robustness", "SAMPLE:rgbd", "-d", "rain", "-f", "orb"], "unknown degradation 'rain'"),
        (["matching", "SAMPLE", "num_keypoint=3"], "did you mean 'num_keypoints'"),
        (["matching", "SAMPLE", "estimator=magsac"], "unknown estimator 'magsac'"),
    ],
)
def test_mistakes_are_one_line_with_the_fix(
    words: list[str], message: str, sample: Path, tmp_path: Path
) -> None:  # fmt: skip
    given = [word.replace("SAMPLE", str(sample)) for word in words]
    result = call(*given, "--out", str(tmp_path), "--jobs", "0")
    assert result.exit_code == 1
    line = result.output.strip().splitlines()[-1]
    assert line.startswith("error: ") and message in line


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(sample: Path, tmp_path: Path) -> None:
    """SIGKILL for parent and workers alike while jobs are under way; the second run makes only what is missing."""
    words = [
        sys.executable, "-m", "slamfeat.cli.main", "bench", "vo", f"{sample}:mono,rgbd@0:30:", f"{sample}:rgbd@5:45:",
        "-f", "orb", "-f", "sift", "-f", "gftt-lk", "num_keypoints=500", "--jobs", "2", "--json",
    ]  # fmt: skip
    first = [*words, "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(first, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    kept = tmp_path / "killed" / "predictions"
    deadline = time.monotonic() + 120
    while len(list(kept.rglob("*.npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)  # the parent alone: its workers must notice
    process.wait()
    time.sleep(2)
    assert not _alive_in_group(process.pid)
    stamps = {path: path.stat().st_mtime_ns for path in kept.rglob("*.npz")}
    assert 0 < len(stamps) < 12
    again = subprocess.run(first, capture_output=True, text=True, check=True)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    whole = subprocess.run([*words, "--out", str(tmp_path / "whole")], capture_output=True, text=True, check=True)
    timings = ("ms_extract", "ms_match", "ms_pose")
    rows = [
        [{key: value for key, value in row.items() if key not in timings} for row in json.loads(done.stdout)["rows"]]
        for done in (again, whole)
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 12


def _alive_in_group(group: int) -> list[int]:
    alive = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(state[2]) == group and state[0] != "Z" and int(entry.name) != os.getpid():
                alive.append(int(entry.name))
        except (OSError, IndexError):
            continue
    return alive
