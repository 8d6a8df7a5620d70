"""`slamfeat extract IMAGES --out feats.h5`: features of many images, in hloc's layout."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slamfeat.cli.common import (
    Json,
    Overrides,
    Recipe,
    Weights,
    finishing_first,
    messages,
    pipeline_config,
    progress_bar,
    say,
)  # fmt: skip
from slamfeat.cli.tables import show
from slamfeat.cli.throughput import Throughput

if TYPE_CHECKING:
    from slamfeat.export.batch import Extraction
    from slamfeat.export.hloc import FeatureStore
    from slamfeat.frontend import Frontend

EXAMPLES = (
    "Examples:\n\n[bold]slamfeat extract images/ --out feats.h5[/bold]  (run again to go on)\n\n"
    "[bold]slamfeat extract a.png --out a.h5 frontend.num_keypoints=512[/bold]"
)
COLUMNS = {
    "images": "images", "done_before": "done before", "failed": "failed", "keypoints": "keypoints",
    "images_per_second": "images/s", "megapixels_per_second": "MP/s", "seconds": "seconds", "out": "out",
}  # fmt: skip


def extract_command(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="An image, or a folder of images (searched in depth).")
    ],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="HDF5 file to write or to go on with.")] = Path("feats.h5"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew instead of going on.")] = False,
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images of equal size at once; on a CPU more than 1 gains nothing.")
    ] = 1,
    weights: Weights = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Write keypoints, scores and descriptors of every image (hloc's layout), skipping those already there."""
    from slamfeat.export.hloc import FeatureStore, is_complete
    from slamfeat.image_files import image_files
    from slamfeat.vo.pipeline import build_frontend, settle_engine

    files = image_files(images)
    asked, frontend = pipeline_config(recipe, overrides, weights), None
    config = settle_engine(asked)
    if overwrite or not is_complete(out, files, config):
        frontend = build_frontend(asked)  # may fall back on another engine than was foreseen
        config = replace(asked, engine=frontend.engine.name, precision=frontend.engine.precision)
    with FeatureStore(out, config, overwrite) as store:
        todo = {name: file for name, file in files.items() if name not in store}
        tally = _Tally(Throughput(len(todo)), alone=len(files) == 1)
        if todo and frontend is not None:
            _extract(todo, frontend, store, batch, tally)
        passed = tally.passed
        passed.stop()
        _check(tally, len(files), len(todo), images)
    row = {
        "images": tally.written, "done_before": len(files) - len(todo), "failed": len(tally.failures),
        "keypoints": tally.keypoints, "images_per_second": passed.images_per_second,
        "megapixels_per_second": passed.megapixels_per_second, "seconds": passed.seconds, "out": str(out),
    }  # fmt: skip
    show([row], COLUMNS, as_json)


@dataclass
class _Tally:
    """What was done so far; `alone` when the whole folder is one image."""

    passed: Throughput
    alone: bool
    written: int = 0
    keypoints: int = 0
    failures: list[str] = field(default_factory=list)
    interrupted: bool = False


def _extract(todo: dict[str, Path], frontend: Frontend, store: FeatureStore, batch: int, tally: _Tally) -> None:
    from slamfeat.export.batch import extract_images

    with (
        progress_bar("extract", len(todo)) as advance,
        finishing_first() as asked,
        closing(extract_images(todo, frontend, batch)) as groups,
    ):
        for group in groups:
            for image in group:
                _keep(image, tally, store)
                advance(tally.passed.note)
            if not messages.is_terminal and tally.passed.is_due():
                say(tally.passed.line)
            if asked():
                tally.interrupted = True
                break


def _keep(image: Extraction, tally: _Tally, store: FeatureStore) -> None:
    tally.passed.add(image.size)
    if image.features is not None:
        tally.keypoints += store.write(image.name, image.features, image.slot)
        tally.written += 1
        return
    tally.failures.append(str(image.error))
    if not tally.alone:  # else it is the error that ends the command, see `_check`
        say(f"warning: skipped {image.error}", "yellow")


def _check(tally: _Tally, files: int, todo: int, images: Path) -> None:
    """Leave the store unfinished after Ctrl-C, and when nothing at all could be used."""
    from slamfeat.errors import ImageError

    if tally.interrupted:
        done = files - todo + tally.written
        say(f"{done} of {files} images are done and kept; run the same command again to go on", "yellow")
        raise KeyboardInterrupt
    if files == len(tally.failures):
        several = f"{images}: none of {files} images can be used; first: " if files > 1 else ""
        raise ImageError(several + tally.failures[0])
