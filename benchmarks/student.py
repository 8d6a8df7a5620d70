"""A small backbone in the place of the larger one that it imitates: what a frontend loses by it, and what it saves.

    python -m benchmarks.student ../shared/data runs/distill/cpu_student/slamfeat-vits14-2.safetensors \\
        --out benchmarks/results/student

One frontend (--preset) three times: with the teacher, with the student, and with the student's architecture and weights
nobody trained, which shows what the rest of the frontend does by itself. Poses of pairs and odometry are those of
`slamfeat bench` on configs/bench/test_split.yaml, in one run; nothing is chosen by them. Tokens are compared on
photographs that the distillation held out (--images, --held-out: its recipe's). Times are of the backbone alone, on
the engine and in the precision that the frontend takes by itself, one thread, all in turn. An interrupted run goes on;
times are taken anew. Writes OUT.json and OUT.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.command import run_and_show
from benchmarks.student_table import markdown, rows_of_results
from benchmarks.student_tokens import likeness, milliseconds
from slamfeat.backbones.checkpoints import read_metadata
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.own import architecture_in, save_backbone
from slamfeat.bench.config import BenchConfig, quick, rooted
from slamfeat.bench.provenance import header
from slamfeat.bench.run import run_tasks
from slamfeat.config import load_config
from slamfeat.errors import ConfigError
from slamfeat.files import write_text
from slamfeat.frontend.pretrained import backbone_name, load_pretrained
from slamfeat.pretrain.sources import open_images, split_names

RECIPE = Path(__file__).parent.parent / "configs" / "bench" / "test_split.yaml"
TASKS = ("matching", "vo")
TEACHER, STUDENT, UNTRAINED = "teacher", "student", "untrained student"


@dataclass(frozen=True)
class Rival:
    """A backbone in the frontend.

    Attributes:
        weights: a name or a file.
        block: whose tokens the frontend looks at.
        recipe: of the frontend with it.
    """

    weights: str
    block: int
    recipe: str


def rivals(given: argparse.Namespace) -> dict[str, Rival]:
    """Teacher, student, and the student before it learnt anything.

    Raises:
        ConfigError: the student imitates nobody, or another backbone than the teacher.
        WeightsError: weights that are missing or damaged.
    """
    path = Path(given.student).expanduser()
    student, _ = load_pretrained(path, torch.device("cpu"))
    architecture = architecture_in(read_metadata(path), path)
    if architecture is None or architecture.imitated is None:
        raise ConfigError(f"{path}: imitates no other backbone; distil it with imitate=true")
    name, block = architecture.imitated
    if name != backbone_name(given.teacher):
        raise ConfigError(f"{path}: imitates {name}, not {given.teacher}; name its teacher with --teacher")
    untrained = random_backbone(architecture, f"{student.name}-untrained")
    floor = given.work / f"{untrained.name}.safetensors"
    save_backbone(untrained.state_dict(), architecture, floor, name=untrained.name)
    files = {TEACHER: (given.teacher, block), STUDENT: (str(path), -1), UNTRAINED: (str(floor), -1)}
    return {label: Rival(*of, _recipe(label, of[0], given)) for label, of in files.items()}


def _recipe(label: str, weights: str, given: argparse.Namespace) -> str:
    path = given.work / "recipes" / f"{label.replace(' ', '_')}.yaml"
    return str(write_text(path, json.dumps({"preset": given.preset, "weights": weights}) + "\n"))


def poses(found: Mapping[str, Rival], given: argparse.Namespace, say: Any) -> list[dict[str, Any]]:
    """Figures of pairs and odometry, a row each, by rival."""
    config = rooted(load_config(BenchConfig, RECIPE), given.data)
    config = replace(config, frontends=[rival.recipe for rival in found.values()])
    results = run_tasks(
        TASKS, quick(config) if given.quick else config, given.work, workers=given.jobs, command=given.command,
        overwrite=given.overwrite, say=say,
    )  # fmt: skip
    return rows_of_results(results, {label: rival.recipe for label, rival in found.items()})


def run(given: argparse.Namespace) -> None:
    """Measure and write; errors as of `rivals` and `slamfeat bench`."""
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    found = rivals(given)
    blocks = {label: (rival.weights, rival.block) for label, rival in found.items()}
    images = open_images([str(place) for place in given.images])
    _, held = split_names(images, given.held_out)
    say(f"tokens of {len(held)} held-out images …")
    rows: list[dict[str, Any]] = [*likeness(blocks, TEACHER, images, held)]
    for size in given.sizes:
        say(f"times at {size} …")
        rows.append(milliseconds(blocks, size))
    rows += poses(found, given, say)
    facts = header(given.command, f"1 for times, {max(given.jobs, 1)} processes for poses") | {
        "preset": given.preset, "teacher": given.teacher, "student": Path(given.student).name, "held out": len(held),
    }  # fmt: skip
    write_text(given.out.with_suffix(".json"), json.dumps({"header": facts, "rows": rows}, indent=1) + "\n")
    write_text(given.out.with_suffix(".md"), markdown(facts, rows, (TEACHER, STUDENT, UNTRAINED)))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, and as `command` what it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the shared data folder")
    parser.add_argument("student", help="its file")
    parser.add_argument("--teacher", default="default", help="a name or a file")
    parser.add_argument("--preset", default="balanced", help="of the frontend")
    parser.add_argument("--images", type=Path, nargs="+", help="photographs; ImageNet's of DATA unless given")
    parser.add_argument(
        "--held-out", type=float, default=0.05, help="share of them that the student did not learn from"
    )
    parser.add_argument("--sizes", nargs="+", default=["308x238", "616x182"], help="of the backbone's input, WxH")
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    parser.add_argument("--work", type=Path, default=Path("runs") / "student", help="recipes and predictions")
    parser.add_argument("--jobs", type=int, default=2, help="processes for poses")
    parser.add_argument("--overwrite", action="store_true", help="discard predictions that other code made")
    parser.add_argument("--quick", action="store_true", help="few frames and pairs: not to be quoted")
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = parser.parse_args(words, argparse.Namespace(command="python -m benchmarks.student " + shlex.join(words)))
    given.images = given.images or [given.data / "unlabelled" / "imagenet_sample1000_256"]
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    run_and_show(run, parse(arguments))


if __name__ == "__main__":
    main()
