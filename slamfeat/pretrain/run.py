"""From a recipe to a file with a backbone.

OUT/
  recipe.yaml           all settings; its first line is the command
  images.json           how many images there were, and a digest of their names: a run goes on with the same ones only
  run/                  the loop's run, see `slamfeat.train.run_folder`
  backbone.safetensors  the teacher's, when the run has ended; `load_backbone` takes it
  tokens.png            what it sees in some held-out images, and what the seed's weights, or those of `init`, see
  skipped.json          damaged images of all processes and sessions, with what was wrong; absent where there are none
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slamfeat.backbones.base import Backbone
from slamfeat.backbones.own import save_backbone
from slamfeat.commit import commit
from slamfeat.config import to_yaml
from slamfeat.errors import ConfigError, OutputError
from slamfeat.files import write_text
from slamfeat.pretrain.model_card import backbone_card, is_made
from slamfeat.pretrain.network import whole_copy
from slamfeat.pretrain.probes import Probes
from slamfeat.pretrain.recipe import ImagesConfig, PretrainRecipe
from slamfeat.pretrain.sources import Joined, open_images, split_names
from slamfeat.pretrain.task import PretrainTask, SelfDistillation, build_student
from slamfeat.sample import sample_path
from slamfeat.train.checkpoint import checkpoint_steps
from slamfeat.train.distributed import Ranks, joined_ranks
from slamfeat.train.loop import TrainingResult, train
from slamfeat.train.rng import seed_generators
from slamfeat.train.run_folder import RunFolder, check_settings

Say = Callable[[str], None]
SKIPPED, IMAGES = "skipped.json", "images.json"
_TOLD = 5
"""Images that are named where they are passed over; the file has all."""


@dataclass(frozen=True)
class PretrainResult:
    """How a session ended.

    Attributes:
        backbone: the file; None where the session was interrupted before.
        training: of the loop.
        skipped: damaged images of all processes and sessions, with what was wrong.
    """

    backbone: Path | None
    training: TrainingResult
    skipped: dict[str, str]


def pretrain(
    recipe: PretrainRecipe, out: str | Path, *, command: str = "", say: Say = lambda line: None,
    stop: Callable[[], bool] = lambda: False,
) -> PretrainResult:  # fmt: skip
    """Do what a recipe says, or go on with it; under torchrun in every process.

    Args:
        recipe: see the class.
        out: folder of everything.
        command: that repeats it, for recipe.yaml.
        say: told what begins.
        stop: asked after every step; true ends the session, and nothing is lost.

    Raises:
        ConfigError: settings that do not fit each other or the images, or another recipe's folder.
        InputError, WeightsError: images or weights that are missing or damaged.
        OutputError: the folder cannot be written.
        TrainingError: the loss or a gradient is not finite.
    """
    out, code = Path(out), commit()
    images, numbers, held_out = open_data(recipe.data)
    with joined_ranks(recipe.loop.device) as ranks:
        recipe.check_shared(ranks.world)
        record(recipe, images, out, command, ranks)
        if ranks.first:
            say(f"pretraining {recipe.model.name} on {len(numbers)} images, judged on {len(held_out)} others")
            tell_skipped(images.skipped, say)
        begun = newest_step(out, ranks)
        of_first = say if ranks.first else lambda line: None
        task = make_task(recipe, images, numbers, held_out, begun=begun > 0, say=of_first)
        with skipped_are_kept(images, out, ranks):
            training = train(task, recipe.loop, out / "run", settings=recipe, resume="auto", command=command, stop=stop)
        skipped = report_skipped(images, out, ranks, say)
        if not ended(training):
            return PretrainResult(None, training, skipped)
        file, backbone = out / "backbone.safetensors", task.teacher_backbone()
        if ranks.first:
            if training.step > begun or not is_made(file, recipe):
                _picture(recipe, task.probes, backbone, out / "tokens.png")
                _export(recipe, backbone, training, file, code)  # last: where it is, all is
            say(f"written to {file}; {out / 'tokens.png'} shows what it sees")
        ranks.meet()
    return PretrainResult(file, training, skipped)


def make_task(
    recipe: PretrainRecipe, images: Joined, numbers: list[int], held_out: list[int], *, begun: bool = False,
    say: Say = lambda line: None,
) -> PretrainTask:  # fmt: skip
    """The task of a recipe, with weights from its seed; errors as of `pretrain`.

    Args:
        recipe: see the class.
        images: all of them; numbers, held_out: of those to learn from and of those to judge by.
        begun: the run has checkpoints of its own: `recipe.start` is not looked at, and may be gone.
        say: told which weights `recipe.start` gave.
    """
    seed_generators(recipe.loop.seed)
    module = SelfDistillation(build_student(recipe), recipe)
    if recipe.start and not begun:
        step = module.begin_with(Path(recipe.start).expanduser() / "run")
        say(f"beginning with step {step} of {recipe.start}")
    return PretrainTask(recipe, module, images, numbers, Probes(recipe.probes, images, held_out))


def open_data(config: ImagesConfig) -> tuple[Joined, list[int], list[int]]:
    """The images, and the numbers of those to learn from and of those held out.

    Raises:
        InputError: missing, of no known kind, or empty.
    """
    images = open_images(config.images or [str(sample_path() / "rgb")], config.frame_step)
    return images, *split_names(images, config.held_out)


def newest_step(out: Path, ranks: Ranks) -> int:
    """Of the checkpoints in a run's folder that any process sees; 0 where it has none."""
    return max(ranks.gather(max(checkpoint_steps(RunFolder(out / "run").checkpoints), default=0)))


