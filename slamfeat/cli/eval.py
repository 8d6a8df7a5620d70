"""`slamfeat eval EST REF`: errors of a trajectory against the ground truth, equal to evo's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slamfeat.cli.common import Json
from slamfeat.errors import InputError

if TYPE_CHECKING:
    from slamfeat.types import Trajectory

EXAMPLES = (
    "Examples:\n\n[bold]slamfeat eval runs/latest groundtruth.txt[/bold]\n\n"
    "[bold]slamfeat eval est.tum rgbd_dataset_freiburg1_desk --align se3[/bold]\n\n"
    "[bold]slamfeat eval est.tum V1_01_easy --json[/bold]"
)


class AlignChoice(StrEnum):
    """How the estimate is moved onto the reference."""

    sim3 = "sim3"
    se3 = "se3"
    none = "none"


class FormatChoice(StrEnum):
    """Layouts of trajectory files."""

    tum = "tum"
    kitti = "kitti"
    euroc = "euroc"


def eval_command(
    estimate: Annotated[Path, typer.Argument(metavar="EST", help="Estimated trajectory, or a run folder.")],
    reference: Annotated[
        Path,
        typer.Argument(
            metavar="REF",
            help="Ground truth: a TUM, KITTI or EuRoC file, or, best, a sequence's folder: "
            "EuRoC's data.csv is of the body, not the camera, and KITTI's poses have no times.",
        ),
    ],
    align: Annotated[
        AlignChoice | None,
        typer.Option(help="sim3 for monocular, se3 for metric methods.", show_default="a run's own, else sim3"),
    ] = None,
    max_diff: Annotated[
        float, typer.Option(metavar="SECONDS", help="Largest time between poses that belong together.")
    ] = 0.02,
    offset: Annotated[float, typer.Option(metavar="SECONDS", help="Added to the estimate's timestamps.")] = 0.0,
    delta: Annotated[int, typer.Option(metavar="N", min=1, help="Poses between the ends of a relative error.")] = 1,
    frames: Annotated[int | None, typer.Option(metavar="N", min=1, help="Frames there were, for tracked %.")] = None,
    format: Annotated[FormatChoice | None, typer.Option(help="Of both files; guessed if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Compare a trajectory with the ground truth: ATE, RPE and KITTI's segment errors, the same numbers as evo's."""
    from slamfeat.eval.trajectory import evaluate
    from slamfeat.types import Trajectory

    if estimate.is_dir():
        run = _run_of(estimate)
        frames, align = frames or run.frames, align or run.align
        estimate = estimate / ("trajectory.kitti" if format == FormatChoice.kitti else "trajectory.tum")
    loaded = Trajectory.load(estimate, format), _reference(reference, format)
    try:
        metrics = evaluate(
            *loaded,
            (align or AlignChoice.sim3).value,
            max_time_difference=max_diff,
            time_offset=offset,
            delta=delta,
            total_frames=frames,
        )
    except InputError as error:
        raise InputError(f"{estimate} and {reference}: {error}") from error
    row = {"estimate": str(estimate), "reference": str(reference), **metrics.as_dict()}
    if as_json:
        print(json.dumps(row, indent=2))
    else:
        _print_table(row)


@dataclass(frozen=True)
class _Run:
    """What a run's folder says: how many frames it had, lost ones among them, and how it was aligned."""

    frames: int | None = None
    align: AlignChoice | None = None


def _run_of(folder: Path) -> _Run:
    from slamfeat.vo.run import alignment_for

    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        # A run without ground truth of its own was not aligned: then as it would have been.
        align = metrics["align"] or alignment_for(metrics["mode"], metrics["scale"])
        return _Run(int(metrics["frames"]), AlignChoice(align))
    except (OSError, ValueError, KeyError, TypeError):
        return _Run()


def _reference(path: Path, format: FormatChoice | None) -> Trajectory:
    from slamfeat.data import open_sequence
    from slamfeat.types import Trajectory

    if not path.is_dir():
        return Trajectory.load(path, format)
    truth = open_sequence(path).groundtruth
    if truth is None:
        raise InputError(f"{path}: the sequence has no ground truth; give a trajectory file")
    return truth


def _print_table(row: dict[str, Any]) -> None:
    """One line a metric: a single trajectory has more metrics than a terminal has columns."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from slamfeat.eval.report import format_value, heading

    console, table = Console(), Table("metric", "value")
    table.columns[1].justify = "right"
    for key, value in row.items():
        if key not in ("estimate", "reference", "note") and value is not None:
            table.add_row(escape(heading(key)), escape(format_value(key, value)))
    console.print(f"{row['estimate']} against {row['reference']}", highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    if row["note"]:
        console.print(f"Note: {row['note']}", highlight=False, markup=False, soft_wrap=True)
