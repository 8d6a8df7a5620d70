"""`slamfeat demo`: the shipped real sequence on the shipped weights; ends with a table and three pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slamfeat.cli.common import Json, Weights, console, messages, pipeline_config, show

EXAMPLES = "Example: slamfeat demo --out runs/demo"
_GAP = 8


def demo_command(
    out: Annotated[
        Path, typer.Option(help="Folder for the runs and pictures; an earlier demo in it is replaced.")
    ] = Path("runs/demo"),
    frames: Annotated[int | None, typer.Option(help="Use only the first frames.", show_default=False)] = None,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Track 60 frames of TUM fr1/rpy, RGB-D and monocular, and draw trajectory, patch grid and matches."""
    from slamfeat.cli.run import COLUMNS, run
    from slamfeat.data import open_sequence

    sequence = open_sequence(sample_path()).subset(0, frames)
    config = pipeline_config(None, None, weights)
    rows = []
    for mode in ("rgbd", "mono"):
        messages.print(f"{sequence.name}: {len(sequence)} frames, {mode} …", highlight=False)
        rows.append(
            run(sequence, config, mode=mode, scale="auto", align="auto", out=out / mode, overwrite=True, quiet=as_json)
        )
    pictures = [out / "rgbd" / "trajectory.png", *_draw_pair(out)]
    for row in rows:
        row["pictures"] = [str(picture) for picture in pictures]
    show(rows, COLUMNS, as_json, title="slamfeat demo")
    if not as_json:
        console.print("mono: scaled by ground truth a pair, as DINO-VO is; rgbd: metric from depth", highlight=False)
        for picture in pictures:
            console.print(f"written {picture}", highlight=False, soft_wrap=True)


def sample_path() -> Path:
    """Where the sample sequence is: inside an installed package, or in a source checkout.

    Raises:
        InputError: in neither.
    """
    import slamfeat
    from slamfeat.errors import InputError

    package = Path(slamfeat.__file__).parent
    name = "rgbd_dataset_freiburg1_rpy_60"
    places = (package / "sample" / name, package.parent / "datasets" / "sample" / name)
    for place in places:
        if (place / "rgb.txt").exists():
            return place
    raise InputError(f"the sample sequence is not at {places[0]} or {places[1]}; install slamfeat again")


def _draw_pair(out: Path) -> list[Path]:
    """Grid and matches of two frames that lie a quarter of a second apart."""
    from slamfeat.cli.match import match_images
    from slamfeat.data import open_sequence
    from slamfeat.viz.pairs import plot_grid, plot_pair
    from slamfeat.vo.pipeline import build_frontend

    sequence = open_sequence(sample_path())
    images = sequence[0].image, sequence[_GAP].image
    frontend = build_frontend(pipeline_config(None, None, None))
    row, features, matches, inliers = match_images(frontend, images, ("frame 0", f"frame {_GAP}"))
    grid, pair = out / "grid.png", out / "matches.png"
    plot_grid(images[0], features, grid, "TUM fr1/rpy, frame 0")
    heading = f"TUM fr1/rpy, frames 0 and {_GAP}: {row['matches']} matches, {row['inliers']} agree on one motion"
    plot_pair(*images, features, matches, pair, inliers, heading)
    return [grid, pair]
