"""A curation from images to a manifest; what an earlier run has done is taken up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from slamfeat.config import to_yaml
from slamfeat.curate.config import CurateConfig
from slamfeat.curate.embed import Embedder, loadable, made_with
from slamfeat.curate.engine import Engine
from slamfeat.curate.faiss_tools import require_faiss
from slamfeat.curate.folder import CurateFolder, stage_settings
from slamfeat.curate.listing import compute_digest, walk_images
from slamfeat.curate.search import block_rows
from slamfeat.curate.stages import CurateRun, curate_stores
from slamfeat.curate.store import UNREADABLE, EmbeddingStore
from slamfeat.curate.store_writer import StoreWriter, check_begun
from slamfeat.curate.watch import WatchedEngine
from slamfeat.errors import ImageError, InputError
from slamfeat.files import write_text

_SHOWN = 3  # unusable images named one by one; all are in the manifest


@dataclass(frozen=True)
class CurateInputs:
    """Folders of images.

    Attributes:
        images: the pool.
        evaluation: sets that the pool must not hold.
        queries: sets whose like is wanted.
    """

    images: Path
    evaluation: Sequence[Path] = ()
    queries: Sequence[Path] = ()


def curate(
    inputs: CurateInputs, out: Path, config: CurateConfig, engine: Engine, *, overwrite: bool = False,
    redo: str | None = None, command: str = "", say: Callable[[str], None] = lambda line: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:  # fmt: skip
    """Curate a folder of images into `out`, going on where an earlier run was left; returns the summary.

    Args:
        inputs: folders of images.
        out: folder of the run, see `folder`.
        config: settings.
        engine: carries out the tasks; the result does not depend on it.
        overwrite: begin anew.
        redo: a stage to make anew, with those after it; their settings may then differ.
        command: that repeats the run, for its config.yaml.
        say: gets remarks.
        stop: asked between tasks; the run then ends with KeyboardInterrupt and goes on when it is called again.

    Raises:
        InputError: no images, or none that can be used.
        ConfigError: settings other than those the folder was begun with, or too little memory.
        OutputError: the folder cannot be written, or the disk is full.
        MissingDependencyError: faiss is not installed.
    """
    require_faiss()
    for images in (inputs.images, *inputs.evaluation, *inputs.queries):
        if next(walk_images(images), None) is None:
            raise InputError(f"{images}: holds no images; check the path")
    folder = CurateFolder(out)
    evaluation, queries = _digests(inputs.evaluation), _digests(inputs.queries)
    settings = stage_settings(config, evaluation, queries)
    folder.check_place(redo)
    _check_before(inputs, folder, config, settings, overwrite=overwrite, redo=redo, here=engine.name == "local")
    folder.prepare(overwrite, redo)

    def tell(line: str) -> None:
        folder.note(line)
        say(line)

    run = CurateRun(folder, config, WatchedEngine(engine, tell, stop), tell, settings)
    with run.timed("embed"):
        store = embed_folder(run, inputs.images, folder.root / "embed" / "pool")
        sets = [
            [embed_folder(run, Path(one), folder.embeddings(kind, Path(one), digest)) for one, digest in found.items()]
            for kind, found in (("evaluation", evaluation), ("queries", queries))
        ]
    write_text(folder.config, (f"# {command}\n" if command else "") + to_yaml(config))
    return curate_stores(run, store, sets[0], sets[1], inputs.images)


def embed_folder(run: CurateRun, images: Path, folder: Path) -> EmbeddingStore:
    """The finished embeddings of a folder of images; errors as `curate`."""
    config = run.config.embed
    writer = StoreWriter(folder, walk_images(images), config.shard, made_with(images, config))
    if not writer.is_finished:
        embedder = Embedder(images, writer.listing, writer.shard, config)
        dim = embedder.check(run.engine.name == "local")
        block_rows(run.config.memory_mb, run.engine.together, dim)  # too little is said before any task
        for _ in run.engine.stream(embedder, list(writer.missing())):
            pass
        writer.finish()
    store = EmbeddingStore(folder)
    failures = [f"{images / store.listing.names(at, at + 1)[0]}: {why}" for at, why in islice(store.failures(), _SHOWN)]
    if not store.rows:
        raise ImageError(f"{images}: none of {store.listing.count} images can be used; first: {failures[0]}")
    for failure in failures:
        run.say(f"warning: skipped {failure}")
    if store.unreadable > _SHOWN:
        run.say(f"warning: skipped {store.unreadable - _SHOWN} more; {folder / UNREADABLE} lists them")
    return store


def _check_before(
    inputs: CurateInputs, folder: CurateFolder, config: CurateConfig, settings: Mapping[str, Mapping[str, Any]], *,
    overwrite: bool, redo: str | None, here: bool,
) -> None:  # fmt: skip
    """Raise what the run would, before anything that was made is deleted; errors as `curate`."""
    if overwrite:
        made_with(inputs.images, config.embed)
        loadable(config.embed, here)
        return
    folder.check(settings, redo)
    if redo is not None:
        made = made_with(inputs.images, config.embed)
        check_begun(folder.root / "embed" / "pool", walk_images(inputs.images), config.embed.shard, made)


def _digests(folders: Sequence[Path]) -> dict[str, str]:
    return {str(folder.resolve()): compute_digest(walk_images(folder))[1] for folder in folders}
