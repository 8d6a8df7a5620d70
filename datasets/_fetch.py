"""What the prepare.py scripts share: download with resume, verify, extract safely, one command line.

    python datasets/NAME/prepare.py --list
    python datasets/NAME/prepare.py --dest DATA --sequence NAME [--dry-run] [--archive FILE ...] [--part WORD ...]

Archives are kept in DEST/archives. Where a checksum is known it is verified; where none is published, the checksum of
what arrived is written to DEST/archives/CHECKSUMS.sha256, and a later download that differs from it is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

BLOCK = 1 << 20


class FetchError(Exception):
    """Something the user can mend: the message says how."""


@dataclass(frozen=True)
class Source:
    """One archive.

    Attributes:
        file: its file name.
        urls: where it is, tried in turn; empty where a registration stands before it, and `how` says what to do.
        checksum: "sha256:..." or "md5:...", where one is known; the script says from where.
        optional: not fetched unless named by --part or given by --archive.
    """

    file: str
    urls: tuple[str, ...] = ()
    checksum: str | None = None
    how: str = ""
    optional: bool = False


@dataclass(frozen=True)
class DataSet:
    """A data set: the archives of each sequence, and how they become a folder that opens."""

    name: str
    licence: str
    sequences: dict[str, tuple[Source, ...]]
    unpack: Callable[[str, list[Path], Path], list[Path]]
    note: str = ""


def main(data: DataSet, arguments: list[str] | None = None) -> int:
    """Run a prepare.py; returns the exit code: 0, or 1 with one line on stderr."""
    options = _parse(data, arguments)
    if options.list:
        for name, sources in data.sequences.items():
            print(f"{name}: {', '.join(source.file for source in sources)}")
        return 0
    try:
        for name in list(data.sequences) if options.sequence == ["all"] else options.sequence:
            _prepare(data, name, options)
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on where it stopped", file=sys.stderr)
        return 130
    return 0


def download(url: str, target: Path) -> None:
    """Fetch `url` to `target` through `target`.part, going on where an earlier attempt stopped.

    Raises:
        FetchError: no connection, an error status, or fewer bytes than announced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "slamfeat", "Range": f"bytes={start}-"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            total = _receive(answer, part, start)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise FetchError(
                f"{url}: {error.code} {error.reason}; get {target.name} by hand, then --archive FILE"
            ) from error
        total = start  # Nothing is left to send: the part is the whole.
    except OSError as error:
        raise FetchError(f"{url}: {error}; run the same command again to go on where it stopped") from error
    if total is not None and part.stat().st_size != total:
        raise FetchError(f"{target.name}: {part.stat().st_size} of {total} bytes arrived; run the same command again")
    part.replace(target)


def download_any(urls: tuple[str, ...], target: Path) -> None:
    """`download` from the first address that works. Raises FetchError with all failures when none does."""
    failures = []
    for url in urls:
        print(f"{target.name}: downloading {url}")
        try:
            return download(url, target)
        except FetchError as error:
            failures.append(str(error))
    raise FetchError("; ".join(failures))


def checksum_of(path: Path, kind: str = "sha256") -> str:
    """Checksum of a file as "kind:hexadecimal"; `kind` is sha256 or md5."""
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def verify(path: Path, expected: str | None) -> None:
    """Check an archive against a known checksum, else against the one recorded when it first arrived (and record it).

    Raises:
        FetchError: they differ.
    """
    record = path.parent / "CHECKSUMS.sha256"
    lines = (line.split(maxsplit=1) for line in record.read_text().splitlines()) if record.exists() else ()
    known = {name: f"sha256:{digest}" for digest, name in lines}
    wanted = expected or known.get(path.name)
    actual = checksum_of(path, wanted.partition(":")[0] if wanted else "sha256")
    if wanted is None:
        with record.open("a") as file:
            file.write(f"{actual.partition(':')[2]}  {path.name}\n")
        print(f"{path.name}: no checksum is known for it; recorded {actual}")
    elif wanted != actual:
        raise FetchError(f"{path}: checksum is {actual}, expected {wanted}; delete the file and run again")


