"""`slamfeat run PATH`: odometry over a sequence, evaluated and written to a run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slamfeat.cli.common import (
    Json,
    Overrides,
    Recipe,
    Weights,
    finishing_first,
    pipeline_config,
    progress_bar,
    say,
    tell,
)  # fmt: skip
from slamfeat.cli.tables import show

if TYPE_CHECKING:
    from slamfeat.data import Sequence
    from slamfeat.frontend import Frontend
    from slamfeat.vo import FrameReport, Odometry
    from slamfeat.vo.pipeline import PipelineConfig
    from slamfeat.vo.run import RunResult

EXAMPLES = (
    "Examples:\n\n[bold]slamfeat run rgbd_dataset_freiburg1_desk --mode rgbd[/bold]\n\n"
    "[bold]slamfeat run KITTI/sequences/07 --stop 500 vo.keyframe_px=32[/bold]\n\n"
    "[bold]slamfeat run clip.mp4 --camera calibration.json[/bold]\n\n"
    "[bold]slamfeat run 0 --camera webcam.json[/bold]  (a live camera, until Ctrl-C)"
)
COLUMNS = {
    "sequence": "sequence", "frontend": "frontend", "mode": "mode", "scale": "scale",
    "tracked_percent": "tracked [%]", "align": "align", "ate_rmse_m": "ATE [m]", "rpe_trans_m": "RPE [m]",
    "rpe_rot_deg": "RPE [deg]", "kitti_trans_percent": "t_rel [%]", "fps": "FPS",
}  # fmt: skip


def run_command(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="TUM, EuRoC, KITTI, TartanAir or ScanNet sequence, image folder, "
                            "video, camera index.")
    ],
    overrides: Overrides = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            help="mono, rgbd, stereo, or auto: rgbd where there is depth, else stereo where there is a right camera.",
        ),
    ] = "auto",
    scale: Annotated[
        str,
        typer.Option(
            metavar="SCALE",
            help="Step lengths of a monocular run: groundtruth (a pair at a time), propagated, or auto.",
        ),
    ] = "auto",
    align: Annotated[
        str, typer.Option(metavar="ALIGN", help="sim3, se3, none, or auto: se3 where the scale is known.")
    ] = "auto",
    camera: Annotated[
        Path | None, typer.Option(metavar="FILE", help="calibration.json that overrides the data's own.")
    ] = None,
    start: Annotated[int, typer.Option(metavar="N", min=0, help="First frame.")] = 0,
    stop: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Stop before this frame.", show_default=False)
    ] = None,
    stride: Annotated[int, typer.Option(metavar="N", min=1, help="Take every n-th frame.")] = 1,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder; left out, a new one in runs/.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that is in --out.")] = False,
    ply: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also fuse an RGB-D run into a coloured mesh (.ply).")
    ] = None,
    weights: Weights = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Track a sequence, evaluate it with evo where there is ground truth, and write a run folder."""
    from slamfeat.data import open_sequence

    config = pipeline_config(recipe, overrides, weights)
    sequence = open_sequence(path, camera=camera)
    part = sequence.subset(start, stop, stride) if start or stop is not None or stride != 1 else sequence
    repeat = {"camera": camera, "start": start, "stop": stop, "stride": stride}
    row = run(part, config, mode=mode, scale=scale, align=align, out=out, overwrite=overwrite, ply=ply, repeat=repeat)
    show([row], COLUMNS, as_json)
    if not as_json:
        describe(row, ply)
    if row["interrupted"]:
        raise typer.Exit(130)


