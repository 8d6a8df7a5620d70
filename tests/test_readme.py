"""What the README tells people to type is run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from slamfeat.image import read_image

REPO = Path(__file__).parent.parent
README = (REPO / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_blocks_run_one_after_the_other(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder with a.png and b.png; `path` is a sequence and `bgr` an image as OpenCV reads it."""
    monkeypatch.chdir(tmp_path)
    frames = sorted((sample / "rgb").iterdir())
    for name, frame in (("a.png", frames[0]), ("b.png", frames[4])):
        cv2.imwrite(name, read_image(frame)[..., ::-1])
    short = tmp_path / sample.name
    short.mkdir()
    for folder in ("rgb", "depth"):
        (short / folder).symlink_to(sample / folder)
    for name in ("groundtruth.txt", "calibration.json", "depth.txt"):
        (short / name).write_text((sample / name).read_text())
    (short / "rgb.txt").write_text("\n".join((sample / "rgb.txt").read_text().splitlines()[:9]) + "\n")
    names: dict[str, object] = {"path": str(short), "bgr": cv2.imread("a.png")}
    found = blocks("python")
    assert len(found) == 3
    for code in found:
        exec(compile(code, "README.md", "exec"), names)  # the project's own text
    assert len(names["points0"]) > 100  # type: ignore[arg-type]
    assert len(names["keypoints"]) == len(names["descriptors"]) > 100  # type: ignore[arg-type]
    assert (tmp_path / "out.tum").exists()
    assert "ate_rmse_m" in capsys.readouterr().out


def test_every_verb_of_the_readme_exists() -> None:
    from slamfeat.cli.main import app

    verbs = {
        shlex.split(line, comments=True)[1]
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("slamfeat ")
    }
    assert verbs >= {"demo", "run", "match", "extract", "eval", "bench", "weights", "doctor"}
    for verb in verbs:
        result = CliRunner().invoke(app, [verb, "--help"])
        assert result.exit_code == 0, verb
        assert "xample" in result.output or verb in ("weights", "bench")


def test_make_targets_and_links_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (REPO / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"demo", "test", "venv", "lint"} <= targets
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (REPO / link).exists(), link


def test_results_sections_are_the_committed_tables() -> None:
    found = re.findall(r"<!-- results: (\S+) -->\n(.*?)<!-- end of results -->", README, flags=re.DOTALL)
    names = ("summary", "standing")
    assert [name for name, _ in found] == [f"benchmarks/results/{name}.md" for name in names]
    for name, shown in found:
        assert shown.strip() == (REPO / name).read_text().strip()
