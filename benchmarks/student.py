"""Small backbones in the place of the larger one that they imitate: what a frontend loses by them, and what they save.

    python -m benchmarks.student ../shared/data slamfeat/assets/slamfeat-vits14-2-int8.safetensors \\
        --out benchmarks/results/student

One frontend (--preset) with the teacher, with each student, and with the first student's architecture and weights
nobody trained, which shows what the rest of the frontend does by itself; a line each, so that depth and width can be
chosen. Poses of pairs and odometry are those of `slamfeat bench` on configs/bench/test_split.yaml (--recipe for other
parts of the same sequences), in one run; nothing is chosen by them, and --tokens-only leaves them out where something
is. Tokens are compared in float32, on photographs
(--images) that every student's own recipe held out. Times are of the backbone alone, on the engine and in the precision
that the frontend takes by itself, one thread, all in turn; the teacher is timed up to the block that the frontend looks
at and, as the whole teacher, with all its blocks (on weights nobody trained).
An interrupted run goes on; times are taken anew. Writes OUT.json and OUT.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.console import Console

from benchmarks.backbones import architecture_of, shown_names
from benchmarks.command import parse_noting, run_and_show
from benchmarks.student_table import TEACHER, UNTRAINED, WHOLE, markdown, rows_of_results
from benchmarks.student_tokens import likeness, milliseconds
from slamfeat.backbones.checkpoints import read_metadata, state_digest
from slamfeat.backbones.load import random_backbone
from slamfeat.backbones.own import architecture_in, save_backbone
from slamfeat.backbones.registry import Architecture
from slamfeat.bench.config import BenchConfig, quick, rooted
from slamfeat.bench.provenance import header
from slamfeat.bench.run import run_tasks
from slamfeat.config import load_config
from slamfeat.errors import ConfigError, InputError
from slamfeat.files import write_text
from slamfeat.frontend.grid_choice import layers_of
from slamfeat.frontend.presets import PRESETS
from slamfeat.frontend.pretrained import backbone_name, load_pretrained
from slamfeat.pretrain.sources import Joined, open_images, split_names

RECIPE = Path(__file__).parent.parent / "configs" / "bench" / "test_split.yaml"
TASKS = ("matching", "vo")


@dataclass(frozen=True)
class Rival:
    """A backbone in the frontend, or timed alone.

    Attributes:
        weights: a name or a file.
        block: whose tokens the frontend looks at.
        width: of its tokens inside.
        recipe: of the frontend with it; empty where it is timed alone.
    """

    weights: str
    block: int
    width: int
    recipe: str = ""


def rivals(given: argparse.Namespace) -> dict[str, Rival]:
    """Teacher, whole teacher, students, and the first one's architecture with weights nobody trained, by label.

    Raises:
        ConfigError: a student imitates nobody, or another backbone than the teacher, or a block that the preset does
            not look at; two of one name; or sizes that are no multiples of the patch.
        WeightsError: weights that are missing or damaged.
    """
    students = {
        label: (path, _architecture(path, given))
        for label, path in zip(student_labels(given.students), given.students, strict=True)
    }
    teacher, _ = load_pretrained(given.teacher, torch.device("cpu"))
    used = layers_of(teacher, PRESETS[given.preset]())
    for path, own in students.values():
        if own.imitated is None or used != [own.imitated[1]]:
            raise ConfigError(
                f"preset {given.preset} looks at blocks {used} of {given.teacher}, {path} is {own.imitates}"
            )
    whole = architecture_of(given.teacher, teacher.name)
    first, floor = next(iter(students.values()))
    found = {
        TEACHER: Rival(given.teacher, used[0], whole.embed_dim),
        WHOLE: _rival(str(_untrained(f"{teacher.name}-whole", whole, given.work)), whole),
        **{label: _rival(path, own) for label, (path, own) in students.items()},
        UNTRAINED: _rival(str(_untrained(_name(first), floor, given.work)), floor),
    }
    return {
        label: one if label == WHOLE else replace(one, recipe=_recipe(label, one.weights, given))
        for label, one in found.items()
    }


def student_labels(paths: Sequence[str]) -> list[str]:
    """Shown names of the students.

    Raises:
        ConfigError: two are the same, or one is another line's.
    """
    labels = shown_names(paths)
    lines = [_slug(label) for label in (TEACHER, WHOLE, UNTRAINED, *labels)]
    twice = [label for label in labels if lines.count(_slug(label)) > 1]
    if twice:
        raise ConfigError(f"{', '.join(twice)}: more than one line of this name; name each file once, or rename it")
    return labels


def _architecture(path: str, given: argparse.Namespace) -> Architecture:
    """Of a student's file, if it imitates the teacher; errors as of `rivals`."""
    student, _ = load_pretrained(path, torch.device("cpu"))
    file = Path(path).expanduser()
    architecture = architecture_in(read_metadata(file), file)
    if architecture is None or architecture.imitated is None:
        raise ConfigError(f"{path}: imitates no other backbone; distil it with imitate=true")
    name, _ = architecture.imitated
    if name != backbone_name(given.teacher):
        raise ConfigError(f"{path}: imitates {name}, not {given.teacher}; name its teacher with --teacher")
    for width, height in given.sizes:
        if width % student.patch_size or height % student.patch_size:
            raise ConfigError(f"--sizes: sides are multiples of the patch, {student.patch_size}, not {width}x{height}")
    return architecture


def _name(path: str) -> str:
    return read_metadata(Path(path).expanduser())["name"]


def _rival(weights: str, architecture: Architecture) -> Rival:
    return Rival(weights, architecture.depth - 1, architecture.embed_dim)


