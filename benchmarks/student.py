"""A small backbone in the place of the larger one that it imitates: what a frontend loses by it, and what it saves.

    python -m benchmarks.student ../shared/data runs/distill/cpu_student/slamfeat-vits14-2.safetensors \\
        --out benchmarks/results/student

One frontend (--preset) three times: with the teacher, with the student, and with the student's architecture and weights
nobody trained, which shows what the rest of the frontend does by itself. Poses of pairs and odometry are those of
`slamfeat bench` on configs/bench/test_split.yaml, in one run; nothing is chosen by them. Tokens are compared in
float32, on photographs (--images) that the student's own recipe held out. Times are of the backbone alone, on the
engine and in the precision that the frontend takes by itself, one thread, all in turn. An interrupted run goes on;
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
from omegaconf import OmegaConf
from rich.console import Console

from benchmarks.command import run_and_show
from benchmarks.student_table import markdown, rows_of_results
from benchmarks.student_tokens import likeness, milliseconds
from slamfeat.backbones.checkpoints import read_metadata, state_digest
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.own import architecture_in, save_backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.bench.config import BenchConfig, quick, rooted
from slamfeat.bench.provenance import header
from slamfeat.bench.run import run_tasks
from slamfeat.config import load_config
from slamfeat.errors import ConfigError
from slamfeat.files import write_text
from slamfeat.frontend.frontend import layers_of
from slamfeat.frontend.presets import PRESETS
from slamfeat.frontend.pretrained import backbone_name, load_pretrained
from slamfeat.pretrain.sources import Joined, open_images, split_names

RECIPE = Path(__file__).parent.parent / "configs" / "bench" / "test_split.yaml"
TASKS = ("matching", "vo")
TRIALS = 3  # of the odometry: its robust estimation is random, and what was matched serves all trials
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
    """Teacher, student, and the same architecture with weights nobody trained.

    Raises:
        ConfigError: the student imitates nobody, or another backbone than the teacher, or a block that the preset does
            not look at; or sizes that are no multiples of the patch.
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
    teacher, _ = load_pretrained(given.teacher, torch.device("cpu"))
    used = layers_of(teacher, PRESETS[given.preset]())
    if used != [block]:
        raise ConfigError(
            f"preset {given.preset} looks at blocks {used} of {given.teacher}, the student is block {block}"
        )
    for width, height in given.sizes:
        if width % student.patch_size or height % student.patch_size:
            raise ConfigError(f"--sizes: sides are multiples of the patch, {student.patch_size}, not {width}x{height}")
    floor = _untrained(student.name, architecture, given.work)
    files = {TEACHER: (given.teacher, block), STUDENT: (str(path), -1), UNTRAINED: (str(floor), -1)}
    return {label: Rival(*of, _recipe(label, of[0], given)) for label, of in files.items()}


def _untrained(name: str, architecture: Architecture, work: Path) -> Path:
    """A file of this architecture with weights by a seed; one that is there stays, for it names what was predicted."""
    backbone = random_backbone(architecture, f"{name}-untrained")
    path, state = work / f"{backbone.name}.safetensors", backbone.state_dict()
    about = read_metadata(path) if path.is_file() else {}
    if about.get("sha256") != state_digest(state) or architecture_in(about, path) != architecture:
        save_backbone(state, architecture, path, name=backbone.name)
    return path


def _recipe(label: str, weights: str, given: argparse.Namespace) -> str:
    path = given.work / "recipes" / f"{label.replace(' ', '_')}.yaml"
    return str(write_text(path, json.dumps({"preset": given.preset, "weights": weights}) + "\n"))


def held_out(given: argparse.Namespace) -> tuple[Joined, list[int]]:
    """The photographs, and the numbers of those that the student did not learn from, by its own recipe.

    Raises:
        ConfigError: its file says no share, or none of the photographs is in it.
        InputError: no photographs.
    """
    said = read_metadata(Path(given.student).expanduser()).get("recipe")
    if not said:
        raise ConfigError(f"{given.student}: does not say by which recipe it was made, nor what that held out")
    share = float(OmegaConf.create(said).data.held_out)
    images = open_images([str(place) for place in given.images])
    _, numbers = split_names(images, share)
    if not numbers:
        raise ConfigError(f"--images: the recipe's data.held_out={share} keeps none of {len(images.names)} images back")
    return images, numbers


def poses(
    found: Mapping[str, Rival], given: argparse.Namespace, say: Any
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Figures of pairs and odometry, a row each, by rival; and what failed."""
    config = rooted(load_config(BenchConfig, RECIPE), given.data)
    frontends = [rival.recipe for rival in found.values()]
    config = replace(config, frontends=frontends, vo=replace(config.vo, trials=TRIALS))
    results = run_tasks(
        TASKS, quick(config) if given.quick else config, given.work, workers=given.jobs, command=given.command,
        overwrite=given.overwrite, say=say,
    )  # fmt: skip
    problems = {label: text for result in results.values() for label, text in result["problems"].items()}
    return rows_of_results(results, {label: rival.recipe for label, rival in found.items()}), problems


def run(given: argparse.Namespace) -> None:
    """Measure and write; errors as of `rivals` and `slamfeat bench`."""
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    found = rivals(given)
    blocks = {label: (rival.weights, rival.block) for label, rival in found.items()}
    images, held = held_out(given)
    say(f"tokens of {len(held)} held-out images …")
    rows: list[dict[str, Any]] = [*likeness(blocks, TEACHER, images, held)]
    for size in given.sizes:
        say(f"times at {size[0]}x{size[1]} …")
        rows.append(milliseconds(blocks, size))
    of_poses, problems = poses(found, given, say)
    rows += of_poses
    facts = header(given.command, f"1 for times, {max(given.jobs, 1)} processes for poses") | {
        "preset": given.preset, "teacher": given.teacher, "student": Path(given.student).name, "held out": len(held),
    }  # fmt: skip
    stored = {"header": facts, "rows": rows, "problems": problems}
    write_text(given.out.with_suffix(".json"), json.dumps(stored, indent=1) + "\n")
    write_text(given.out.with_suffix(".md"), markdown(facts, rows, (TEACHER, STUDENT, UNTRAINED), problems))


def width_height(text: str) -> tuple[int, int]:
    """Of WxH, for argparse."""
    width, height = map(int, text.split("x"))
    return width, height


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, and as `command` what it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the shared data folder")
    parser.add_argument("student", help="its file")
    parser.add_argument("--teacher", default="default", help="a name or a file")
    parser.add_argument("--preset", default="balanced", choices=list(PRESETS), help="of the frontend")
    parser.add_argument("--images", type=Path, nargs="+", help="photographs; ImageNet's of DATA unless given")
    parser.add_argument(
        "--sizes", nargs="+", type=width_height, default=[(308, 238), (616, 182)], help="of the backbone's input, WxH"
    )
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
