"""Reports of made-up results: the right best in bold, true sentences, charts with pixels, a page that stands alone."""

from __future__ import annotations

import html.parser
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slamfeat.bench.charts import color_of, width_of, write_charts
from slamfeat.bench.looks import line_of, shown_name
from slamfeat.bench.page import page
from slamfeat.bench.reading import TASKS
from slamfeat.bench.standing import ahead, behind, standing_markdown
from slamfeat.bench.summaries import speed_totals
from slamfeat.bench.tables import by_gap, markdown, summary_markdown

Result = dict[str, Any]
HEADER = {
    "date": "2026-11-24", "cpu": "CPU <7>", "threads": "2 of 2", "torch": "2.13", "commit": "abc1234",
    "command": "slamfeat bench all data --out 'x & y'",
}  # fmt: skip
NAMES = ("slamfeat", "sift", "odd<&'\"name")
ODD = NAMES[2]


def result(task: str, rows: list[dict[str, Any]], **more: Any) -> Result:
    frontends = {name: {"settings": {"note": f"</pre> of {name}"}} for name in NAMES}
    return {"task": task, "header": HEADER, "num_keypoints": 9, "frontends": frontends, "rows": rows, **more}


def pose(frontend: str, data: str, group: str, pairs: int, auc: float | None, failed: str = "") -> dict[str, Any]:
    rates: dict[str, Any] = dict.fromkeys(("auc_1", "auc_2", "auc_5", "auc_10", "auc_20", "rot_auc_5"), auc)
    row = {"data": data, "group": group, "kind": "pose", "frontend": frontend, "pairs": pairs, **rates}
    return {**row, "median_deg": None if auc is None else 100.0 - auc, "failed": failed}


def planes(frontend: str, mma: float) -> dict[str, Any]:
    rates = {f"{kind}_{at}": mma for kind in ("h_auc", "mma") for at in (1, 3, 5, 10)}
    return {
        "data": "graf", "group": "view", "kind": "homography", "frontend": frontend, "pairs": 5, **rates, "failed": ""
    }  # fmt: skip


def run(frontend: str, sequence: str, ate: float | None, tracked: float, **more: Any) -> dict[str, Any]:
    return {
        "sequence": sequence, "mode": "mono", "scale": "ground-truth scale a pair", "frontend": frontend, "trials": 1,
        "tracked_percent": tracked, "ate_rmse_m": ate, "ate_spread_m": None, "rpe_trans_m": ate, "failed": "",
        "note": "", **more,
    }  # fmt: skip


def degraded(frontend: str, name: str, area: float) -> dict[str, Any]:
    levels = [
        {"amount": amount, "ate_rmse_m": ate, "tracked_percent": 90.0, "score_percent": area}
        for amount, ate in ((None, 0.1), (1.5, 0.2), (4, None))
    ]
    row = {"sequence": "s", "mode": "mono", "degradation": name, "unit": "px", "frontend": frontend}
    return {**row, "area_percent": area, "levels": levels, "failed": ""}


def timed(frontend: str, total: float) -> dict[str, Any]:
    row = {"size": "640x480", "threads": 1, "frontend": frontend, "extract_ms": 0.75 * total, "match_ms": 0.25 * total}
    return {**row, "total_ms": total, "vs_xfeat": None, "vs_sift": total / 20, "peak_mb": 100.0}


