"""Download and unpack MegaDepth-1500: python datasets/megadepth1500/prepare.py --dest DATA"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _fetch import main
from _pairs import packed_pairs

DATA = packed_pairs(
    "megadepth1500",
    "megadepth",
    licence="see the card: photographs of Flickr users, each under its own licence",
)

if __name__ == "__main__":
    sys.exit(main(DATA))