def members(archive: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Regular files of a zip or tar: name, and a function that opens it. Links and devices are left out.

    Raises:
        FetchError: not an archive, or a name that points outside the folder it would be extracted to.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                for info in bundle.infolist():
                    if not info.is_dir() and info.external_attr >> 28 != 0xA:
                        yield _safe(archive, info.filename), lambda info=info: bundle.open(info)  # type: ignore[misc]  # mypy cannot infer a lambda's default
        else:
            with tarfile.open(archive) as bundle_tar:
                for entry in bundle_tar:
                    if entry.isfile():
                        yield _safe(archive, entry.name), lambda entry=entry: bundle_tar.extractfile(entry)  # type: ignore[misc]  # mypy cannot infer a lambda's default
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise FetchError(f"{archive}: damaged or not an archive ({error}); delete it and run again") from error


def extract(archive: Path, dest: Path, rename: Callable[[str], str | None] = lambda name: name) -> int:
    """Extract to `dest` the files for which `rename` gives a path; returns their number."""
    count = 0
    for name, opened in members(archive):
        wanted = rename(name)
        if wanted is None:
            continue
        target = dest / _safe(archive, wanted)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        with opened() as source, part.open("wb") as out:
            shutil.copyfileobj(source, out, BLOCK)
        part.replace(target)
        count += 1
    return count


def _parse(data: DataSet, arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"Prepare {data.name}. Licence: {data.licence}. {data.note}")
    parser.add_argument("--dest", type=Path, default=Path("data") / data.name.lower(), help="folder to fill")
    parser.add_argument("--sequence", action="append", metavar="NAME", help="repeat for several, or 'all'")
    parser.add_argument(
        "--archive", action="extend", nargs="+", type=Path, default=[], help="archives you already have"
    )
    parser.add_argument(
        "--part", action="extend", nargs="+", default=[], help="only archives whose name holds the word"
    )
    parser.add_argument("--list", action="store_true", help="list sequences and their archives, then stop")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    options = parser.parse_args(arguments)
    if len(data.sequences) == 1:
        options.sequence = ["all"]
    if not options.sequence and not options.list:
        parser.error("name a --sequence (see --list), or --sequence all")
    unknown = [name for name in options.sequence or [] if name not in data.sequences and options.sequence != ["all"]]
    if unknown:
        parser.error(f"unknown sequence {unknown[0]}; see --list")
    return options


def _prepare(data: DataSet, name: str, options: argparse.Namespace) -> None:
    given = {path.name: path for path in options.archive}
    sources = [source for source in data.sequences[name] if _wanted(source, given, options.part)]
    if options.dry_run:
        for source in sources:
            origin = given.get(source.file) or " or ".join(source.urls) or source.how
            print(f"{name}: {source.file} from {origin}")
        return
    archives = [_obtain(source, given.get(source.file), options.dest / "archives") for source in sources]
    for folder in data.unpack(name, archives, options.dest):
        print(f"{name}: ready in {folder}")


def _wanted(source: Source, given: dict[str, Path], parts: list[str]) -> bool:
    if source.file in given:
        return True
    return any(part in source.file for part in parts) if parts else not source.optional


def _obtain(source: Source, given: Path | None, folder: Path) -> Path:
    if given is not None:
        if not given.is_file():
            raise FetchError(f"no such archive: {given}; check the path")
        if source.checksum and checksum_of(given, source.checksum.partition(":")[0]) != source.checksum:
            raise FetchError(f"{given}: checksum differs from {source.checksum}; download it again")
        return given
    target = folder / source.file
    if not target.exists():
        if not source.urls:
            raise FetchError(source.how)
        download_any(source.urls, target)
    verify(target, source.checksum)
    return target


def _receive(answer: IO[bytes], part: Path, start: int) -> int | None:
    """Append (or start anew where the server sends the whole); returns the announced size of the whole file."""
    headers, status = answer.headers, answer.status  # type: ignore[attr-defined]  # urlopen's result is typed as object
    resumed = status == 206
    length = headers.get("Content-Length")
    with part.open("ab" if resumed else "wb") as out:
        done = out.tell()
        total = None if length is None else int(length) + (start if resumed else 0)
        while block := answer.read(BLOCK):
            out.write(block)
            done += len(block)
            if sys.stderr.isatty():
                print(f"\r{done / 1e6:.0f} of {(total or 0) / 1e6:.0f} MB", end="", file=sys.stderr)
    return total


def _safe(archive: Path, name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name.split("/")[0]:
        raise FetchError(f"{archive}: holds the unsafe path {name!r}; do not use this archive")
    return str(path)
