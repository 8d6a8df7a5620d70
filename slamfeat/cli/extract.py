"""`slamfeat extract IMAGES --out feats.h5`: features of many images, in hloc's layout."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from slamfeat.cli.common import Json, Overrides, Recipe, Weights, messages, pipeline_config, progress_bar, show

EXAMPLES = (
    "Examples: [bold]slamfeat extract images/ --out feats.h5[/bold] (run again to resume) · "
    "[bold]slamfeat extract a.png --out a.h5 frontend.num_keypoints=512[/bold]"
)
COLUMNS = {
    "images": "images",
    "done_before": "done before",
    "failed": "failed",
    "keypoints": "keypoints",
    "fps": "FPS",
    "out": "out",
}


def extract_command(
    images: Annotated[Path, typer.Argument(help="An image, or a folder of images (searched in depth).")],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="HDF5 file to write or to go on with.")] = Path("feats.h5"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew instead of going on.")] = False,
    weights: Weights = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Write keypoints, scores and descriptors of every image (hloc's layout), skipping those already there."""
    from slamfeat.errors import ImageError
    from slamfeat.export.hloc import FeatureStore, image_files
    from slamfeat.image import read_image
    from slamfeat.vo.pipeline import build_frontend

    files = image_files(images)
    config = pipeline_config(recipe, overrides, weights)
    frontend = build_frontend(config)
    keypoints, failures, written, started = 0, [], 0, time.perf_counter()
    with FeatureStore(out, config, overwrite) as store:
        todo = {name: file for name, file in files.items() if name not in store}
        with progress_bar("extract", len(todo), as_json) as advance:
            for name, file in todo.items():
                try:
                    features = frontend.extract(read_image(file))
                    if not features.mask.any():
                        raise ImageError(f"{file}: no keypoints, the image has no texture; leave it out")
                    keypoints += store.write(name, features)
                    written += 1
                except ImageError as error:
                    failures.append(str(error))
                    messages.print(f"warning: skipped {error}", style="yellow", highlight=False, soft_wrap=True)
                advance(f"{(written + len(failures)) / (time.perf_counter() - started):.1f} images/s")
        if failures and not written and len(todo) == len(files):
            raise ImageError(failures[0])
    row = {
        "images": written, "done_before": len(files) - len(todo), "failed": len(failures), "keypoints": keypoints,
        "fps": written / (time.perf_counter() - started), "out": str(out),
    }  # fmt: skip
    show([row], COLUMNS, as_json)
