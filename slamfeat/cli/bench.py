"""`slamfeat bench matching | vo | robustness | speed | all | list`: frontends on the same data, in one run."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slamfeat.cli.common import Json, Verb, Verbs, messages, progress_bar, say, tell

if TYPE_CHECKING:
    from slamfeat.bench.config import BenchConfig
    from slamfeat.bench.jobs import Job

EXAMPLES = "Start with: [bold]slamfeat bench list[/bold]"
app = typer.Typer(cls=Verbs, no_args_is_help=True, help="Measure frontends on the same data with the same estimator.")

Data = Annotated[
    list[str] | None, typer.Argument(metavar="DATA|KEY=VALUE", help="Data, and settings such as num_keypoints=512.")
]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--frontend", "-f", metavar="NAME", show_default=False,
        help="A name of `slamfeat bench list`, a recipe (.yaml) or a file (.py); repeat for several.",
    ),
]  # fmt: skip
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder; left out: runs/bench/TASK.", show_default=False)]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="YAML of settings.")]
Jobs = Annotated[int, typer.Option(metavar="N", min=-1, help="Processes side by side; -1: one a core, 0: none.")]
Quick = Annotated[bool, typer.Option("--quick", help="Few frames and pairs: a first look, not to be quoted.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Discard predictions made with other settings.")]


@app.command(
    "matching", cls=Verb,
    epilog="Examples:\n\n[bold]slamfeat bench matching KITTI/sequences/07 -f slamfeat -f sift[/bold]\n\n"
           "[bold]slamfeat bench matching hpatches-sequences-release matching.longest_side=640[/bold]\n\n"
           "[bold]slamfeat bench matching scannet1500/pairs_with_gt.txt estimator=opencv[/bold]",
)  # fmt: skip
def matching_command(
    data: Data = None, frontend: Names = None, out: Out = None, recipe: RecipeFile = None, jobs: Jobs = -1,
    quick: Quick = False, overwrite: Overwrite = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Relative-pose AUC on pairs of sequences, posed views and pair lists; homography AUC and accuracy."""
    _run(["matching"], data, frontend, out, recipe, jobs, quick, overwrite, as_json)


