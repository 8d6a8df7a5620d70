"""What a run will take, from one frame of every frontend."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from slamfeat.bench.config import BenchConfig
from slamfeat.bench.guard import GuardedFrontend
from slamfeat.bench.registry import build_frontend, fingerprint
from slamfeat.files import write_text

Cost = dict[str, tuple[float, float]]
_SIZE = (640, 480)


def measure_costs(config: BenchConfig, out: Path) -> Cost:
    """Seconds an extraction takes a megapixel, and seconds a match, by frontend, with one thread.

    Every frontend is built, so that missing weights show before anything is computed. Known costs are read from
    OUT/costs.json.

    Raises:
        WeightsError: weights of a frontend are missing.
        ConfigError: an unknown frontend.
    """
    store = out / "costs.json"
    known: dict[str, list[float]] = _read(store)
    for name in config.frontends:
        frontend = build_frontend(name, config.num_keypoints)
        key = f"{name} {fingerprint(name)} {config.num_keypoints}"
        if key not in known:
            known[key] = list(_measure(GuardedFrontend(frontend, config.num_keypoints)))
            write_text(store, json.dumps(known, indent=1) + "\n")
    keys = {name: f"{name} {fingerprint(name)} {config.num_keypoints}" for name in config.frontends}
    return {name: (known[key][0], known[key][1]) for name, key in keys.items()}


def _measure(frontend: GuardedFrontend) -> tuple[float, float]:
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        images = _two_images()
        frontend.match(frontend.extract(images[0]), frontend.extract(images[1]))
        started = time.perf_counter()
        features = [frontend.extract(image) for image in images]
        extracted = time.perf_counter()
        frontend.match(*features)
        matched = time.perf_counter()
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
    return (extracted - started) / 2 / (_SIZE[0] * _SIZE[1] / 1e6), matched - extracted


def _two_images() -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Smoothed noise and the same moved: enough texture to fill all slots and to match."""
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (_SIZE[1] + 8, _SIZE[0] + 8, 3), dtype=np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2.5).astype(np.float32)
    spread = (blurred - blurred.min()) / (blurred.max() - blurred.min())
    smooth = (255 * spread).astype(np.uint8)
    return [np.ascontiguousarray(smooth[o : o + _SIZE[1], o : o + _SIZE[0]]) for o in (0, 8)]


def _read(store: Path) -> dict[str, list[float]]:
    try:
        return dict(json.loads(store.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def in_words(seconds: float) -> str:
    """A duration for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
