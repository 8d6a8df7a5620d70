"""Milliseconds of every stage of a frontend with trained heads, in torch and in OpenVINO, beside XFeat + LighterGlue.

    python -m benchmarks.heads_speed --out benchmarks/results/heads_speed

All take turns in one process with one thread; the least of the rounds counts. Two of the shipped frames, 640x480. The
matcher is timed at each depth. `same matches`: share of the pairs that torch's float32 finds in neighbouring frames of
the sample, before refinement, that are found. Without `--heads` the weights are the published ones of XFeat and
LighterGlue with small random ones for the tokens (benchmarks/published_heads.py) and a random refiner, whose time is
that of a trained one. Writes OUT.json and .md.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.heads_stages import Image, Stages, stages_of, whole
from benchmarks.peers.xfeat import xfeat_lighterglue
from benchmarks.published_heads import published_heads
from slamfeat.backbones.load import parse_device
from slamfeat.bench.jobs import set_threads
from slamfeat.bench.provenance import header, header_line
from slamfeat.engines import make_engine
from slamfeat.errors import SlamfeatError
from slamfeat.eval import markdown_table
from slamfeat.files import write_text
from slamfeat.frontend.config import FrontendConfig
from slamfeat.frontend.frontend import Frontend
from slamfeat.frontend.grid_choice import layers_of
from slamfeat.frontend.heads.bundle import Heads, load_heads
from slamfeat.frontend.matcher import MatcherConfig
from slamfeat.frontend.matching import match_features
from slamfeat.frontend.pretrained import load_pretrained
from slamfeat.frontend.refine import RefineConfig
from slamfeat.image import read_image
from slamfeat.sample import sample_path

ENGINES = (("torch", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"))
PEER = "xfeat+lighterglue"
AGREEMENT_PAIRS, GAP = 8, 6


def frontends(weights: str, heads: str, keypoints: int, say: Callable[[str], None]) -> dict[str, Frontend]:
    """The same frontend on each engine that is there, by "engine precision"."""
    backbone, _ = load_pretrained(weights, parse_device("cpu"))
    config = FrontendConfig(
        num_keypoints=keypoints, matcher=MatcherConfig("attention"), refine=RefineConfig(method="learned")
    )
    given: Heads | None = load_heads(heads) if heads else None
    if given is not None:
        config = replace(config, layers=[given.about.layer])
    layers = layers_of(backbone, config)
    made = {}
    for engine, precision in ENGINES:
        try:
            tokens = make_engine(backbone, layers, engine, precision)
        except SlamfeatError as error:
            say(f"{engine} {precision}: {error}")
            continue
        parts = copy.deepcopy(given) if given else published_heads(backbone.name, layers[0], backbone.embed_dim)
        made[f"{engine} {precision}"] = Frontend(backbone, config, engine=tokens, heads=parts)
    return made


def least_times(stages: Mapping[str, Stages], rounds: int) -> dict[str, dict[str, float]]:
    """Least milliseconds by frontend and stage, all in turn; one round warms up."""
    least: dict[str, dict[str, float]] = {name: {} for name in stages}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, each in stages.items():
                for stage, call in each.items():
                    started = time.perf_counter()
                    call()
                    spent = 1e3 * (time.perf_counter() - started)
                    if number:
                        least[name][stage] = min(spent, least[name].get(stage, spent))
    return least


def same_matches(fronts: Mapping[str, Frontend], frames: Sequence[Image]) -> dict[str, float]:
    """Percent of the first frontend's matches that each of the others finds too, without refinement."""
    found = {name: [_indices(front, *pair) for pair in itertools.pairwise(frames)] for name, front in fronts.items()}
    reference = next(iter(found.values()))
    return {
        name: 100 * sum(int(((a >= 0) & (a == b)).sum()) for a, b in zip(reference, pairs, strict=True))
        / max(1, sum(int((a >= 0).sum()) for a in reference))
        for name, pairs in found.items()
    }  # fmt: skip


def _indices(frontend: Frontend, first: Image, second: Image) -> torch.Tensor:
    features = frontend.extract(first), frontend.extract(second)
    unrefined = replace(frontend.config, refine=RefineConfig(method="none"))
    return match_features(*features, unrefined, frontend.heads).indices


def table(times: Mapping[str, Mapping[str, float]], same: Mapping[str, float]) -> list[dict[str, str]]:
    """A row a stage, a column a frontend."""
    rows = []
    for stage in dict.fromkeys(stage for each in times.values() for stage in each):
        cells = {name: f"{each[stage]:.1f}" if stage in each else "" for name, each in times.items()}
        rows.append({"stage [ms]": stage, **cells})
    rows.append(
        {"stage [ms]": "same matches [%]", **{name: f"{same[name]:.1f}" if name in same else "" for name in times}}
    )
    return rows


def run(given: argparse.Namespace) -> None:
    """Measure and write."""
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    set_threads(given.threads)
    paths = sorted((sample_path() / "rgb").iterdir())[::GAP][: AGREEMENT_PAIRS + 1]
    images = [read_image(path) for path in paths]
    fronts = frontends(given.weights, given.heads, given.keypoints, say)
    same = same_matches(fronts, images)
    stages = {name: stages_of(frontend, *images[:2]) for name, frontend in fronts.items()}
    stages[PEER] = whole(xfeat_lighterglue(given.keypoints), *images[:2])
    times = least_times(stages, given.rounds)
    facts: dict[str, Any] = header("python -m benchmarks.heads_speed " + shlex.join(sys.argv[1:]))
    facts |= {"data": f"{len(paths)} shipped frames 640x480", "heads": given.heads or "published, random tokens"}
    facts["keypoints"] = given.keypoints
    write_text(
        given.out.with_suffix(".json"), json.dumps({"header": facts, "ms": times, "same": same}, indent=1) + "\n"
    )
    text = f"{header_line(facts)}\n\n{markdown_table(table(times, same))}\n"
    write_text(given.out.with_suffix(".md"), text)
    sys.stdout.write(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    parser.add_argument("--heads", default="", help="trained heads; the published weights without")
    parser.add_argument("--weights", default="default", help="of the backbone")
    parser.add_argument("--keypoints", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    run(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
