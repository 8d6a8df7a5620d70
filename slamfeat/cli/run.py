"""`slamfeat run PATH`: odometry over a sequence, evaluated and written to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slamfeat.cli.common import Json, Overrides, Recipe, Weights, console, messages, pipeline_config, progress_bar, show

if TYPE_CHECKING:
    from slamfeat.data import Sequence
    from slamfeat.vo import FrameReport, Odometry
    from slamfeat.vo.pipeline import PipelineConfig
    from slamfeat.vo.run import RunResult

EXAMPLES = (
    "Examples: [bold]slamfeat run rgbd_dataset_freiburg1_desk --mode rgbd[/bold] · "
    "[bold]slamfeat run KITTI/sequences/07 --stop 500 vo.keyframe_px=32[/bold] · "
    "[bold]slamfeat run clip.mp4 --camera calibration.json[/bold] · [bold]slamfeat run 0 --camera webcam.json[/bold]"
)
COLUMNS = {
    "sequence": "sequence", "frontend": "frontend", "mode": "mode", "tracked_percent": "tracked %",
    "align": "align", "ate_rmse_m": "ATE [m]", "rpe_trans_m": "RPE [m]", "rpe_rot_deg": "RPE [deg]",
    "kitti_trans_percent": "t_rel [%]", "fps": "FPS",
}  # fmt: skip


def run_command(
    path: Annotated[
        str, typer.Argument(help="TUM, EuRoC, KITTI or TartanAir sequence, image folder, video, camera index.")
    ],
    overrides: Overrides = None,
    mode: Annotated[str, typer.Option(help="mono, rgbd, or auto: rgbd where there is depth.")] = "auto",
    scale: Annotated[
        str, typer.Option(help="Monocular step length: groundtruth (a pair at a time), propagated, or auto.")
    ] = "auto",
    align: Annotated[str, typer.Option(help="sim3, se3, none, or auto: se3 where the scale is known.")] = "auto",
    camera: Annotated[Path | None, typer.Option(help="calibration.json that overrides the data's own.")] = None,
    start: Annotated[int, typer.Option(help="First frame.")] = 0,
    stop: Annotated[int | None, typer.Option(help="Stop before this frame.", show_default=False)] = None,
    stride: Annotated[int, typer.Option(help="Take every n-th frame.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/SEQUENCE_FRONTEND_MODE_TIME.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that is in --out.")] = False,
    ply: Annotated[Path | None, typer.Option(help="Also fuse an RGB-D run into a coloured mesh (open3d).")] = None,
    weights: Weights = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Track a sequence, evaluate it with evo where there is ground truth, and write a run folder."""
    from slamfeat.data import open_sequence

    config = pipeline_config(recipe, overrides, weights)
    sequence = open_sequence(path, camera=camera)
    if start or stop is not None or stride != 1:
        sequence = sequence.subset(start, stop, stride)
    row = run(
        sequence, config, mode=mode, scale=scale, align=align, out=out, overwrite=overwrite, ply=ply, quiet=as_json
    )
    show([row], COLUMNS, as_json)
    if not as_json:
        describe(row)


def run(
    sequence: Sequence, config: PipelineConfig, *, mode: str, scale: str, align: str,
    out: Path | None, overwrite: bool, ply: Path | None = None, quiet: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Run odometry and write the folder; returns the closing table's row. Options as on the command line."""
    from slamfeat.config import to_yaml
    from slamfeat.vo.pipeline import build_frontend
    from slamfeat.vo.run import summary, write_run
    from slamfeat.vo.runfolder import logging_to, point_latest, prepare_folder
    from slamfeat.vo.setup import build_odometry, choose_mode

    mode = choose_mode(mode, sequence)
    view = sequence.for_mode(mode)
    frontend = build_frontend(config)
    odometry = build_odometry(frontend, view, mode, scale, config.vo)
    folder = prepare_folder(out or default_folder(sequence.name, frontend.name, mode), overwrite)
    with logging_to(folder / "run.log"):
        result = _track(view, odometry, align, quiet)
    row = summary(result, sequence.name, odometry, folder)
    write_run(folder, to_yaml(config), result, row, view.groundtruth)
    point_latest(folder)
    if ply is not None:
        from slamfeat.viz.fusion import fuse_rgbd

        fuse_rgbd(view, result.trajectory, ply)
    return row


def default_folder(sequence: str, frontend: str, mode: str) -> Path:
    """runs/SEQUENCE_FRONTEND_MODE_TIME."""
    import datetime

    now = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{sequence}_{frontend}_{mode}_{now}"


def describe(row: dict[str, Any]) -> None:
    """What the table has no room for: the scale, remarks, and where the files are."""
    lost = row["frames"] - row["tracked"] - row["skipped"]
    console.print(
        f"{row['frames']} frames: {row['tracked']} tracked, {lost} lost, {row['skipped']} unreadable; "
        f"scale: {row['scale']}",
        highlight=False,
    )
    if row["note"]:
        console.print(f"note: {row['note']}", highlight=False, soft_wrap=True)
    console.print(f"written to {row['out']}", highlight=False, soft_wrap=True)


def _track(sequence: Sequence, odometry: Odometry, align: str, quiet: bool) -> RunResult:
    import time

    from slamfeat.vo.run import run_odometry

    started, tracked = time.perf_counter(), 0
    with progress_bar(sequence.name, sequence.length, quiet) as advance:

        def update(report: FrameReport) -> None:
            nonlocal tracked
            tracked += report.tracked
            seen = len(odometry.reports)
            rate = seen / (time.perf_counter() - started)
            advance(f"{rate:.1f} FPS, tracked {100 * tracked / seen:.0f} %")

        result = run_odometry(sequence, odometry, align, update)
    if result.interrupted:
        messages.print(f"interrupted after {len(result.reports)} frames; what was tracked is kept", style="yellow")
    return result
