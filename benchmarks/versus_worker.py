"""A worker of benchmarks.versus_commit: one frontend of one source tree, a round for every line on standard input.

    python -P versus_worker.py TREE float32|registry NAME IMAGE0 IMAGE1 THREADS KEYPOINTS

Runs with the tree's own slamfeat, older ones too, so it uses nothing but what they all have: `float32` builds
`Frontend.from_pretrained(NAME, dtype="float32")`, `registry` what `slamfeat bench` calls NAME. Answers are lines of
JSON: milliseconds of an extraction (mean of two) and of a match.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def build(kind: str, name: str, keypoints: int) -> Any:
    """The frontend."""
    if kind == "float32":
        from slamfeat import Frontend, FrontendConfig

        # Commits since the engines say engine and precision instead; only older ones are built this way.
        settings: dict[str, Any] = {"config": FrontendConfig(num_keypoints=keypoints), "dtype": "float32"}
        return Frontend.from_pretrained(name, **settings)
    from slamfeat.bench.registry import build_frontend

    return build_frontend(name, keypoints)


def measure(frontend: Any, images: list[Any]) -> tuple[float, float]:
    """Milliseconds of an extraction and of a match."""
    gc.collect()
    started = time.perf_counter()
    features = [frontend.extract(image) for image in images]
    extracted = time.perf_counter()
    frontend.match(*features)
    return 1e3 * (extracted - started) / 2, 1e3 * (time.perf_counter() - extracted)


def main() -> None:
    """Answer until standard input ends."""
    tree, kind, name, first, second, threads, keypoints = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    sys.path.insert(0, tree)
    import cv2
    import torch

    import slamfeat
    from slamfeat.image import read_image

    assert Path(slamfeat.__file__).is_relative_to(tree), f"{slamfeat.__file__} is not of {tree}"
    torch.set_num_threads(int(threads))
    cv2.setNumThreads(int(threads))
    frontend = build(kind, name, int(keypoints))
    images = [read_image(Path(path)) for path in (first, second)]
    for _ in sys.stdin:
        print(json.dumps(measure(frontend, images)), file=answers, flush=True)


if __name__ == "__main__":
    main()
