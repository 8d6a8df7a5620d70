"""`slamfeat weights list | get | verify`: the backbones' weights on this machine."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from slamfeat.cli.common import Json, Verb, Verbs, messages, say, tell

EXAMPLES = "Start with: [bold]slamfeat weights list[/bold]"

app = typer.Typer(cls=Verbs, no_args_is_help=True, help="List, get and verify the weights of the backbones.")


@app.command("list", cls=Verb, epilog="Example: [bold]slamfeat weights list --json[/bold]")
def list_weights(as_json: Json = False) -> None:
    """Show every backbone: parameters, licence, and whether its weights are stored."""
    from slamfeat.backbones.registry import BACKBONES

    rows = [_describe(name) for name in BACKBONES]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    console, table = Console(), Table("name", "parameters", "licence", "stored")
    table.columns[0].no_wrap = True
    for row in rows:
        state = f"yes, from {row['source']}" if row["stored"] else ("by hand: gated" if row["gated"] else "no")
        table.add_row(row["name"], f"{row['parameters'] / 1e6:.1f} M", row["licence"], state)
    console.print(table)
    for row in rows:
        if row["note"]:
            tell(f"{row['name']}: {row['note']}")


@app.command(cls=Verb, epilog="Example: [bold]slamfeat weights get dinov2-vits14[/bold]")
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from `slamfeat weights list`.")],
    force: Annotated[bool, typer.Option("--force", help="Fetch again even if stored.")] = False,
    as_json: Json = False,
) -> None:
    """Download weights once, check them and store them. Run again to resume an interrupted download."""
    from slamfeat.backbones.weights import get as get_weights

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=messages, transient=True)
    task = bar.add_task(name, total=None)

    def update(done: int, total: int | None) -> None:
        bar.start()  # only once there is something to show
        bar.update(task, completed=done, total=total)

    try:
        get_weights(name, force=force, log=say, progress=update)
    finally:
        bar.stop()
    _report([_describe(name)], as_json, "stored")


@app.command(cls=Verb, epilog="Example: [bold]slamfeat weights verify dinov2-vits14[/bold]")
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A backbone; all stored ones when left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute checksums and load strictly."""
    from slamfeat.backbones import store
    from slamfeat.backbones.registry import BACKBONES

    names = [name] if name else [known for known in BACKBONES if store.stored_path(known).exists()]
    for each in names:
        store.verify(each)
    _report([_describe(each) for each in names], as_json, "verified")


def _describe(name: str) -> dict[str, Any]:
    from slamfeat.backbones import store
    from slamfeat.backbones.registry import find_entry

    entry, path = find_entry(name), store.stored_path(name)
    metadata = store.stored_metadata(name) if path.exists() else {}
    return {
        "name": name,
        "patch_size": entry.architecture.patch_size,
        "embed_dim": entry.architecture.embed_dim,
        "depth": entry.architecture.depth,
        "parameters": entry.parameters,
        "licence": entry.licence,
        "gated": entry.gated,
        "url": entry.url,
        "hf_id": entry.hf_id,
        "official_sha256": entry.sha256,
        "stored": path.exists(),
        "path": str(path) if path.exists() else None,
        "source": metadata.get("source"),
        "sha256": metadata.get("sha256"),
        "note": metadata.get("note", ""),
    }


def _report(rows: list[dict[str, Any]], as_json: bool, verb: str) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        tell("no weights are stored; get some: slamfeat weights get dinov2-vits14")
    for row in rows:
        line = f"{row['name']}: {verb} in {row['path']} (from {row['source']}, sha256 {row['sha256']}). {row['note']}"
        tell(line.strip())
