"""Download and unpack ScanNet-1500: python datasets/scannet1500/prepare.py --dest DATA"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _fetch import main
from _pairs import packed_pairs

DATA = packed_pairs(
    "scannet1500",
    "scannet",
    licence="ScanNet terms of use, non-commercial: agree to them first (http://kaldir.vc.in.tum.de/scannet/ScanNet_TOS.pdf)",
)

if __name__ == "__main__":
    sys.exit(main(DATA))