@app.command(
    "vo", cls=Verb,
    epilog="Examples:\n\n[bold]slamfeat bench vo KITTI/sequences/07 -f slamfeat -f orb --trials 5[/bold]\n\n"
           "[bold]slamfeat bench vo rgbd_dataset_freiburg1_desk:rgbd,mono@0:500:2[/bold]",
)  # fmt: skip
def vo_command(
    data: Data = None, frontend: Names = None,
    trials: Annotated[int | None, typer.Option(metavar="N", min=1, help="Runs with different seeds.")] = None,
    out: Out = None, recipe: RecipeFile = None, jobs: Jobs = -1, quick: Quick = False, overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    r"""Odometry. A word of data is PATH\[:MODE,...]\[@START:STOP:STRIDE], modes mono, rgbd, stereo."""
    extra = [f"vo.trials={trials}"] if trials else []
    _run(["vo"], [*(data or []), *extra], frontend, out, recipe, jobs, quick, overwrite, as_json)


@app.command(
    "robustness",
    cls=Verb,
    epilog="Example: [bold]slamfeat bench robustness redkitchen:rgbd@0:200:5 -d darkness -d motion_blur[/bold]",
)
def robustness_command(
    data: Data = None, frontend: Names = None,
    degradation: Annotated[
        list[str] | None, typer.Option("--degradation", "-d", metavar="NAME", help="Left out: all.")
    ] = None,
    out: Out = None, recipe: RecipeFile = None, jobs: Jobs = -1, quick: Quick = False, overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Odometry over the same frames, degraded by measured amounts: curves, and the area under them."""
    extra = [f"robustness.degradations=[{','.join(degradation)}]"] if degradation else []
    _run(["robustness"], [*(data or []), *extra], frontend, out, recipe, jobs, quick, overwrite, as_json)


@app.command("speed", cls=Verb, epilog="Example: [bold]slamfeat bench speed KITTI/sequences/07 speed.rounds=15[/bold]")
def speed_command(
    data: Data = None, frontend: Names = None, out: Out = None, recipe: RecipeFile = None, quick: Quick = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Milliseconds and peak memory, frontends in turn in one process; leave the machine alone meanwhile."""
    _run(["speed"], data, frontend, out, recipe, 0, quick, False, as_json)


@app.command(
    "all",
    cls=Verb,
    epilog="Example: [bold]slamfeat bench all ../shared/data --recipe configs/bench/test_split.yaml[/bold]",
)
def all_command(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The folder that the recipe's data is in.")],
    recipe: Annotated[Path, typer.Option("--recipe", metavar="FILE", help="YAML with the data of every task.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", show_default=False)] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", "-t", metavar="NAME", help="Only this task; repeat for several.", show_default=False),
    ] = None,
    frontend: Names = None, out: Out = None, jobs: Jobs = -1, quick: Quick = False, overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """All four tasks of a recipe: the whole table. Tasks done one by one into the same folder join there."""
    from slamfeat.bench.run import TASKS
    from slamfeat.errors import ConfigError

    for name in task or []:
        if name not in TASKS:
            raise ConfigError(f"unknown task '{name}'; use some of {', '.join(TASKS)}")
    _run(
        [name for name in TASKS if name in (task or TASKS)],
        settings,
        frontend,
        out,
        recipe,
        jobs,
        quick,
        overwrite,
        as_json,
        root,
    )


@app.command("list", cls=Verb, epilog="Example: [bold]slamfeat bench list --json[/bold]")
def list_command(as_json: Json = False) -> None:
    """Show the frontends and the degradations by name."""
    import json

    from slamfeat.bench.degrade import DEGRADATIONS
    from slamfeat.bench.registry import list_frontends

    if as_json:
        amounts = {name: list(d.amounts) for name, d in DEGRADATIONS.items()}
        print(json.dumps({"frontends": list_frontends(), "degradations": amounts}, indent=2))
        return
    tell("frontends (or a .yaml recipe of slamfeat's, or a .py file with FRONTENDS):")
    for name in list_frontends():
        tell(f"  {name}")
    tell("degradations:")
    for name, degradation in DEGRADATIONS.items():
        tell(f"  {name}: {', '.join(f'{amount:g}' for amount in degradation.amounts)} {degradation.unit}")


def _run(
    tasks: list[str], words: list[str] | None, frontends: list[str] | None, out: Path | None, recipe: Path | None,
    jobs: int, quick: bool, overwrite: bool, as_json: bool, root: Path | None = None,
) -> None:  # fmt: skip
    import json

    from slamfeat.bench.run import run_tasks

    config = build_config(tasks, words or [], frontends, recipe, quick, root)
    out = out or Path("runs") / "bench" / ("all" if len(tasks) > 1 else tasks[0]) / ("quick" if quick else "full")
    workers = (os.cpu_count() or 1) if jobs < 0 else jobs
    with ExitStack() as bars:

        def watch(total: int) -> Callable[[Job, str], None]:
            bars.close()
            if not messages.is_terminal:  # a log has no bar
                count = itertools.count(1)
                return lambda job, problem: say(f"{next(count)}/{total} {job.label}")
            advance = bars.enter_context(progress_bar("jobs", total))
            return lambda job, problem: advance(job.label)

        results = run_tasks(
            tasks, config, out, workers=workers, command=shlex.join(["slamfeat", *sys.argv[1:]]),
            overwrite=overwrite, say=say, watch=watch,
        )  # fmt: skip
    if as_json:
        print(json.dumps(results if len(results) > 1 else next(iter(results.values())), indent=2))
        return
    _show(results, out)


def build_config(
    tasks: list[str], words: list[str], frontends: list[str] | None, recipe: Path | None, quick: bool, root: Path | None
) -> BenchConfig:
    """Defaults, then the recipe, then KEY=VALUE words, then data and frontends."""
    from dataclasses import replace

    from slamfeat.bench.config import BenchConfig, rooted
    from slamfeat.bench.config import quick as reduced
    from slamfeat.config import load_config

    settings = [word for word in words if "=" in word and not Path(word).exists()]
    data = [word for word in words if word not in settings]
    config = load_config(BenchConfig, recipe, settings)
    if root is not None:
        config = rooted(config, root)
    if data:
        config = replace(config, **{task: replace(getattr(config, task), data=data) for task in tasks})
    if frontends:
        config = replace(config, frontends=frontends)
    return reduced(config) if quick else config


def _show(results: dict[str, dict[str, Any]], out: Path) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    from slamfeat.bench.tables import summary_markdown

    console = Console()
    for task, result in results.items():
        console.print(Markdown(f"**{task}**\n\n{summary_markdown(result)}"))
        for label, problem in result["problems"].items():
            say(f"{label}: {problem}", "yellow")
    tell(f"written to {out / 'results'} and {out / 'results.html'}")
