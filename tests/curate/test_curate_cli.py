"""`slamfeat curate` as its users meet it, with the shipped backbone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from curate_helpers import copies, manifest, photographs, write_image
from typer.testing import CliRunner, Result

from slamfeat.cli.main import app
from slamfeat.curate import CurateConfig
from slamfeat.curate.embed import load_embedder

RECIPES = sorted((Path(__file__).parents[2] / "configs" / "curate").glob("*.yaml"))


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, ["curate", *map(str, words)])


@pytest.fixture(scope="module")
def images(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four views of a room that differ, and six copies of the first."""
    folder = tmp_path_factory.mktemp("images")
    frames = [frame[::2, ::2] for frame in photographs(sample / "rgb", 60)[::15]]
    for at, frame in enumerate(frames):
        write_image(folder / f"{at}.png", frame)
    for name, altered in copies(frames[0]).items():
        write_image(folder / "z" / f"{name}.png", altered)
    return folder


def test_copies_are_dropped_and_views_are_kept(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = cli(images, "--out", out, "--json", "sample.share=1", "workers=1")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    assert (row["images"], row["dropped_by_dedup"], row["kept"]) == (11, 7, 4)
    entries = manifest(out)
    assert {name for name, entry in entries.items() if entry["status"] == "kept"} == {f"{at}.png" for at in range(4)}
    assert {entry["by"] for entry in entries.values() if entry["status"] == "dropped"} == {"0.png"}
    assert row["manifest"] == str(out / "manifest.jsonl") and Path(row["page"]).is_file()
    command = (out / "config.yaml").read_text().splitlines()[0]
    assert command == f"# slamfeat curate {images} --out {out} sample.share=1 workers=1"
    table = cli(images, "--out", out, "sample.share=1", "workers=2")
    assert table.exit_code == 0 and "duplicates dropped" in table.stdout and "embed: done in 0:00" in table.stderr
    again = cli(images, "--out", out)
    assert again.exit_code == 1 and again.stdout == ""
    assert re.search(r"^error: .*sample\.share \(1\.0 there, 0\.5 now\); pass --from sample", again.stderr, re.M)
    assert cli(images, "--out", out, "--from", "sample").exit_code == 0
    assert len([entry for entry in manifest(out).values() if entry["status"] == "kept"]) == 2


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("nowhere",), ("no such folder: nowhere",)),
        (("empty",), ("empty: holds no images",)),
        (("one", "sample.sahre=1"), ("unknown key 'sample.sahre'", "did you mean 'sample.share'")),
        (("one", "sample.share=2"), ("sample.share must lie in 0..1",)),
        (("one", "embed.size=225"), ("embed.size=225 is not whole patches of dinov2-vits14-int8; use embed.size=224",)),
        (("one", "--address", "auto"), ("pass --engine ray",)),
        (("one", "--weights", "nothing.pth"), ("no weights file nothing.pth",)),
        (("one", "--recipe", "nothing.yaml"), ("no configuration file nothing.yaml",)),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], parts: tuple[str, ...], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").symlink_to(images)
    result = cli(*words, "--out", "out")
    assert result.exit_code == 1 and result.stdout == "" and result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    for part in parts:
        assert part in result.stderr


def test_without_faiss_it_says_what_to_install(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slamfeat.curate.faiss_tools.installed", lambda name: name != "faiss")
    result = cli(images, "--out", tmp_path / "out")
    assert result.exit_code == 1 and 'pip install "slamfeat[curate]"' in result.stderr


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_differences(recipe: Path) -> None:
    from slamfeat.config import load_config

    assert load_config(CurateConfig, recipe) != CurateConfig()
    assert len(recipe.read_text().splitlines()) <= 30


def test_the_package_imports_nothing_optional() -> None:
    code = (
        "import sys, slamfeat.curate, slamfeat.cli.curate\n"
        "print({'faiss', 'ray', 'cv2', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_backbone_is_loaded_as_asked() -> None:
    from slamfeat.curate.config import EmbedConfig

    assert [str(load_embedder(EmbedConfig(precision=one)).dtype) for one in ("fp32", "bf16")] == [
        "torch.float32", "torch.bfloat16",
    ]  # fmt: skip
