"""`slamfeat curate IMAGES --out DIR`: a collection without duplicates, balanced, with the reason for every image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slamfeat.cli.common import Json, Recipe, finishing_first, say, settings_argument
from slamfeat.cli.tables import show

if TYPE_CHECKING:
    from slamfeat.curate import CurateConfig, Engine

EXAMPLES = (
    "Examples:\n\n[bold]slamfeat curate images/ --out curated sample.share=0.3[/bold]  (run again to go on)\n\n"
    "[bold]slamfeat curate images/ --out curated --evaluation test/ --queries good/[/bold]\n\n"
    "[bold]slamfeat curate images/ --out curated --from sample sample.target=1000[/bold]"
)
COLUMNS = {
    "images": "images", "unreadable": "unreadable", "dropped_by_dedup": "duplicates dropped",
    "dropped_for_evaluation": "dropped for evaluation", "dropped_by_sampling": "not sampled or retrieved",
    "retrieved": "retrieved", "kept": "kept", "clusters": "clusters", "gini_before": "Gini of the coarsest before",
    "gini_after": "Gini after", "manifest": "manifest", "page": "page",
}  # fmt: skip


class EngineName(StrEnum):
    """What carries out the work."""

    LOCAL = "local"
    RAY = "ray"


def curate_command(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder of images, searched in depth.")],
    overrides: Annotated[list[str] | None, settings_argument("sample.share=0.3")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the run, to begin or to go on with.")] = Path(
        "runs/curated"
    ),
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Images that must not be in the result; again for more.", show_default=False),
    ] = None,
    queries: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Images whose like is kept; again for more.", show_default=False),
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="Threads of this machine, or Ray.")] = EngineName.LOCAL,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Ray cluster; left out, Ray on this machine.", show_default=False),
    ] = None,
    redo: Annotated[
        str | None,
        typer.Option("--from", metavar="STAGE", help="Make dedup, cluster, retrieve or sample, and what follows, anew.",
                     show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew instead of going on.")] = False,
    weights: Annotated[
        str | None,
        typer.Option("--weights", "-w", metavar="NAME|FILE", show_default=False,
                     help="A backbone; left out, dinov2-vits14-int8, which the thresholds were chosen with."),
    ] = None,
    recipe: Recipe = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Embed, drop duplicates, cluster, retrieve and sample images; the same command goes on where it was interrupted.

    DIR/manifest.jsonl says of every image whether it is kept or dropped, by which stage and why; DIR/page.html shows
    duplicates and clusters. docs/curation.md says more.
    """
    from contextlib import closing
    from dataclasses import replace

    from slamfeat.config import load_config
    from slamfeat.curate import CurateConfig, CurateInputs, curate

    config = load_config(CurateConfig, recipe, overrides or ())
    if weights is not None:
        config.embed = replace(config.embed, weights=weights)
    inputs = CurateInputs(images, tuple(evaluation or ()), tuple(queries or ()))
    options = {"--out": [out], "--evaluation": inputs.evaluation, "--queries": inputs.queries,
               "--recipe": [recipe] if recipe else [], "--weights": [weights] if weights else []}  # fmt: skip
    with finishing_first() as asked, closing(_engine(engine, address, config)) as chosen:
        try:
            summary = curate(
                inputs, out, config, chosen, overwrite=overwrite, redo=redo, say=say, stop=asked,
                command=_command(images, options, overrides or ()),
            )  # fmt: skip
        except KeyboardInterrupt:
            say("what is done is kept; run the same command again to go on", "yellow")
            raise
    row = {**summary, "manifest": str(out / "manifest.jsonl"), "page": str(out / "page.html")}
    show([row if as_json else _readable(row)], COLUMNS, as_json)


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a run says of itself, with the coarsest clusters' evenness and the clusters of all levels as words."""
    coarsest = (row["evenness"] or [{}])[-1]
    evenness = {key: coarsest.get(key) for key in ("gini_before", "gini_after")}
    return {**row, **evenness, "clusters": " ".join(map(str, row["clusters"])) or None}


def _command(images: Path, options: Mapping[str, Sequence[object]], words: Sequence[str]) -> str:
    """What repeats the run on any engine."""
    import shlex

    given = [word for name, values in options.items() for value in values for word in (name, str(value))]
    return shlex.join(["slamfeat", "curate", str(images), *given, *words])


def _engine(name: EngineName, address: str | None, config: CurateConfig) -> Engine:
    from slamfeat.curate import LocalEngine
    from slamfeat.errors import ConfigError

    if name is EngineName.LOCAL:
        if address is not None:
            raise ConfigError("--address is Ray's; pass --engine ray with it")
        return LocalEngine(config.here)
    from slamfeat.curate.ray_engine import RayEngine

    return RayEngine(address, config.here if address is None else config.workers)