@pytest.fixture
def results() -> dict[str, Result]:
    """Ours is behind in the wide gap, on one sequence and in time, ahead elsewhere; the third frontend mostly fails."""
    ours, sift, odd = NAMES
    matching = [
        *(pose(ours, "walk", "gap 1", 30, 80.0), pose(sift, "walk", "gap 1", 30, 70.0)),
        pose(odd, "walk", "gap 1", 30, 75.0),
        pose(odd, "views", "all pairs", 4, None, "2 frames: 1 ValueError, 1 NaN"),
        *(pose(ours, "walk", "gap 2", 10, 40.0), pose(sift, "walk", "gap 2", 10, 60.0)),
        *(pose(ours, "views", "all pairs", 4, 10.0), pose(sift, "views", "all pairs", 4, 30.0)),
        *(planes(sift, 50.0), planes(ours, 50.01)),
        *(pose(ours, "all", "all", 44, 64.5), pose(sift, "all", "all", 44, 64.1)),
    ]
    vo = [
        *(run(ours, "00", 0.182, 100.0), run(sift, "00", 0.130, 100.0), run(odd, "00", 0.01, 20.0)),
        *(run(sift, "01", None, 0.0, note="lost", failed="3 frames: 3 NaN"), run(ours, "01", 4.0, 97.6)),
        *(run(ours, "02", None, 10.0), run(sift, "02", 1.0, 80.0)),
    ]
    robustness = [
        *(degraded(ours, "fog", 90.0), degraded(sift, "fog", 80.0), degraded(ours, "dark_room", 50.0)),
        *(degraded(sift, "dark_room", 50.0), degraded(odd, "dark_room", 1.0)),
        {"sequence": "all", "degradation": "all", "frontend": ours, "area_percent": 70.0},
        {"sequence": "all", "degradation": "all", "frontend": sift, "area_percent": 65.0},
    ]  # fmt: skip
    return {
        "matching": result("matching", matching, estimator="poselib 1 px"),
        "vo": result("vo", vo, pictures={"00 <mono>": "trajectories/00.png", "gone": "trajectories/gone.png"}),
        "robustness": result("robustness", robustness),
        "speed": result(
            "speed", [timed(ours, 50.0), timed(sift, 20.0)], stages={"640x480, 1 thread": {"select": 4.0}},
            peak={"1": {"fp32_gflops": 70.0, "backbone_precision": "bf16"}},
        ),
    }  # fmt: skip


def lines(text: str) -> dict[str, list[str]]:
    """Cells of a markdown table's lines by their first cell."""
    split = [
        [cell.strip() for cell in line.strip("| \n").split(" | ")] for line in text.splitlines() if line[:1] == "|"
    ]
    return {cells[0]: cells[1:] for cells in split}


def test_the_compact_matching_table_weights_gaps_by_pairs(results: dict[str, Result]) -> None:
    table = lines(summary_markdown(results["matching"]))
    assert table["frontend"] == ["AUC@5 all", "walk", "views", "MMA@3", "failed"]
    assert table["slamfeat"] == ["**64.5**", "**70.0**", "10.0", "**50.0**", "-"]  # (30 * 80 + 10 * 40) / 40
    assert table["sift"] == ["64.1", "67.5", "**30.0**", "**50.0**", "-"]  # equal as printed: both are the best
    # It lacks a gap of the one and the figure of the other: a mean over the rest would flatter it.
    assert table[ODD] == ["-", "-", "-", "-", "2 frames: 1 ValueError, 1 NaN (views)"]


def test_the_compact_vo_table_never_calls_a_lost_run_the_best(results: dict[str, Result]) -> None:
    text = summary_markdown(results["vo"])
    table = lines(text)
    assert table["sequence"] == ["mode", "scale", *NAMES]
    assert table["00"][2:] == ["0.182", "**0.130**", "0.010 (20 %)"]
    assert table["01"][2:4] == ["**4.000 (98 %)**", "lost (0 %)"]
    assert table["02"][2:4] == ["lost (10 %)", "**1.000 (80 %)**"]
    assert "01 mono, sift: 3 frames: 3 NaN" in text


def test_the_compact_robustness_and_speed_tables(results: dict[str, Result]) -> None:
    table = lines(summary_markdown(results["robustness"]))
    assert list(table)[2:] == ["fog", "dark_room", "all"]
    assert table["fog"] == ["**90.0**", "80.0", "-"]
    assert table["dark_room"] == ["**50.0**", "**50.0**", "1.0"]
    assert table["all"] == ["**70.0**", "65.0", "-"]
    speed = summary_markdown(results["speed"])
    assert "**20.0**" in speed and "| 50.0 |" in speed and "× xfeat" not in speed  # no row has that ratio
    totals = lines(speed_totals(results["speed"]).markdown())
    assert totals["frontend"] == ["640x480, 1 thread", "peak [MB]"]
    assert totals["slamfeat"] == ["50.0", "**100**"] and totals["sift"][0] == "**20.0**" and totals[ODD] == ["-", "-"]


