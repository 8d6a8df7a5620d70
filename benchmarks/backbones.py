"""What backbones are worth, side by side: probes on images, and poses of pairs by their tokens alone.

    python -m benchmarks.backbones default runs/distill/cpu_student/slamfeat-vits14-2.safetensors \\
        --images ../shared/data/unlabelled/imagenet_sample1000_256 --groups imagenet_groups \\
        --data ../shared/data --out benchmarks/results/backbones

Beside the backbones named stand raw pixels, and the last backbone's architecture with weights nobody trained.
Neighbours and linear layer know the images that pretraining may have seen, and are asked for those that --held-out, the
recipe's data.held_out, kept from it. With --data, poses of the train split's pairs (configs/bench/train_split.yaml) are
found from tokens alone, without local descriptors. Images are brought to --size, the recipe's probes.size: 112 for
cpu_vitt14 and its like. Times are of one image of that size in torch, float32, one thread, all in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.backbones_table import write_table
from benchmarks.command import parse_noting, run_and_show
from slamfeat.backbones import Backbone
from slamfeat.backbones.checkpoints import read_metadata
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.own import architecture_in
from slamfeat.backbones.registry import Architecture, find_entry
from slamfeat.bench.config import BenchConfig, quick, rooted
from slamfeat.bench.figures import data_figure
from slamfeat.bench.provenance import header
from slamfeat.bench.run import run_tasks
from slamfeat.config import load_config
from slamfeat.files import write_text
from slamfeat.frontend.pretrained import SHIPPED, load_pretrained
from slamfeat.pretrain.probes import ProbeConfig, Probes
from slamfeat.pretrain.probes.classes import held_out_accuracy, linear_accuracy
from slamfeat.pretrain.probes.features import Describe, by_backbone, by_pixels
from slamfeat.pretrain.recipe import ImagesConfig
from slamfeat.pretrain.run import open_data
from slamfeat.pretrain.sources import open_images, photo_of, split_names
from slamfeat.train.textures import is_held_out

RECIPE = Path(__file__).parent.parent / "configs" / "bench" / "train_split.yaml"
REPEATS = 15


@dataclass(frozen=True)
class Candidate:
    """What is judged.

    Attributes:
        name: shown.
        patch: pixels.
        describe: what the probes look at.
        backbone: None for raw pixels.
        weights: what a recipe calls it; empty where it has no file.
    """

    name: str
    patch: int
    describe: Describe
    backbone: Backbone | None = None
    weights: str = ""


def candidates(names: Sequence[str]) -> list[Candidate]:
    """Raw pixels, untrained weights of the last backbone's kind, and the backbones by their names or files."""
    found = []
    for weights, shown in zip(names, shown_names(names), strict=True):
        backbone, _ = load_pretrained(weights, torch.device("cpu"))
        found.append(Candidate(shown, backbone.patch_size, by_backbone(backbone), backbone, weights))
    last = found[-1].backbone
    assert last is not None
    untrained = random_like(last, names[-1])
    random = Candidate(f"{found[-1].name}, untrained", last.patch_size, by_backbone(untrained), untrained)
    return [Candidate("raw pixels", last.patch_size, by_pixels(last.patch_size)), random, *found]


def shown_names(names: Sequence[str]) -> list[str]:
    """Names, and of files their stems, with as many of their folders as tell them apart."""
    files = [Path(name).expanduser().resolve().with_suffix("") if is_file(name) else Path(name) for name in names]
    parts = [file.parts for file in files]
    shown = [part[-1] for part in parts]
    for length in range(2, max(map(len, parts)) + 1):
        repeated = [name for name in shown if shown.count(name) > 1]
        shown = ["/".join(p[-length:]) if s in repeated else s for s, p in zip(shown, parts, strict=True)]
    return shown


def is_file(name: str) -> bool:
    """Whether `load_pretrained` takes this for a file."""
    path = Path(name).expanduser()
    return name not in SHIPPED and bool(path.suffix or path.exists())


def random_like(backbone: Backbone, weights: str) -> Backbone:
    """The same architecture with weights nobody trained; leaves torch's generator as it is.

    Args:
        backbone: the trained one.
        weights: where it is from, a name or a file.
    """
    architecture = architecture_of(weights, backbone.name).with_depth(backbone.depth)
    return random_backbone(architecture, backbone.name).freeze()


def architecture_of(weights: str, name: str) -> Architecture:
    """Of the whole backbone behind a name or a file, which may hold its first blocks only.

    Args:
        weights: the name or file.
        name: the backbone's own.

    Raises:
        ConfigError: a file that does not say how its backbone is built, of a name that is not published.
    """
    path = SHIPPED.get(weights) or Path(weights).expanduser()
    own = architecture_in(read_metadata(path), path) if path.is_file() else None
    return own or find_entry(name).architecture


def probe(one: Candidate, probes: Probes, with_classes: bool, held_out: float) -> dict[str, float]:
    """Figures of one candidate; shares in per cent."""
    said = probes.judge(one.describe, one.patch)
    figures = {"correspondence": 100 * said["score"], **{key: said[key] for key in ("rank", "cosine", "entropy")}}
    if with_classes:
        whole, labels, asked = probes.classed(one.describe, one.patch)
        held = torch.tensor([is_held_out(photo_of(name), held_out) for name in asked])
        sides = whole[~held], labels[~held], whole[held], labels[held]
        figures["asked"], figures["asked_all"] = int(held.sum()), len(asked)
        figures["knn_all"] = 100 * said["knn"]
        figures["knn"], figures["linear"] = 100 * held_out_accuracy(*sides), 100 * linear_accuracy(*sides)
    return figures


