"""`slamfeat demo`: the shipped real sequence on the shipped weights; ends with a table and three pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slamfeat.cli.common import Json, Weights, pipeline_config, say, tell
from slamfeat.cli.tables import show

if TYPE_CHECKING:
    from slamfeat.data import Sequence
    from slamfeat.frontend import Frontend

EXAMPLES = "Example: [bold]slamfeat demo --out runs/demo[/bold]"
COLUMNS = {
    "mode": "mode", "tracked_percent": "tracked [%]", "align": "align", "ate_rmse_m": "ATE [m]",
    "rpe_trans_m": "RPE [m]", "rpe_rot_deg": "RPE [deg]", "fps": "FPS",
}  # fmt: skip
_GAP = 8


def demo_command(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the runs and pictures; an earlier demo in it is replaced.")
    ] = Path("runs/demo"),
    frames: Annotated[
        int | None, typer.Option(metavar="N", min=3, help="Use only the first frames.", show_default=False)
    ] = None,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Track 60 frames of TUM fr1/rpy, RGB-D and monocular, and draw trajectory, patch grid and matches."""
    from slamfeat.cli.run import run
    from slamfeat.data import open_sequence
    from slamfeat.sample import sample_path
    from slamfeat.vo.pipeline import build_frontend

    sequence = open_sequence(sample_path()).subset(0, frames)
    config = pipeline_config(None, None, weights)
    frontend = build_frontend(config)
    rows = []
    for mode in ("rgbd", "mono"):
        say(f"{sequence.name}: {len(sequence)} frames, {mode} …")
        row = run(
            sequence, config, mode=mode, scale="auto", align="auto", out=out / mode, overwrite=True, frontend=frontend,
            repeat={"stop": frames},
        )  # fmt: skip
        rows.append(row)
        if row["interrupted"]:
            raise typer.Exit(130)
    pictures = [*(out / mode / "trajectory.png" for mode in ("rgbd", "mono")), *_draw_pair(sequence, frontend, out)]
    for row in rows:
        row["pictures"] = [str(picture) for picture in pictures]
    show(rows, COLUMNS, as_json, title=f"{sequence.name}, frontend {frontend.name}")
    if not as_json:
        tell("rgbd: metric from depth. mono: step lengths from ground truth, as DINO-VO is measured.")
        tell("The camera mostly turns, and the settings were chosen on such frames: a demonstration, not a benchmark.")
        for picture in pictures:
            tell(f"written {picture}")


def _draw_pair(sequence: Sequence, frontend: Frontend, out: Path) -> list[Path]:
    """Grid and matches of two frames that lie a quarter of a second apart."""
    from slamfeat.cli.match import match_images
    from slamfeat.viz.grid import plot_grid
    from slamfeat.viz.pairs import plot_pair

    gap = min(_GAP, len(sequence) - 1)
    images = sequence[0].image, sequence[gap].image
    row, features, matches, inliers = match_images(frontend, images, ("frame 0", f"frame {gap}"))
    grid, pair = out / "grid.png", out / "matches.png"
    plot_grid(images[0], features, grid, "TUM fr1/rpy, frame 0")
    heading = f"TUM fr1/rpy, frames 0 and {gap}: {row['matches']} matches, {row['inliers']} agree on one motion"
    plot_pair(*images, features, matches, pair, inliers, heading)
    return [grid, pair]
