"""`slamfeat pretrain` as a user runs it: killed, in two processes, with parameters shared out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pretrain_runs import command, environment, kept, kill, losses, run, same, small_recipe
from typer.testing import CliRunner

import slamfeat as sf
from slamfeat.cli.main import app
from slamfeat.config import load_config
from slamfeat.errors import ConfigError
from slamfeat.pretrain.distill_recipe import DistillRecipe
from slamfeat.pretrain.probes import Probes
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.pretrain.run import SKIPPED, pretrain, report_skipped
from slamfeat.pretrain.sources import Joined
from slamfeat.train.distributed import Ranks
from slamfeat.train.recipe_files import find_recipe

# KoLeo among the images that a process of two has, so that one process with all of them says the same.
TWENTY = ("loop.steps=20", "loop.evaluate_every=20", "loop.save_every=10", "objective.koleo_group=2", "loop.workers=0")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    done = run("pretrain", out, *TWENTY)
    assert done.returncode == 0, done.stderr
    return out


def test_a_run_ends_with_a_backbone(alone: Path, photo: object) -> None:
    assert sorted(path.name for path in alone.iterdir()) == [
        "backbone.safetensors", "images.json", "recipe.yaml", "run", "tokens.png",
    ]  # fmt: skip
    assert (alone / "recipe.yaml").read_text().startswith("# slamfeat pretrain cpu_tiny")
    backbone = sf.load_backbone(str(alone / "backbone.safetensors"))
    assert backbone.name == "tiny14" and backbone.frozen and backbone.depth == 4
    weights = kept(alone, 20)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, weights[f"teacher.backbone.{name}"])
    features = sf.Frontend.from_pretrained(alone / "backbone.safetensors").extract(photo)
    assert int(features.mask.sum()) > 100
    logged = losses(alone)
    assert len(logged) == 20 and {"dino", "ibot", "koleo", "images_per_s", "wait_percent"} <= logged[0].keys()
    assert logged[-1]["loss"] < logged[0]["loss"]


def test_what_has_ended_is_not_written_again(alone: Path, tmp_path: Path) -> None:
    """Its card says what code trained it, which is not that of today."""
    out = tmp_path / "again"
    shutil.copytree(alone, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    recipe = load_config(PretrainRecipe, out / "recipe.yaml")
    assert pretrain(recipe, out).backbone == out / "backbone.safetensors"
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.safetensors")} == before
    (out / "backbone.safetensors").unlink()
    assert pretrain(recipe, out).backbone == out / "backbone.safetensors"
    assert (out / "backbone.safetensors").is_file()


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_weights(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    kill("pretrain", out, *TWENTY, step=10)
    words = [sys.executable, *command("pretrain", out, *TWENTY)]
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.DEVNULL)
    time.sleep(4)  # wherever it is then
    process.kill()
    process.wait()
    done = run("pretrain", out, *TWENTY)
    assert done.returncode == 0 and "resumed after step" in done.stderr, done.stderr
    assert same(kept(alone, 20), kept(out, 20))


@pytest.mark.slow
def test_a_full_disk_costs_no_more_than_the_last_steps(alone: Path, tmp_path: Path) -> None:
    """The checkpoint that has no room is told by name and leaves nothing; the one before it is gone on with."""
    out = tmp_path / "full"
    kill("pretrain", out, *TWENTY, step=10)
    done = run("pretrain", out, *TWENTY, largest=200_000)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "step-00000020.safetensors: File too large; free space" in done.stderr.splitlines()[-1]
    assert {path.name.split(".")[0] for path in (out / "run" / "checkpoints").iterdir()} == {"step-00000010"}
    done = run("pretrain", out, *TWENTY)
    assert done.returncode == 0 and "resumed after step 10" in done.stderr, done.stderr
    assert same(kept(alone, 20), kept(out, 20))


GRAM = ("objective.gram=1", "gram.from_step=5", "gram.refresh=5", "gram.scale=2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "shared"), [((), ()), ((), ("loop.shard=true",)), (GRAM, ("loop.shard=true",))],
    ids=["replicated", "sharded", "sharded Gram teacher"],
)  # fmt: skip
def test_two_processes_learn_what_one_does(tmp_path: Path, words: tuple[str, ...], shared: tuple[str, ...]) -> None:
    """Each has half of the batch; Sinkhorn sees the rows of both. 20 steps' losses to 1e-5."""
    single, out = tmp_path / "one", tmp_path / "two"
    for folder, processes in ((single, 1), (out, 2)):
        # Stochastic depth draws from each process's own generator. With layer scales of 1e-5 the blocks' gradients
        # would be rounding noise, which AdamW blows up to full steps.
        given = (*TWENTY, "model.drop_path=0", "model.layer_scale=1", *words, *(shared if processes == 2 else ()))
        done = run("pretrain", folder, *given, processes=processes)
        assert done.returncode == 0, done.stderr
    one, two = losses(single), losses(out)
    assert len(one) == len(two) == 20
    for first, second in zip(one, two, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-5), first["step"]
        assert second["dino"] == pytest.approx(first["dino"], rel=1e-5)
        if words and first["step"] > 5:
            assert second["gram"] == pytest.approx(first["gram"], rel=1e-3) and first["gram"] > 0
    backbones = [sf.load_backbone(str(folder / "backbone.safetensors")).state_dict() for folder in (single, out)]
    for name, value in backbones[0].items():
        torch.testing.assert_close(backbones[1][name], value, atol=2e-4, rtol=1e-3, msg=name)