def judged(files: Mapping[str, str], config: ProbeConfig, data: ImagesConfig) -> tuple[list[dict[str, Any]], str]:
    """Rows of raw pixels, of untrained weights of the last one's kind and of `files` by their labels; `said_held_out`.

    Args:
        files: weights by label.
        config, data: of the recipe that trained them.
    """
    images, _, held_out = open_data(data)
    probes = Probes(config, images, held_out)
    found = zip(["raw pixels", "untrained", *files], candidates(list(files.values())), strict=True)
    rows = [{"backbone": name, **probe(one, probes, bool(config.groups), data.held_out)} for name, one in found]
    return rows, said_held_out(len(held_out), config.images)


def said_held_out(there: int, most: int) -> str:
    """How many held-out images are looked at for what; those that are asked for their class are counted apart."""
    return f"{there}, of them {min(there, most)} for same place, rank, cosine and entropy"


def milliseconds(found: Sequence[Candidate], size: int) -> list[float | None]:
    """Median of one square image of each, in turn, with one thread; its side is `size` cut to whole patches."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken: list[list[float]] = [[] for _ in found]
    sides = [max(1, size // one.patch) * one.patch for one in found]
    images = [torch.rand(1, 3, side, side) for side in sides]
    try:
        for repeat in range(REPEATS + 2):
            for one, image, times in zip(found, images, taken, strict=True):
                if one.backbone is not None:
                    start = time.perf_counter()
                    one.describe(image)
                    if repeat >= 2:
                        times.append(1e3 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(threads)
    return [float(np.median(times)) if times else None for times in taken]


def poses(
    found: Sequence[Candidate], given: argparse.Namespace, say: Callable[[str], None]
) -> dict[int, dict[str, Any]]:
    """AUC of the train split's pairs by tokens alone, by the candidate's place."""
    recipes: dict[int, str] = {}
    for number, one in enumerate(found):
        if one.weights:
            path = given.work / "recipes" / f"{number}_{Path(one.weights).stem}.yaml"
            settings = {
                "weights": one.weights, "preset": "untrained", "frontend": {"local": "none", "matcher": {"gate": 1}},
            }  # fmt: skip
            write_text(path, json.dumps(settings))
            recipes[number] = str(path)
    config = rooted(load_config(BenchConfig, RECIPE), given.data)
    config = replace(config, frontends=list(recipes.values()))
    results = run_tasks(
        ("matching",), quick(config) if given.quick else config, given.work, workers=given.jobs,
        command=given.command, overwrite=True, say=say,
    )  # fmt: skip
    return {
        number: {key: data_figure(results["matching"], "all", "pose", recipe, key) for key in ("auc_5", "auc_20")}
        for number, recipe in recipes.items()
    }


def run(given: argparse.Namespace) -> None:
    """Measure and write.

    Raises:
        ConfigError, InputError, WeightsError: what is named is missing or of no use.
    """
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    found = candidates(given.backbones)
    images = open_images([str(place) for place in given.images])
    _, held = split_names(images, given.held_out)
    probes = Probes(ProbeConfig(images=given.count, size=given.size, groups=given.groups), images, held)
    rows: list[dict[str, Any]] = []
    for one, ms in zip(found, milliseconds(found, given.size), strict=True):
        size = None if one.backbone is None else sum(p.numel() for p in one.backbone.parameters()) / 1e6
        say(f"probing {one.name}")
        rows.append(
            {
                "backbone": one.name,
                "parameters_m": size,
                "ms": ms,
                **probe(one, probes, bool(given.groups), given.held_out),
            }
        )
    if given.data:
        of_pairs = poses(found, given, say)
        rows = [row | of_pairs.get(number, {}) for number, row in enumerate(rows)]
    facts = header(given.command, "1 for times, torch's for the rest") | {
        "images": f"{len(images.names)} of {', '.join(place.name for place in given.images)}",
        "size": given.size,
        "held out": said_held_out(len(held), given.count),
    }  # fmt: skip
    write_table(given.out, facts, rows, "Backbones")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, and as `command` what it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+", help="names or files, the one in question last")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="folders, lists, videos or shards")
    parser.add_argument("--groups", default="", help="file with classes, see slamfeat.pretrain.probes.groups")
    parser.add_argument("--data", type=Path, help="the shared data folder, for poses")
    parser.add_argument("--held-out", type=float, default=0.05, help="share of the images that no backbone learnt from")
    parser.add_argument("--size", type=int, default=224, help="side of the images that are looked at; pixels")
    parser.add_argument("--count", type=int, default=64, help="of those, at most")
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    parser.add_argument("--work", type=Path, default=Path("runs") / "backbones", help="recipes and predictions")
    parser.add_argument("--jobs", type=int, default=2, help="processes for poses")
    parser.add_argument("--quick", action="store_true", help="few pairs: not to be quoted")
    return parse_noting(parser, "backbones", arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    run_and_show(run, parse(arguments))


if __name__ == "__main__":
    main()