def record(recipe: Any, images: Joined, out: Path, command: str, ranks: Ranks) -> None:
    """Write down the recipe, the command and which images there are, unless the run in `out` was begun with others.

    What an earlier run skipped is forgotten where this one is new.

    Raises:
        ConfigError: it was; what is written there stays.
        OutputError: the folder cannot be written.
    """
    begun, listed = RunFolder(out / "run").config.is_file(), out / IMAGES
    there = {"count": len(images.names), "digest": _digest(images.names)}
    if len({one["digest"] for one in ranks.gather(there)}) > 1:
        raise ConfigError("the processes see different images; give all machines the same data.images")
    if begun:
        check_settings(RunFolder(out / "run").config, recipe)
        _check_images(listed, there)
    if ranks.first:
        write_text(out / "recipe.yaml", (f"# {command}\n" if command else "") + to_yaml(recipe))
        write_text(listed, json.dumps(there) + "\n")
        if not begun:
            (out / SKIPPED).unlink(missing_ok=True)


def _check_images(listed: Path, there: Mapping[str, Any]) -> None:
    """Raise ConfigError unless a run's images are those that it was begun with, which decide what each step sees."""
    if not listed.is_file():
        return
    try:
        then = json.loads(listed.read_text(encoding="utf-8"))
        digest, count = then["digest"], then["count"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{listed}: cannot be read ({error}); delete it if the images are the same as ever"
        ) from error
    if digest != there["digest"]:
        raise ConfigError(
            f"{listed}: the run was begun with other images ({count} there, {there['count']} now, or others of these);"
            " go on with those, or choose another --out"
        )


def _digest(names: Sequence[str]) -> str:
    """Of the images' own names, in their order."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(Path(name).name.encode(errors="surrogateescape") + b"\0")  # folders may move
    return digest.hexdigest()


def ended(training: TrainingResult) -> bool:
    """Whether a run is done, and not only its session."""
    return training.reason in ("steps", "patience")


def report_skipped(images: Joined, out: Path, ranks: Ranks, say: Say) -> dict[str, str]:
    """Tell, write down and return which images could not be read in any process and session.

    Raises:
        OutputError: the file cannot be written.
    """
    of_all: dict[str, str] = {}
    for of_process in ranks.gather(images.skipped):
        of_all |= of_process
    skipped = _earlier(out) | of_all
    if ranks.first and skipped:
        _keep(skipped, out)
        tell_skipped(skipped, say)
        if len(skipped) > _TOLD:
            say(f"skipped {len(skipped)} in all; {out / SKIPPED} names them")
    return skipped


def tell_skipped(skipped: Mapping[str, str], say: Say) -> None:
    """Tell of the first few what is wrong with them."""
    for name, reason in list(skipped.items())[:_TOLD]:
        say(f"skipped {name}: {reason.removeprefix(f'{name}: ')}")  # an error names its file too


@contextmanager
def skipped_are_kept(images: Joined, out: Path, ranks: Ranks) -> Iterator[None]:
    """Where a session ends by an error, write down what the first process skipped; the others may be gone."""
    try:
        yield
    except BaseException:
        if ranks.first and images.skipped:
            with suppress(OutputError):  # the first error says more
                _keep(_earlier(out) | images.skipped, out)
        raise


def _earlier(out: Path) -> dict[str, str]:
    """What earlier sessions skipped."""
    with suppress(OSError, ValueError):  # it says nothing that a run needs
        return dict(json.loads((out / SKIPPED).read_text(encoding="utf-8")))
    return {}


def _keep(skipped: Mapping[str, str], out: Path) -> None:
    write_text(out / SKIPPED, json.dumps(dict(skipped), indent=1) + "\n")


def _picture(recipe: PretrainRecipe, probes: Probes, backbone: Backbone, file: Path) -> None:
    """What the backbone sees, below what one with the seed's weights, or those of `init`, sees."""
    seed_generators(recipe.loop.seed)
    before = whole_copy(build_student(recipe).backbone, recipe.architecture)
    probes.look({"before": before, "trained": backbone}, file)


def _export(recipe: PretrainRecipe, backbone: Backbone, training: TrainingResult, file: Path, code: str) -> None:
    notes = backbone_card(recipe, training, code)
    save_backbone(backbone.state_dict(), recipe.architecture, file, name=recipe.model.name, notes=notes)