@pytest.mark.slow
def test_shared_out_parameters_resume(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    given = ("loop.steps=8", "loop.evaluate_every=0", "loop.save_every=4", "loop.shard=true", "loop.workers=0")
    done = run("pretrain", whole, *given, processes=2)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (whole / "run" / "checkpoints").glob("*rank*")} == {
        f"step-0000000{step}.rank-{rank}.pt" for step in (4, 8) for rank in (0, 1)
    }
    # As a kill after the fourth step leaves it.
    for path in (*(whole / "run" / "checkpoints").glob("step-00000004*"), whole / "run" / "config.yaml"):
        target = cut / path.relative_to(whole)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    done = run("pretrain", cut, *given, processes=2)
    assert done.returncode == 0 and "resumed after step 4" in done.stderr, done.stderr
    assert same(kept(whole, 8), kept(cut, 8))
    part = cut / "run" / "checkpoints" / "step-00000008.rank-1.pt"
    part.write_bytes(part.read_bytes()[:-9])
    done = run("pretrain", cut, *given, processes=2)  # only the second process sees that
    assert done.returncode == 0 and "going on from step 4" in done.stderr, done.stderr
    assert same(kept(whole, 8), kept(cut, 8))


@pytest.mark.slow
def test_all_that_a_giant_takes_at_once(tmp_path: Path) -> None:
    """Shared out, in half precision, computed again for the gradient, with SwiGLU, and gone on with."""
    given = ("loop.precision=bf16", "model.recompute=true", "model.ffn=swiglu_fused", "model.drop_path=0.3",
             "loop.save_every=3", "loop.evaluate_every=0", "loop.workers=0", "loop.shard=true")  # fmt: skip
    done = run("pretrain", tmp_path / "run", *given, "loop.steps=3", "loop.max_minutes=0.0001", processes=2)
    assert done.returncode == 0 and "its minutes are over" in done.stderr, done.stderr
    done = run("pretrain", tmp_path / "run", *given, "loop.steps=3", processes=2)
    assert done.returncode == 0 and "resumed after step 1" in done.stderr, done.stderr
    assert len(losses(tmp_path / "run")) == 3
    state = sf.load_backbone(str(tmp_path / "run" / "backbone.safetensors")).state_dict()
    assert "blocks.0.mlp.w12.weight" in state and all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.slow
