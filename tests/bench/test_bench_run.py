"""The runner: a frontend's failures cost a frame, an interrupted run goes on, another configuration is refused."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slamfeat.bench.config import BenchConfig, MatchingConfig, RobustnessConfig, VoConfig
from slamfeat.bench.jobs import Job, run_jobs
from slamfeat.bench.run import run_tasks
from slamfeat.errors import ConfigError, InputError

FAULTY = '''
import sys
from pathlib import Path
import torch
sys.path.insert(0, {repo!r})
from dataclasses import replace
from slamfeat.bench.registry import build_frontend


class Faulty:
    """ORB that fails on chosen calls of extract, counted over its life."""

    name = "faulty"
    settings = {{"threshold": 7}}

    def __init__(self, count):
        self.inner, self.calls = build_frontend("orb", count), 0

    def extract(self, image, num_keypoints=None, mask=None):
        self.calls += 1
        if self.calls == 4:
            raise ValueError("the fourth frame")
        if self.calls == 6:
            return None
        found = self.inner.extract(image)
        if self.calls == 8:
            return replace(found, keypoints=found.keypoints * float("nan"))
        return found

    def match(self, features0, features1):
        return self.inner.match(features0, features1)


FRONTENDS = {{"faulty": Faulty}}
'''


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("peer") / "faulty.py"
    path.write_text(FAULTY.format(repo=str(Path(__file__).parents[2])))
    return str(path)


def config_for(sample: Path, *frontends: str) -> BenchConfig:
    return BenchConfig(
        frontends=list(frontends), num_keypoints=512,
        matching=MatchingConfig(data=[str(sample)], gaps=[1, 4], per_gap=4),
        vo=VoConfig(data=[f"{sample}:mono,rgbd@0:12:"]),
        robustness=RobustnessConfig(data=[f"{sample}:rgbd@0:30:5"], degradations=["jpeg"], levels=[0, 2]),
    )  # fmt: skip


def test_a_failing_frontend_costs_frames_and_no_other_result(sample: Path, faulty: str, tmp_path: Path) -> None:
    config = config_for(sample, "orb", faulty)
    results = run_tasks(["vo", "matching"], config, tmp_path, workers=0, command="test")
    by_name = {(row["frontend"], row["mode"], row["scale"]): row for row in results["vo"]["rows"]}
    assert len(by_name) == 6
    for (name, _, _), row in by_name.items():
        assert (row["failed"] == "") == (name == "orb")
    failed = next(row for (name, _, _), row in by_name.items() if name == faulty)
    assert failed["failed"] == "3 frames: 1 NaN, 1 ValueError, 1 nothing"
    assert failed["tracked_percent"] == pytest.approx(100 * 9 / 12)
    # What the faulty frontend did not spoil is what ORB alone gives.
    alone = run_tasks(["vo"], replace(config, frontends=["orb"]), tmp_path / "alone", workers=0, command="test")
    orb = [row for row in results["vo"]["rows"] if row["frontend"] == "orb"]
    keys = ("ate_rmse_m", "tracked_percent", "keyframes", "rpe_rot_deg")
    assert [[row[k] for k in keys] for row in orb] == [[row[k] for k in keys] for row in alone["vo"]["rows"]]
    text = (tmp_path / "results" / "vo.md").read_text()
    assert "3 frames: 1 NaN, 1 ValueError, 1 nothing" in text


def test_an_interrupted_run_goes_on_and_gives_the_same(sample: Path, tmp_path: Path) -> None:
    """Remove what had not been written yet: only that is computed again, and the rows are equal."""
    config, out = config_for(sample, "orb"), tmp_path / "out"
    first = run_tasks(["matching", "vo", "robustness"], config, out, workers=0, command="test")
    kept = sorted((out / "predictions").rglob("*.npz"))
    stamps = {path: path.stat().st_mtime_ns for path in kept}
    lost = kept[::3]
    for path in lost:
        path.unlink()
    second = run_tasks(["matching", "vo", "robustness"], config, out, workers=0, command="test")
    made_again = [path for path in kept if path.stat().st_mtime_ns != stamps[path]]
    assert made_again == lost
    timings = ("ms_extract", "ms_match", "ms_pose")
    for task in first:
        rows = [
            [{k: v for k, v in r.items() if k not in timings} for r in res[task]["rows"]] for res in (first, second)
        ]
        assert rows[0] == rows[1] and len(rows[0]) > 0


def test_runs_are_repeatable_with_a_seed_and_differ_between_seeds(sample: Path, tmp_path: Path) -> None:
    config = replace(config_for(sample, "orb"), vo=VoConfig(data=[f"{sample}:mono@0:12:"], trials=2))
    rows = [
        run_tasks(["vo"], config, tmp_path / name, workers=0, command="test")["vo"]["rows"][0] for name in ("a", "b")
    ]  # fmt: skip
    assert rows[0]["items"] == rows[1]["items"]
    assert rows[0]["trials"] == 2 and rows[0]["ate_spread_m"] is not None
    trials = [trial["ate_rmse_m"] for trial in rows[0]["items"]]
    assert rows[0]["ate_rmse_m"] == pytest.approx(np.median(trials))
    assert rows[0]["ate_spread_m"] == pytest.approx(np.ptp(trials) / 2)


def test_predictions_of_another_configuration_are_refused(sample: Path, tmp_path: Path) -> None:
    config = config_for(sample, "orb")
    run_tasks(["matching"], config, tmp_path, workers=0, command="test")
    other = replace(config, num_keypoints=256)
    with pytest.raises(ConfigError, match=r"num_keypoints=512 \(now 256\).*--overwrite"):
        run_tasks(["matching"], other, tmp_path, workers=0, command="test")
    rows = run_tasks(["matching"], other, tmp_path, workers=0, command="test", overwrite=True)["matching"]["rows"]
    assert all(row["matches"] <= 256 for row in rows)


def test_another_estimator_evaluates_the_same_predictions(sample: Path, tmp_path: Path) -> None:
    config = config_for(sample, "orb")
    poselib = run_tasks(["matching"], config, tmp_path, workers=0, command="test")["matching"]
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "predictions").rglob("*.npz"))]
    opencv = run_tasks(["matching"], replace(config, estimator="opencv"), tmp_path, workers=0, command="test")
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "predictions").rglob("*.npz"))] == stamps
    assert "poselib" in poselib["estimator"] and "opencv" in opencv["matching"]["estimator"]
    assert poselib["rows"][0]["matches"] == opencv["matching"]["rows"][0]["matches"]
    assert poselib["rows"] != opencv["matching"]["rows"]


def test_a_damaged_prediction_is_named_and_made_again(sample: Path, tmp_path: Path) -> None:
    config = config_for(sample, "orb")
    before = run_tasks(["robustness"], config, tmp_path, workers=0, command="test")
    victim = sorted((tmp_path / "predictions" / "robustness").rglob("*.npz"))[0]
    victim.write_bytes(victim.read_bytes()[:40])
    with pytest.raises(InputError, match=r"damaged.*removed; run the same command again"):
        run_tasks(["robustness"], config, tmp_path, workers=0, command="test")
    after = run_tasks(["robustness"], config, tmp_path, workers=0, command="test")
    assert after["robustness"]["rows"] == before["robustness"]["rows"]


def test_robustness_scores_follow_the_formula(sample: Path, tmp_path: Path) -> None:
    rows = run_tasks(["robustness"], config_for(sample, "orb"), tmp_path, workers=0, command="t")["robustness"]["rows"]
    row = rows[0]
    scores = [level["score_percent"] for level in row["levels"]]
    assert len(scores) == 3 and row["levels"][0]["amount"] is None
    assert row["area_percent"] == pytest.approx((scores[0] + 2 * scores[1] + scores[2]) / 4)
    assert all(0 <= score <= level["tracked_percent"] for score, level in zip(scores, row["levels"], strict=True))
    assert rows[-1]["degradation"] == "all"


def test_no_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bench vo: no data"):
        run_tasks(["vo"], BenchConfig(frontends=["orb"]), tmp_path, workers=0, command="test")
    said: list[str] = []
    missing = BenchConfig(frontends=["orb"], vo=VoConfig(data=[f"{tmp_path}/nowhere:mono@0:9:"]))
    with pytest.raises(InputError, match=r"bench vo: no such file or folder: .*/nowhere;"):
        run_tasks(["vo"], missing, tmp_path, workers=0, command="test", say=said.append)
    assert said == []  # before frontends are built and timed


def die() -> None:
    """What a crash in a library does to a process."""
    os._exit(11)


def write(path: Path, text: str) -> None:
    """A job that leaves something."""
    path.write_text(text)


def raise_it() -> None:
    """A job that fails."""
    raise RuntimeError("broken")


def test_a_dying_worker_is_named_and_the_others_finish(tmp_path: Path) -> None:
    jobs = [Job(f"good {i}", write, (tmp_path / f"{i}", "x"), seconds=float(i)) for i in range(4)]
    jobs += [Job("dies", die, (), seconds=9), Job("raises", raise_it, ())]
    failed = run_jobs(jobs, workers=2)
    assert set(failed) == {"dies", "raises"}
    assert "process died" in failed["dies"] and "RuntimeError: broken" in failed["raises"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3"]


def test_results_are_on_disk_as_json_markdown_and_page(sample: Path, tmp_path: Path) -> None:
    results = run_tasks(["matching", "vo"], config_for(sample, "orb"), tmp_path, workers=0, command="slamfeat bench x")
    for task in ("matching", "vo"):
        stored = json.loads((tmp_path / "results" / f"{task}.json").read_text())
        rows = [{key: value for key, value in row.items() if key != "items"} for row in results[task]["rows"]]
        assert stored == {**results[task], "rows": rows}
        lines = (tmp_path / "results" / f"{task}.items.jsonl").read_text().splitlines()
        assert [json.loads(line)["items"] for line in lines] == [
            r["items"] for r in results[task]["rows"] if "items" in r
        ]
        assert {"date", "cpu", "threads", "torch", "commit", "command"} <= set(stored["header"])
    page = (tmp_path / "results.html").read_text()
    assert "orb" in page and "slamfeat bench x" in page and "http" not in page.replace("http-equiv", "")
    pictures = results["vo"]["pictures"]
    assert pictures and all((tmp_path / "results" / name).exists() for name in pictures.values())
    shutil.rmtree(tmp_path)
