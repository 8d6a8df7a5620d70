"""`slamfeat extract IMAGES --out feats.h5`: features of many images, in hloc's layout."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
)  # fmt: skip
from slamfeat.cli.tables import show

if TYPE_CHECKING:
    from slamfeat.export.hloc import FeatureStore
    from slamfeat.frontend import Frontend

EXAMPLES = (
    "Examples:\n\n[bold]slamfeat extract images/ --out feats.h5[/bold]  (run again to go on)\n\n"
    "[bold]slamfeat extract a.png --out a.h5 frontend.num_keypoints=512[/bold]"
)
COLUMNS = {
    "images": "images", "done_before": "done before", "failed": "failed", "keypoints": "keypoints", "fps": "FPS",
    "out": "out",
}  # fmt: skip


def extract_command(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="An image, or a folder of images (searched in depth).")
    ],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="HDF5 file to write or to go on with.")] = Path("feats.h5"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew instead of going on.")] = False,
    weights: Weights = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Write keypoints, scores and descriptors of every image (hloc's layout), skipping those already there."""
    from slamfeat.export.hloc import FeatureStore, image_files
    from slamfeat.vo.pipeline import build_frontend

    files = image_files(images)
    config = pipeline_config(recipe, overrides, weights)
    with FeatureStore(out, config, overwrite) as store:
        todo = {name: file for name, file in files.items() if name not in store}
        tally = _extract(todo, build_frontend(config), store) if todo else _Tally()
        _check(tally, len(files), len(todo), images)
    row = {
        "images": tally.written, "done_before": len(files) - len(todo), "failed": len(tally.failures),
        "keypoints": tally.keypoints, "fps": tally.fps, "out": str(out),
    }  # fmt: skip
    show([row], COLUMNS, as_json)


@dataclass
class _Tally:
    """What was done so far."""

    written: int = 0
    keypoints: int = 0
    failures: list[str] = field(default_factory=list)
    interrupted: bool = False
    started: float = field(default_factory=time.perf_counter)

    @property
    def fps(self) -> float:
        """Images a second, unusable ones among them."""
        return (self.written + len(self.failures)) / (time.perf_counter() - self.started)


def _extract(todo: dict[str, Path], frontend: Frontend, store: FeatureStore) -> _Tally:
    from slamfeat.errors import ImageError

    tally = _Tally()
    with progress_bar("extract", len(todo)) as advance, finishing_first() as asked:
        for name, file in todo.items():
            try:
                tally.keypoints += _extract_one(name, file, frontend, store)
                tally.written += 1
            except ImageError as error:
                tally.failures.append(str(error))
                if len(todo) > 1:
                    say(f"warning: skipped {error}", "yellow")
            advance(f"{tally.fps:.1f} images/s")
            if asked():
                tally.interrupted = True
                break
    return tally


def _extract_one(name: str, file: Path, frontend: Frontend, store: FeatureStore) -> int:
    from slamfeat.errors import ImageError
    from slamfeat.image import read_image

    features = frontend.extract(read_image(file))
    if not features.mask.any():
        raise ImageError(f"{file}: no keypoints, the image has no texture; leave it out")
    return store.write(name, features)


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