def _untrained(name: str, architecture: Architecture, work: Path) -> Path:
    """A file of this architecture with weights by a seed; one that is there stays, for it names what was predicted."""
    backbone = random_backbone(architecture, f"{name}-untrained")
    path, state = work / f"{backbone.name}.safetensors", backbone.state_dict()
    about = read_metadata(path) if path.is_file() else {}
    if about.get("sha256") != state_digest(state) or architecture_in(about, path) != architecture:
        save_backbone(state, architecture, path, name=backbone.name)
    return path


def _slug(label: str) -> str:
    return label.replace(" ", "_").replace("/", "_")


def _recipe(label: str, weights: str, given: argparse.Namespace) -> str:
    path = given.work / "recipes" / f"{_slug(label)}.yaml"
    return str(write_text(path, json.dumps({"preset": given.preset, "weights": weights}) + "\n"))


def held_out(given: argparse.Namespace) -> tuple[Joined, list[int]]:
    """The photographs, and the numbers of those that no student learnt from, by their own recipes.

    Raises:
        ConfigError: a file says no share, or none of the photographs is in it.
        InputError: no photographs.
    """
    share = min(_share(path) for path in given.students)  # what a smaller share holds out, a larger one does too
    images = open_images([str(place) for place in given.images])
    _, numbers = split_names(images, share)
    if not numbers:
        raise ConfigError(f"--images: the recipe's data.held_out={share} keeps none of {len(images.names)} images back")
    return images, numbers


def _share(path: str) -> float:
    said = read_metadata(Path(path).expanduser()).get("recipe")
    if not said:
        raise ConfigError(f"{path}: does not say by which recipe it was made, nor what that held out")
    return float(OmegaConf.create(said).data.held_out)


def poses(
    found: Mapping[str, Rival], given: argparse.Namespace, say: Any
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Figures of pairs and odometry, a row each, by rival; and what failed."""
    config = rooted(load_config(BenchConfig, given.recipe or RECIPE), given.data)
    recipes = {label: rival.recipe for label, rival in found.items() if rival.recipe}
    config = replace(config, frontends=list(recipes.values()), vo=replace(config.vo, trials=given.trials))
    tasks = [task for task in TASKS if getattr(config, task).data]
    if not tasks:
        raise InputError(f"{given.recipe}: names neither matching.data nor vo.data; --tokens-only needs neither")
    results = run_tasks(
        tasks, quick(config) if given.quick else config, given.work, workers=given.jobs, command=given.command,
        overwrite=given.overwrite, say=say,
    )  # fmt: skip
    problems = {label: text for result in results.values() for label, text in result["problems"].items()}
    return rows_of_results(results, recipes), problems


def run(given: argparse.Namespace) -> None:
    """Measure and write; errors as of `rivals` and `slamfeat bench`."""
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    found = rivals(given)
    blocks = {label: (rival.weights, rival.block) for label, rival in found.items()}
    images, held = held_out(given)
    say(f"tokens of {len(held)} held-out images …")
    tokens = likeness({label: of for label, of in blocks.items() if label != WHOLE}, TEACHER, images, held)
    times = []
    for size in given.sizes:
        say(f"times at {size[0]}x{size[1]} …")
        times.append(milliseconds(blocks, size))
    of_poses, problems = ([], {}) if given.tokens_only else poses(found, given, say)
    facts = header(given.command, f"1 for times, {max(given.jobs, 1)} processes for poses") | {
        "preset": given.preset, "trials of the odometry": given.trials, "teacher": given.teacher, "held out": len(held),
    }  # fmt: skip
    stored = {
        "header": facts,
        "backbones": {label: {"blocks": one.block + 1, "width": one.width} for label, one in found.items()},
        "students": student_labels(given.students),
        "times": times, "tokens": tokens, "poses": of_poses, "problems": problems,
    }  # fmt: skip
    write_text(given.out.with_suffix(".json"), json.dumps(stored, indent=1) + "\n")
    write_text(given.out.with_suffix(".md"), markdown(stored))


def width_height(text: str) -> tuple[int, int]:
    """Of WxH, for argparse."""
    width, height = map(int, text.split("x"))
    return width, height


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, and as `command` what it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the shared data folder")
    parser.add_argument("students", nargs="+", help="their files")
    parser.add_argument("--teacher", default="dinov2-vits14-int8", help="a name or a file")
    parser.add_argument("--preset", default="balanced", choices=list(PRESETS), help="of the frontend")
    parser.add_argument("--images", type=Path, nargs="+", help="photographs; ImageNet's of DATA unless given")
    parser.add_argument(
        "--sizes", nargs="+", type=width_height, default=[(308, 238), (616, 182)], help="of the backbone's input, WxH"
    )
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    parser.add_argument("--recipe", type=Path, help="of the benchmark; configs/bench/test_split.yaml unless given")
    parser.add_argument("--work", type=Path, default=Path("runs") / "student", help="recipes and predictions")
    parser.add_argument("--jobs", type=int, default=2, help="processes for poses")
    parser.add_argument(
        "--trials", type=int, default=9, help="of the odometry: its estimation is random, what was matched serves all"
    )
    parser.add_argument("--overwrite", action="store_true", help="discard predictions that other code made")
    parser.add_argument("--tokens-only", action="store_true", help="no poses: what shapes of students are chosen by")
    parser.add_argument("--quick", action="store_true", help="few frames and pairs: not to be quoted")
    given = parse_noting(parser, "student", arguments)
    given.images = given.images or [given.data / "unlabelled" / "imagenet_sample1000_256"]
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    run_and_show(run, parse(arguments))


if __name__ == "__main__":
    main()