def run(
    sequence: Sequence, config: PipelineConfig, *, mode: str, scale: str, align: str, out: Path | None,
    overwrite: bool, ply: Path | None = None, repeat: dict[str, Any] | None = None, frontend: Frontend | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run odometry and write the folder; returns the closing table's row. Options as on the command line.

    `repeat` holds further options to note down in config.yaml; `frontend` is what `config` describes, if built already.
    """
    from slamfeat.config import to_yaml
    from slamfeat.run_log import logging_to
    from slamfeat.vo.pipeline import build_frontend
    from slamfeat.vo.run import check_align, summary
    from slamfeat.vo.runfolder import check_free, point_latest, run_folder, write_run
    from slamfeat.vo.setup import build_odometry, choose_mode

    check_align(align)
    if out:
        check_free(out, overwrite)
    chosen = choose_mode(mode, sequence)
    view = _checked_view(sequence, chosen, ply)
    frontend = frontend or build_frontend(config)
    config = replace(config, engine=frontend.engine.name, precision=frontend.engine.precision)  # no "auto" to repeat
    odometry = build_odometry(frontend, view, chosen, scale, config.vo)
    out = out or default_folder(sequence.name, frontend.name, chosen)
    command = command_line(sequence, {"mode": chosen, "scale": scale, "align": align, **(repeat or {})})
    with run_folder(out, overwrite) as folder:
        with logging_to(folder / "run.log"):
            result = _track(view, odometry, align, command)
        row = summary(result, sequence.name, odometry, out)
        write_run(folder, f"# {command} --recipe config.yaml\n{to_yaml(config)}", result, row, view.groundtruth)
    point_latest(out)
    if ply is not None:
        from slamfeat.viz.fusion import fuse_rgbd

        fuse_rgbd(view, result.trajectory, ply)
    return row


def default_folder(sequence: str, frontend: str, mode: str) -> Path:
    """runs/SEQUENCE_FRONTEND_MODE_TIME, numbered when two runs begin in one second."""
    import datetime

    now = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    plain = Path("runs") / f"{sequence}_{frontend}_{mode}_{now}"
    numbered = (plain.with_name(f"{plain.name}-{number}") for number in range(2, 1000))
    return plain if not plain.exists() else next(path for path in numbered if not path.exists())


def command_line(sequence: Sequence, options: dict[str, Any]) -> str:
    """The command of a run as a shell takes it, but for the recipe and --out."""
    import shlex

    words = ["slamfeat", "run", str(sequence.path.absolute() if sequence.path.exists() else sequence.path)]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", str(value.absolute() if isinstance(value, Path) else value)]
    return shlex.join(words)


def describe(row: dict[str, Any], ply: Path | None = None) -> None:
    """What the table has no room for: counts, remarks, and where the files are."""
    lost = row["frames"] - row["tracked"] - row["skipped"]
    tell(f"{row['frames']} frames: {row['tracked']} tracked, {lost} lost, {row['skipped']} unreadable")
    if row["backbone_percent"] < 100:
        tell(f"the backbone ran on {row['backbone_percent']:.0f} % of the frames; the rest carried its keypoints along")
    if row["note"]:
        tell(f"note: {row['note']}")
    tell(f"written to {row['out']}" + (f" and {ply}" if ply else ""))


def _checked_view(sequence: Sequence, mode: str, ply: Path | None) -> Sequence:
    """The frames to track, after everything that can be refused before the weights are loaded."""
    from slamfeat.errors import InputError

    if sequence.length == 0:
        raise InputError(f"{sequence.path}: --start and --stop leave no frames")
    view = sequence.for_mode(mode)
    _ = view.camera
    if ply is not None:
        from slamfeat.viz.fusion import check_fusion

        check_fusion(view, mode, ply)
    return view


def _track(sequence: Sequence, odometry: Odometry, align: str, command: str) -> RunResult:
    import logging
    import time

    from slamfeat.vo.run import run_odometry

    log, started, tracked = logging.getLogger("slamfeat"), time.perf_counter(), 0
    log.info("%s", command)
    with progress_bar(odometry.mode, sequence.length) as advance, finishing_first() as asked:

        def update(report: FrameReport) -> None:
            nonlocal tracked
            tracked += report.tracked
            if not report.tracked:
                log.info("frame %d lost: %s", report.index, report.reason)
            seen = len(odometry.reports)
            rate = seen / (time.perf_counter() - started)
            advance(f"{rate:.1f} FPS, tracked {100 * tracked / seen:.0f} %")

        result = run_odometry(sequence, odometry, align, update, asked)
    log.info("%d of %d frames tracked; %s", result.tracked, result.total, result.note or "evaluated")
    if result.interrupted:
        say(f"interrupted after {result.total} frames; what was tracked is kept", "yellow")
    return result