def test_a_process_that_dies_is_started_again(tmp_path: Path) -> None:
    given = ("loop.steps=40", "loop.save_every=4", "loop.evaluate_every=0", "loop.workers=0")
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    words = [sys.executable, *start, *command("pretrain", tmp_path / "run", *given)]
    fresh = {**environment(), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with subprocess.Popen(words, env=fresh, stderr=subprocess.PIPE, text=True) as agent:
        try:
            until = time.monotonic() + 200
            while not (tmp_path / "run/run/checkpoints/step-00000004.json").is_file() and time.monotonic() < until:
                time.sleep(0.01)
            children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
            workers = [int(pid) for pid in children if "cpu_tiny" in Path(f"/proc/{pid}/cmdline").read_text()]
            assert len(workers) == 2
            os.kill(workers[1], signal.SIGKILL)
            _, said = agent.communicate(timeout=200)
        finally:
            agent.terminate()  # and its workers, where something went wrong
    assert agent.returncode == 0 and "resumed after step" in said, said
    assert {row["step"] for row in losses(tmp_path / "run")} == set(range(1, 41))
    assert sf.load_backbone(str(tmp_path / "run" / "backbone.safetensors")).depth == 4


@pytest.mark.parametrize("verb", ["pretrain", "distill"])
def test_a_session_whose_minutes_are_over_is_no_failure(verb: str, tmp_path: Path) -> None:
    """Under torchrun another exit code would start it again, as often as it may."""
    given = ["loop.max_minutes=0.0001", "prototypes.images=32"][: 2 if verb == "distill" else 1]
    done = CliRunner().invoke(app, command(verb, tmp_path / "run", *given)[2:])
    assert done.exit_code == 0 and "its minutes are over; the same command goes on: slamfeat" in done.stderr
    assert not list((tmp_path / "run").glob("*.safetensors"))
    assert list((tmp_path / "run" / "run" / "checkpoints").glob("step-*.json"))


@pytest.mark.parametrize("verb", ["pretrain", "distill"])
def test_a_recipe_says_nothing_of_images_that_were_not_used(verb: str, sample: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "mine.yaml", tmp_path / "run"
    recipe.write_text(find_recipe("cpu_tiny", verb).read_text() + "notes: {data: theirs, by: me}\n")
    words = command(verb, out, "loop.max_minutes=0.0001", *(["prototypes.images=32"] if verb == "distill" else []))[2:]
    words[1] = str(recipe)
    for more, said in ([], "theirs"), (["data.frame_step=2"], "theirs"), ([f"data.images=[{sample}/rgb]"], "not said"):
        shutil.rmtree(out, ignore_errors=True)
        assert CliRunner().invoke(app, [*words, *more]).exit_code == 0
        notes = load_config({"pretrain": PretrainRecipe, "distill": DistillRecipe}[verb], out / "recipe.yaml").notes
        assert notes["data"].startswith(said) and notes["by"] == "me"


@pytest.mark.parametrize("verb", ["pretrain", "distill"])
def test_held_out_images_are_read_once(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture at the end is of the images that the run was judged by."""
    made: list[Probes] = []
    begin = Probes.__init__

    def counted(self: Probes, *words: Any) -> None:
        made.append(self)
        begin(self, *words)

    monkeypatch.setattr(Probes, "__init__", counted)
    given = ["loop.steps=1", "loop.evaluate_every=1", "prototypes.images=32"][: 3 if verb == "distill" else 2]
    done = CliRunner().invoke(app, command(verb, tmp_path / "run", *given)[2:])
    assert done.exit_code == 0, done.output
    assert len(made) == 1 and (tmp_path / "run" / "tokens.png").is_file()


def test_sharding_needs_processes(tmp_path: Path) -> None:
    done = run("pretrain", tmp_path / "run", "loop.steps=2", "loop.shard=true")
    assert done.returncode == 1 and "start several with torchrun" in done.stderr.splitlines()[-1]


def test_damaged_images_are_told_and_another_recipe_is_refused(sample: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    for file in sorted((sample / "rgb").iterdir())[:20]:
        (photos / file.name).write_bytes(file.read_bytes())
    broken = sorted(photos.iterdir())[3:5]
    for file in broken:
        file.write_bytes(file.read_bytes()[:100])
    given = [f"data.images=[{photos}]", "loop.steps=8", "loop.evaluate_every=4", "loop.save_every=4"]
    done = CliRunner().invoke(app, [*command("pretrain", out, *given)[2:], "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert {Path(name).name for name in said["skipped"]} <= {file.name for file in broken} and said["skipped"]
    assert json.loads((out / "skipped.json").read_text()) == said["skipped"]
    written = (out / "recipe.yaml").read_text()
    again = CliRunner().invoke(app, [*command("pretrain", out, *given, "objective.koleo=0")[2:]])
    assert again.exit_code == 1 and "objective.koleo (0.1 there, 0.0 now)" in again.output
    assert (out / "recipe.yaml").read_text() == written
    (photos / "one_more.png").write_bytes(sorted(photos.iterdir())[0].read_bytes())
    more = CliRunner().invoke(app, [*command("pretrain", out, *given)[2:]])
    assert more.exit_code == 1 and "begun with other images (20 there, 21 now" in more.output
    empty = tmp_path / "empty"
    empty.mkdir()
    none = CliRunner().invoke(app, [*command("pretrain", tmp_path / "x", f"data.images=[{empty}]")[2:]])
    assert none.exit_code == 1 and "holds no images" in none.output


def test_what_any_session_skipped_is_kept(tmp_path: Path) -> None:
    one, other = Joined([]), Joined([])
    one.skipped["a.png"], other.skipped["b.png"] = "truncated", "empty"
    alone, told = Ranks(0, 1, torch.device("cpu")), list[str]()
    report_skipped(Joined([]), tmp_path, alone, told.append)
    assert not told and not list(tmp_path.iterdir())
    report_skipped(one, tmp_path, alone, told.append)
    found = report_skipped(other, tmp_path, alone, told.append)
    assert found == json.loads((tmp_path / "skipped.json").read_text()) == {"a.png": "truncated", "b.png": "empty"}
    assert told == ["skipped a.png: truncated", "skipped a.png: truncated", "skipped b.png: empty"]


@pytest.mark.parametrize("kind", ["pretrain", "distill"])
def test_what_a_session_that_fails_skipped_is_kept(kind: str, sample: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    for file in sorted((sample / "rgb").iterdir())[:8]:
        (photos / file.name).write_bytes(file.read_bytes()[:100])
    done = CliRunner().invoke(app, command(kind, out, f"data.images=[{photos}]", "data.held_out=0.3")[2:])
    assert done.exit_code == 1 and "can be read; the first" in done.output
    kept = json.loads((out / SKIPPED).read_text())
    assert kept and {Path(name).name for name in kept} <= {file.name for file in photos.iterdir()}


@pytest.mark.slow
def test_several_processes_tell_once(sample: Path, tmp_path: Path) -> None:
    """What each of them skipped, in one document."""
    photos, out = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    for file in sorted((sample / "rgb").iterdir())[:20]:
        (photos / file.name).write_bytes(file.read_bytes())
    broken = sorted(photos.iterdir())[::4]
    for file in broken:
        file.write_bytes(file.read_bytes()[:100])
    given = [f"data.images=[{photos}]", "loop.steps=10", "loop.evaluate_every=10", "probes.images=20", "--json"]
    done = run("pretrain", out, *given, processes=2)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["skipped"]
    assert {Path(name).name for name in said} == {file.name for file in broken}
    assert json.loads((out / "skipped.json").read_text()) == said
    assert done.stderr.count(f"skipped {broken[0]}") == 1


def test_too_few_images_a_process_are_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KoLeo looks for neighbours among those of a process; the corrected command then finds the folder free."""

    @contextmanager
    def four(device: str) -> Iterator[Ranks]:
        yield Ranks(0, 4, torch.device(device))

    monkeypatch.setattr("slamfeat.pretrain.run.joined_ranks", four)
    for words, said in (
        ((), "two images or more a process"),
        (["objective.koleo_group=4", "loop.batch=8"], "groups of 4"),
    ):
        with pytest.raises(ConfigError, match=said):
            pretrain(small_recipe(*words), tmp_path / "run")
    with pytest.raises(ConfigError, match="cannot be shared by 4 processes"):
        pretrain(small_recipe("loop.batch=6"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
