"""Fetching one file over HTTP so that an interrupted download goes on where it stopped."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slamfeat.errors import OutputError, WeightsError

Progress = Callable[[int, int | None], None]
_CHUNK = 1 << 20
_TIMEOUT_S = 30


def download(url: str, part: Path, sha256: str | None = None, progress: Progress | None = None) -> str:
    """Fetch `url` into `part`, going on from what is there already.

    Args:
        url: http or https.
        part: where the bytes go; kept when the connection breaks, so that the next call resumes.
        sha256: expected checksum, or its first digits. A mismatch deletes `part`, and after a resume tries once afresh.
        progress: called with (bytes so far, bytes in all or None).

    Returns:
        The sha256 of the file.

    Raises:
        WeightsError: no connection, refused, broken off, or a wrong checksum.
        OutputError: `part` cannot be written.
    """
    resumed = _size(part) > 0
    try:
        _fetch(url, part, progress)
    except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as error:
        raise WeightsError(f"{url}: {_cause(error)}; check the network and run the same command to go on") from error
    except OSError as error:
        raise OutputError(f"cannot write {part}: {error.strerror or error}; free space or set SLAMFEAT_HOME") from error
    digest = file_sha256(part)
    if sha256 and not digest.startswith(sha256):
        part.unlink()
        if resumed:  # the beginning may stem from an older file at that address
            return download(url, part, sha256, progress)
        raise WeightsError(f"{url}: checksum {digest[:16]}... instead of {sha256[:16]}...; it was changed on its way")
    return digest


def file_sha256(path: Path) -> str:
    """sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(url: str, part: Path, progress: Progress | None) -> None:
    start = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "slamfeat"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing left to send; the checksum decides whether it is the right file
            error.close()
            return
        raise
    with response:
        if response.status != 206:  # the server sends it whole
            start = 0
        _copy(response, part, start, progress)


def _copy(response: Any, part: Path, start: int, progress: Progress | None) -> None:
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else None
    done = start
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab" if start else "wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            if progress:
                progress(done, total)
    if total is not None and done < total:
        raise ConnectionError(f"broke off after {done} of {total} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _cause(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    return str(getattr(error, "reason", None) or error or type(error).__name__)