def test_gaps_are_weighted_over_sequences() -> None:
    rows = [
        *(pose("slamfeat", "walk", "gap 1", 30, 80.0), pose("slamfeat", "drive", "gap 1", 10, 40.0)),
        *(pose("sift", "walk", "gap 1", 30, 60.0), pose("slamfeat", "walk", "gap 2", 5, 10.0)),
        pose("slamfeat", "views", "all pairs", 4, 1.0),
    ]
    table = by_gap(result("matching", rows), ["auc_5"])
    texts = [[cell.text for cell in row] for row in table.rows]
    assert texts == [["AUC@5", "gap 1", "70.0", "-", "-"], ["AUC@5", "gap 2", "10.0", "-", "-"]]


def test_all_rows_come_with_their_origin_and_in_the_order_of_frontends(results: dict[str, Result]) -> None:
    text = markdown(results["matching"])
    assert text.startswith("date 2026-11-24, cpu CPU <7>, threads 2 of 2, torch 2.13, commit abc1234; `slamfeat bench")
    assert "estimator poselib 1 px, 9 keypoints" in text
    rows = [line for line in text.splitlines() if line.startswith("| graf")]
    assert [row.split(" | ")[2] for row in rows] == ["slamfeat", "sift"]
    gap = next(line for line in text.splitlines() if "gap 2 | slamfeat" in line)
    assert "| 40.0 |" in gap and "**40.0**" not in gap
    assert "**20.000**" in next(line for line in text.splitlines() if "gap 1 | slamfeat" in line)  # least median error
    levels = markdown(results["robustness"])
    assert "| fog | 1.5 px | 0.200 (90 %) |" in levels and "| fog | 4 px | lost (90 %) |" in levels


def test_sentences_in_both_directions(results: dict[str, Result]) -> None:
    worse, better = behind(results), ahead(results)
    assert "00 mono, ground-truth scale a pair: ATE 0.182 m, sift 0.130 m" in worse
    assert "02 mono, ground-truth scale a pair: ATE lost (10 % tracked), sift 1.000 m (80 % tracked)" in worse
    assert "views: AUC@20 10.0, sift 30.0" in worse
    assert "640x480, 1 thread: extraction and match 50.0 ms, sift 20.0 ms" in worse
    assert "all pose pairs: AUC@5 64.5, sift 64.1" in better
    assert "01 mono, ground-truth scale a pair: ATE 4.000 m (98 % tracked), sift lost (0 % tracked)" in better
    assert "degradation fog: area 90.0 %, sift 80.0 %" in better
    assert len(worse) == 5 and len(better) == 7
    assert not any("MMA" in line or "dark_room" in line for line in worse + better)  # the same as printed
    text = standing_markdown(results)
    assert text.startswith("slamfeat is behind a peer in 5 headline figures, ahead of every peer in 7, level in 3.")
    assert text.count("\n- ") == 12


def test_the_standing_of_another_is_the_mirror(results: dict[str, Result]) -> None:
    for name in ("slamfeat", "sift"):  # of two frontends, what one is behind in the other is ahead in
        for task in results.values():
            task["rows"] = [row for row in task["rows"] if row["frontend"] != ODD]
        other = {"slamfeat": "sift", "sift": "slamfeat"}[name]
        assert len(behind(results, name)) == len(ahead(results, other)) > 0
    renamed = {"speed": result("speed", [timed("slamfeat", 50.0), timed("slamfeat:fast", 20.0)])}
    assert behind(renamed) == ahead(renamed) == []  # its own recipes are no peers


