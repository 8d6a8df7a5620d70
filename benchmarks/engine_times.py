"""The measurements of benchmarks.engines in one process."""

from __future__ import annotations

import gc
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.engine_profile import operation_times
from slamfeat.backbones import Backbone
from slamfeat.backbones.load import parse_device
from slamfeat.bench.jobs import set_threads
from slamfeat.bench.peak import backbone_operations, matmul_peaks
from slamfeat.engines import Engine, make_engine
from slamfeat.errors import SlamfeatError
from slamfeat.files import write_text
from slamfeat.frontend.grid_choice import default_layer
from slamfeat.frontend.pretrained import SHIPPED, load_pretrained
from slamfeat.image import read_image

COMBINATIONS = tuple(
    (engine, precision)
    for engine, precisions in (
        ("torch", ("fp32", "bf16")), ("openvino", ("fp32", "bf16", "int8")), ("onnx", ("fp32", "int8")),
    )
    for precision in precisions
)  # fmt: skip
_IMAGES = 6
Key = tuple[str, str]


@dataclass(frozen=True)
class EngineJob:
    """All engines with one number of threads; sizes are WxH of the backbone's input."""

    target: Path
    data: Path
    weights: tuple[str, ...]
    sizes: tuple[str, ...]
    threads: int
    rounds: int


def measure(job: EngineJob) -> None:
    """Times, agreement and shares of every engine, written to the target as JSON."""
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    set_threads(job.threads)
    before = matmul_peaks()
    rows: list[dict[str, Any]] = []
    profiles: list[dict[str, Any]] = []
    for name in job.weights:
        backbone, _ = load_pretrained(name, parse_device("cpu"))
        # The last block that is there: of the shipped weights the one in use, of the official ones the twelfth.
        layers = [default_layer(backbone)] if name in SHIPPED else [backbone.depth - 1]
        engines, missing = _engines(backbone, layers)
        for size in job.sizes:
            say(f"{job.threads} threads, {name}, {size} …")
            images = _images(job.data, size)
            times = _times(engines, images[0], job.rounds)
            reference = [engines["torch", "fp32"](image)[0] for image in images]
            patch = backbone.patch_size
            columns, height = images[0].shape[-1] // patch, images[0].shape[-2] // patch
            operations = backbone_operations(backbone, layers, height, columns)
            for key, engine in engines.items():
                row = {"weights": name, "size": size, "tokens": height * columns, "threads": job.threads}
                row |= {"engine": key[0], "arithmetic": key[1], "median_ms": times[key]}
                row |= _agreement(engine, images, reference) | {"gflops": operations / times[key] / 1e6}
                rows.append(row | {"note": ""})
            best = min(engines, key=lambda key: times[key])
            profiles += _profile(engines, best, images[0], {"weights": name, "size": size, "threads": job.threads})
        rows += [{"weights": name, "threads": job.threads, **row} for row in missing]
    after = matmul_peaks()
    peaks = {key: max(value, after[key] or 0.0) if value else value for key, value in before.items()}
    rows = [row | _shares(row, peaks) for row in rows]
    found = {"rows": rows, "profiles": profiles, "peaks": [{"threads": job.threads, **peaks}]}
    write_text(job.target, json.dumps(found))


def _engines(backbone: Backbone, layers: list[int]) -> tuple[dict[Key, Engine], list[dict[str, Any]]]:
    """The engines that there are here, and rows that say why others are not."""
    engines: dict[Key, Engine] = {}
    missing = []
    for name, precision in COMBINATIONS:
        try:
            engines[name, precision] = make_engine(backbone, layers, engine=name, precision=precision)
        except SlamfeatError as error:
            missing.append({"engine": name, "arithmetic": precision, "note": str(error)})
    return engines, missing


def _images(data: Path, size: str) -> list[Tensor]:
    """(1, 3, H, W) in [0, 1]: train-split images that no engine was calibrated with."""
    width, height = map(int, size.split("x"))
    fox = sorted(path for path in (data / "handheld" / "ngp_fox_50").rglob("*") if path.suffix in (".jpg", ".png"))
    kodak = sorted(path for path in (data / "unlabelled" / "kodak24").iterdir() if path.suffix in (".jpg", ".png"))
    chosen = [*fox[:: max(1, len(fox) // (_IMAGES // 2))][: _IMAGES // 2], *kodak[: _IMAGES // 2]]
    small = [cv2.resize(read_image(path), (width, height), interpolation=cv2.INTER_AREA) for path in chosen]
    return [torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image in small]


def _times(engines: dict[Key, Engine], image: Tensor, rounds: int) -> dict[Key, float]:
    """Median milliseconds, the engines in turn; two rounds warm up."""
    spent: dict[Key, list[float]] = {key: [] for key in engines}
    with torch.inference_mode():
        for number in range(rounds + 2):
            for key, engine in engines.items():
                gc.collect()
                started = time.perf_counter()
                engine(image)
                if number > 1:
                    spent[key].append(1e3 * (time.perf_counter() - started))
    return {key: float(np.median(times)) for key, times in spent.items()}


def _agreement(engine: Engine, images: list[Tensor], reference: list[Tensor]) -> dict[str, float]:
    """Mean and lowest cosine of tokens."""
    with torch.inference_mode():
        each = [
            torch.cosine_similarity(engine(image)[0].float(), truth.float(), dim=1).flatten()
            for image, truth in zip(images, reference, strict=True)
        ]
    cosines = torch.cat(each)
    return {"cosine": float(cosines.mean()), "lowest_cosine": float(cosines.min())}


def _shares(row: dict[str, Any], peaks: dict[str, float | None]) -> dict[str, float | None]:
    """Percent of the peak in the row's own precision, and of the peak in bf16."""

    def share(precision: str) -> float | None:
        peak = peaks.get(precision)
        return 100 * row["gflops"] / peak if peak and "gflops" in row else None

    return {"of_own_peak_percent": share(row["arithmetic"]), "of_bf16_peak_percent": share("bf16")}


def _profile(engines: dict[Key, Engine], best: Key, image: Tensor, about: dict[str, Any]) -> list[dict[str, Any]]:
    if best[0] != "openvino":
        return []
    operations = operation_times(engines[best], image)
    return [{**about, "engine": best[0], "arithmetic": best[1], "operations": operations}]
