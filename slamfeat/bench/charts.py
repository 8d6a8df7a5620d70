"""The charts of a benchmark: which there are, and where they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from slamfeat.bench import charts_matching, charts_robustness, charts_speed, charts_vo
from slamfeat.bench.looks import chart_file, color_of, width_of
from slamfeat.bench.reading import Result, distinct, rows_of

__all__ = ["color_of", "width_of", "write_charts"]


def write_charts(results: Mapping[str, Result], folder: Path) -> dict[str, Path]:
    """Draw what the results have figures for.

    Args:
        results: by task; any may be missing.
        folder: where the pictures go.

    Returns:
        Files by name: "overview", "matching_pose", "matching_homography", "vo_ate", "robustness_area",
        "robustness_SEQUENCE_MODE", "speed_THREADS". A chart without a figure to show is left out.

    Raises:
        OutputError: a picture cannot be written.
    """
    return {key: path for key, path, drawn in _drawn(results, folder) if drawn}


def _drawn(results: Mapping[str, Result], folder: Path) -> Iterator[tuple[str, Path, bool]]:
    simple = {
        "matching_pose": ("matching", charts_matching.pose_chart),
        "matching_homography": ("matching", charts_matching.homography_chart),
        "vo_ate": ("vo", charts_vo.ate_chart),
        "robustness_area": ("robustness", charts_robustness.area_chart),
    }
    path = chart_file(folder, "overview")
    yield "overview", path, charts_speed.overview_chart(results, path)
    for key, (task, draw) in simple.items():
        path = chart_file(folder, key)
        yield key, path, draw(results.get(task) or {}, path)
    robustness, speed = results.get("robustness") or {}, results.get("speed") or {}
    for sequence, mode in distinct([row for row in rows_of(robustness) if row.get("levels")], "sequence", "mode"):
        key = f"robustness_{sequence}_{mode}"
        path = chart_file(folder, key)
        yield key, path, charts_robustness.levels_chart(robustness, sequence, mode, path)
    for (threads,) in distinct(rows_of(speed), "threads"):
        key = f"speed_{threads}"
        path = chart_file(folder, key)
        yield key, path, charts_speed.speed_chart(speed, threads, path)