def test_charts_are_pictures_of_their_own_figures(results: dict[str, Result], tmp_path: Path) -> None:
    from PIL import Image

    charts = write_charts(results, tmp_path)
    assert set(charts) == {
        "overview", "matching_pose", "matching_homography", "vo_ate", "robustness_area", "robustness_s_mono", "speed_1"
    }  # fmt: skip
    for path in charts.values():
        with Image.open(path) as picture:
            assert picture.width >= 400 and picture.format == "PNG"
            colors = {color for _, color in picture.convert("RGB").getcolors(1 << 20) or ()}
            assert tuple(bytes.fromhex(color_of("slamfeat")[1:])) in colors
    assert len({color_of(name) for name in ("slamfeat", "orb", "sift", "xfeat", "disk+lightglue")}) == 5
    assert color_of("disk+lightglue-bf16") == color_of("disk+lightglue") and width_of("slamfeat") > width_of("orb")


class _Page(html.parser.HTMLParser):
    """Texts, tags that were not closed, and where attributes point."""

    VOID = ("meta", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.bold: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href")]
        self.ids += [value or "" for key, value in attrs if key == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open[-1:] == ["b"]:
            self.bold.append(data)


def read(text: str) -> _Page:
    parser = _Page()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_recipes_have_short_names_in_charts() -> None:
    assert shown_name("/a/long/way/to/mine/heads.yaml") == line_of("/a/long/way/to/mine/heads.yaml")["label"]
    assert shown_name("/a/long/way/to/mine/heads.yaml") == "mine/heads.yaml" and shown_name("orb") == "orb"


def test_the_page_stands_alone_and_escapes(results: dict[str, Result], tmp_path: Path) -> None:
    charts = write_charts(results, tmp_path / "charts")
    (tmp_path / "trajectories").mkdir()
    (tmp_path / "trajectories" / "00.png").write_bytes(charts["speed_1"].read_bytes())
    text = page(results, charts, tmp_path)
    parsed = read(text)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in parsed.links)
    assert not re.search(r"https?://|url\(|@import", text)
    assert {link[1:] for link in parsed.links if link[0] == "#"} <= set(parsed.ids)
    assert sum(link.startswith("data:") for link in parsed.links) == len(charts) + 1
    for wanted in (
        *NAMES,
        "</pre> of sift",
        "CPU <7>",
        "slamfeat bench all data --out 'x & y'",
        "abc1234",
        "00 <mono>",
    ):
        assert wanted in parsed.text
    assert "odd<" not in text and "<mono>" not in text
    assert "gone.png cannot be read" in parsed.text
    assert "0.130" in parsed.bold and "0.182" not in parsed.bold
    assert "prefers-color-scheme:dark" in text and "aria-sort" in text


def test_missing_tasks_rows_and_figures(results: dict[str, Result], tmp_path: Path) -> None:
    assert write_charts({}, tmp_path) == {}
    assert "<h1>" in page({}, {}, tmp_path) and behind({}) == [] and "- none" in standing_markdown({})
    for task in TASKS:
        bare = {"task": task, "rows": []}
        assert write_charts({task: bare}, tmp_path) == {} and summary_markdown(bare) == "" and markdown(bare) == ""
        read(page({task: bare}, {}, tmp_path))
        kept = ("data", "group", "kind", "sequence", "mode", "degradation", "size", "threads", "frontend")
        nulls = [
            {key: value if key in kept else None for key, value in row.items()} for row in results[task]["rows"]
        ]  # fmt: skip
        nothing = {task: {**results[task], "rows": nulls, "stages": None, "peak": None, "header": None}}
        charts = write_charts(nothing, tmp_path)
        read(page(nothing, charts, tmp_path))
        assert behind(nothing) == ahead(nothing) == [] and markdown(nothing[task])


def test_tables_need_no_matplotlib() -> None:
    code = (
        "import sys, slamfeat.bench.tables, slamfeat.bench.standing, slamfeat.bench.page, slamfeat.bench.charts\n"
        "assert not {'matplotlib', 'cv2', 'pycolmap'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
