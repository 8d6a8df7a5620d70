"""`slamfeat match A B`: features and matches of two images, counted, checked for geometry, and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slamfeat.cli.common import Json, Overrides, Recipe, Weights, pipeline_config, tell
from slamfeat.cli.tables import show

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slamfeat.frontend import Frontend
    from slamfeat.types import Features, Matches

EXAMPLES = (
    "Examples:\n\n[bold]slamfeat match a.png b.png --save pair.png[/bold]\n\n"
    "[bold]slamfeat match a.png b.png frontend.num_keypoints=2048 --save-grid grid.png[/bold]"
)
COLUMNS = {
    "frontend": "frontend", "keypoints0": "keypoints A", "keypoints1": "keypoints B", "matches": "matches",
    "inliers": "inliers", "ms_extract": "ms extract", "ms_match": "ms match",
}  # fmt: skip


def match_command(
    image_a: Annotated[Path, typer.Argument(metavar="A", help="First image.")],
    image_b: Annotated[Path, typer.Argument(metavar="B", help="Second image.")],
    overrides: Overrides = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the matches.")] = None,
    save_grid: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw A's patch grid, keypoints and token colours.")
    ] = None,
    weights: Weights = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:
    """Match two images; inliers are those that agree on one fundamental matrix (MAGSAC++, 1 px)."""
    from slamfeat.image import read_image
    from slamfeat.viz.figure import check_picture
    from slamfeat.vo.pipeline import build_frontend

    for target in filter(None, (save, save_grid)):
        check_picture(target)
    images = read_image(image_a), read_image(image_b)
    frontend = build_frontend(pipeline_config(recipe, overrides, weights))
    row, features, matches, inliers = match_images(frontend, images, (str(image_a), str(image_b)))
    if save:
        from slamfeat.viz.pairs import plot_pair

        heading = (
            f"{image_a.name} and {image_b.name} · {frontend.name}: {row['matches']} matches, "
            f"{row['inliers']} agree on one motion"
        )
        plot_pair(*images, features, matches, save, inliers, heading)
    if save_grid:
        from slamfeat.viz.grid import plot_grid

        plot_grid(images[0], features, save_grid, image_a.name)
    show([row], COLUMNS, as_json)
    for picture in (save, save_grid):
        if picture and not as_json:
            tell(f"written {picture}")


def match_images(
    frontend: Frontend, images: tuple[NDArray[np.uint8], NDArray[np.uint8]], names: tuple[str, str]
) -> tuple[dict[str, Any], Features, Matches, NDArray[np.bool_]]:
    """Extract and match; returns the table's row, the first image's features, the matches and who is an inlier (M,).

    Raises:
        ImageError: an image has no keypoints.
    """
    import time

    from slamfeat.errors import ImageError
    from slamfeat.geometry.fundamental import fundamental_inliers

    started = time.perf_counter()
    features = [frontend.extract(image) for image in images]
    for one, name in zip(features, names, strict=True):
        if not one.mask.any():
            raise ImageError(f"{name}: no keypoints, the image has no texture; use another image")
    extracted = time.perf_counter()
    matches = frontend.match(*features)
    matched = time.perf_counter()
    inliers = fundamental_inliers(*matches.numpy()[:2])
    row = {
        "image0": names[0], "image1": names[1], "frontend": frontend.name,
        "keypoints0": int(features[0].mask.sum()), "keypoints1": int(features[1].mask.sum()),
        "matches": len(matches), "inliers": int(inliers.sum()),
        "ms_extract": 1e3 * (extracted - started) / 2, "ms_match": 1e3 * (matched - extracted),
    }  # fmt: skip
    return row, features[0], matches, inliers
