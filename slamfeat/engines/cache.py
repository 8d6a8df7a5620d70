"""The folder of what engines have built: found again by what it was built from, verified, and never required."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from slamfeat.backbones.store import weights_folder
from slamfeat.engines.libraries import version

T = TypeVar("T")
logger = logging.getLogger("slamfeat.engines")
_MANIFEST = "manifest.json"
_BUILDING, _ABANDONED = ".building-", 24 * 3600.0  # prefix; seconds until nobody can be building there any more
_warned: set[Path] = set()


@dataclass(frozen=True)
class Entry:
    """One thing that can be kept.

    Attributes:
        kind: "graph" or "int8", for people who look into the folder.
        identity: everything it is made from, in one string.
        libraries: that made it. A library that is no longer installed does not spoil what it once made; another
            version of it does.
    """

    kind: str
    identity: str
    libraries: tuple[str, ...]

    @property
    def versions(self) -> dict[str, str | None]:
        """Installed versions of the libraries."""
        return {name: version(name) for name in self.libraries}

    @property
    def stem(self) -> str:
        """The name of the folder up to the versions."""
        return f"{self.kind}-{_digest(self.identity.encode())[:24]}"

    @property
    def folder(self) -> Path:
        """Where it goes when it is made now."""
        return engines_folder() / f"{self.stem}-{_digest(json.dumps(self.versions).encode())[:8]}"


def engines_folder() -> Path:
    """Beside the weights, see `store.weights_folder`: `~/.cache/slamfeat/engines` unless a variable says otherwise."""
    return weights_folder().parent / "engines"


def folder_bytes() -> int:
    """Size of all that is kept."""
    return sum(path.stat().st_size for path in engines_folder().rglob("*") if path.is_file())


def contains(entry: Entry) -> bool:
    """Whether an entry is there, made by the versions installed; its files are not verified."""
    return next(_candidates(entry), None) is not None


def load_or_build(
    entry: Entry, load: Callable[[Path], T], build: Callable[[], T], save: Callable[[T, Path], None]
) -> T:
    """What `load` reads from the entry's folder, or what `build` makes, which is then kept with `save`.

    A damaged entry is made again, a folder that cannot be written does without, and either is logged.
    """
    for folder in _candidates(entry):
        try:
            _verify(folder)
            return load(folder)
        except (OSError, ValueError, RuntimeError) as error:
            logger.warning("%s is damaged (%s); building it again", folder, _line(error))
    value = build()
    try:
        _keep(entry, lambda folder: save(value, folder))
    except (OSError, RuntimeError) as error:  # OpenVINO reports a full disk as RuntimeError
        if engines_folder() not in _warned:
            _warned.add(engines_folder())
            logger.warning(
                "cannot keep what was built in %s (%s); every start builds it again. Set SLAMFEAT_HOME to a folder of "
                "yours", engines_folder(), _line(error),
            )  # fmt: skip
    return value


def _candidates(entry: Entry) -> Iterator[Path]:
    installed = entry.versions
    try:
        folders = sorted(engines_folder().glob(f"{entry.stem}-*"))
    except OSError:
        return
    for folder in folders:
        made_by = _manifest(folder).get("versions", {})
        if folder == entry.folder or (
            made_by and all(installed.get(name) in (None, number) for name, number in made_by.items())
        ):
            yield folder


def _manifest(folder: Path) -> dict[str, dict[str, str]]:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _verify(folder: Path) -> None:
    files = _manifest(folder).get("files")
    if not files:
        raise ValueError("no manifest")
    for name, expected in files.items():
        if _digest((folder / name).read_bytes()) != expected:
            raise ValueError(f"{name} does not match its checksum")


def _keep(entry: Entry, write: Callable[[Path], None]) -> None:
    engines_folder().mkdir(parents=True, exist_ok=True)
    _sweep()
    temporary = Path(tempfile.mkdtemp(dir=engines_folder(), prefix=_BUILDING))
    try:
        write(temporary)
        files = {path.name: _digest(path.read_bytes()) for path in temporary.iterdir()}
        manifest = {"versions": entry.versions, "files": files}
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        temporary.chmod(0o755)
        with suppress(OSError, ValueError):  # another process was first, and may be reading its files
            _verify(entry.folder)
            return
        shutil.rmtree(entry.folder, ignore_errors=True)
        temporary.replace(entry.folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep() -> None:
    """Remove what processes left that died while they built."""
    for folder in engines_folder().glob(f"{_BUILDING}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
