"""The commit that the package is at, for whatever says what made it."""

from __future__ import annotations

import subprocess
from pathlib import Path

REPO = Path(__file__).parent.parent


def commit() -> str:
    """Short hash, with + where the tree differs from it; the version where there is no repository, or no git."""
    from slamfeat import __version__

    found = _git("rev-parse", "--short", "HEAD")
    changed = "+" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return found + changed if found else f"slamfeat {__version__}, no repository"


def _git(*words: str) -> str:
    """What git says of the checkout the package lies in; nothing for an installed package or a machine without git."""
    if not (REPO / ".git").exists():
        return ""
    try:
        done = subprocess.run(["git", *words], cwd=REPO, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
