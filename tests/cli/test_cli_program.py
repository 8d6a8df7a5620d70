"""The installed program as its users meet it: help, start-up, pipes, a terminal, Ctrl-C."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_helpers import SCRIPT, cli, script

VERBS = ["demo", "run", "match", "extract", "eval", "curate", "doctor", "weights"]
CHEAP = ("frontend.cell=28", "frontend.num_keypoints=300")


def test_help_lists_every_verb() -> None:
    for words in ((), ("--help",), ("-h",)):
        result = cli(*words)
        assert result.exit_code == (0 if words else 2)
        for verb in VERBS:
            assert re.search(rf"^│ {verb} ", result.output, re.MULTILINE)


@pytest.mark.parametrize("verb", [*VERBS, "weights list", "weights get", "weights verify"])
def test_help_has_an_example_and_nothing_is_cut(verb: str) -> None:
    result = cli(*verb.split(), "--help")
    assert result.exit_code == 0
    assert re.search(rf"^ *(Example: |Start with: )?slamfeat {verb}", result.output, re.MULTILINE)
    assert "…" not in result.output and "<bool>" not in result.output
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("verb", "wanted"), [("train", "data.photos=[photos]"), ("bench vo", "PATH[:MODE,...][@START:STOP:STRIDE]")]
)
def test_brackets_in_help_are_shown(verb: str, wanted: str) -> None:
    """Not taken for the console's markup."""
    assert wanted in " ".join(cli(*verb.split(), "--help").output.split())


def test_help_starts_quickly_without_torch() -> None:
    code = (
        "import sys, time\nstart = time.perf_counter()\nsys.argv[1:] = ['run', '--help']\n"
        "from slamfeat.cli.main import main\ntry: main()\nexcept SystemExit: pass\n"
        "print(time.perf_counter() - start)\n"
        "print({'torch', 'numpy', 'cv2', 'matplotlib', 'evo'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = done.stdout.splitlines()[-2:]
    assert heavy == "set()" and float(seconds) < 1.5 and done.stderr == ""


def test_version_and_unknown_verbs(tmp_path: Path) -> None:
    import slamfeat

    done = script("--version", cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout.strip()) == (0, slamfeat.__version__)
    done = script("fly", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_gets_no_complaint(tmp_path: Path) -> None:
    command = f"{SCRIPT} weights list | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=60)
    assert done.stderr == ""


def test_errors_of_the_program(tmp_path: Path) -> None:
    done = script("run", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: no such file or folder: nowhere; check the path\n"


def test_piped_run_prints_json_and_nothing_else(sample: Path, tmp_path: Path) -> None:
    done = script("run", sample, "--stop", 4, "--mode", "mono", *CHEAP, "--json", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    row = json.loads(done.stdout)
    assert row["frames"] == 4 and row["frontend"] == "default"


def test_ctrl_c_in_a_terminal(sample: Path, tmp_path: Path) -> None:
    """The key itself, on a real terminal of 80 columns, while the bar counts."""
    process, keyboard = start_in_terminal("run", sample, "--mode", "mono", "--out", "kept", *CHEAP, cwd=tmp_path)
    seen = read_until(keyboard, r"[3-9]/60")
    assert re.search(r"FPS, tracked \d+ %", seen)
    os.write(keyboard, b"\x03")
    rest = read_until(keyboard, None)
    assert process.wait(timeout=60) == 130
    os.close(keyboard)
    assert "interrupted after" in rest and "Traceback" not in rest and "written to kept" in rest
    row = json.loads((tmp_path / "kept" / "metrics.json").read_text())
    assert row["interrupted"] and 3 <= row["frames"] < 60


def start_in_terminal(*arguments: object, cwd: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The program with a terminal of its own; returns it and the terminal's other end."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm", "OMP_NUM_THREADS": "1"}

    def take_terminal() -> None:
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [str(SCRIPT), *map(str, arguments)], stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=environment,
        preexec_fn=take_terminal,
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def read_until(terminal: int, pattern: str | None, seconds: float = 90) -> str:
    """What the terminal shows until `pattern` appears, or until the program has left."""
    seen, end = "", time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # how Linux reports that the program has closed the terminal
            break
        seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace"))
        if not data or (pattern and re.search(pattern, seen)):
            break
    return seen


def test_doctor_states_facts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    result = cli("doctor", "--json")
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["torch"] == torch.__version__ and facts["cores"] == os.cpu_count()
    assert (
        facts["shipped weights"] == ["default", "dinov2-vits14-int8", "slamfeat-vits14-2"]
        and facts["stored weights"] == []
    )
    assert any("slamfeat weights get dinov2-vits14" in line for line in facts["advice"])
    assert facts["weights folder"] == str(tmp_path / "weights")
    text = cli("doctor").stdout
    assert "• " in text and facts["cpu"] in text


def test_doctor_says_which_engine_runs_and_what_would_be_faster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from slamfeat.cli import doctor
    from slamfeat.engines.libraries import installed

    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "openvino", None)
    facts, advice = doctor.examine()
    assert re.match(r"(torch|onnx) (fp32|bf16): openvino is not installed", facts["engine"])
    assert any('pip install "slamfeat[openvino]"' in line for line in advice)
    assert facts["engine folder"] == f"{tmp_path / 'engines'}, 0 MB"
    monkeypatch.undo()
    if not installed("openvino", "nncf", "onnx", "onnxscript"):
        pytest.skip("openvino, nncf or the exporter is not installed")
    monkeypatch.setenv("SLAMFEAT_HOME", str(tmp_path))
    for has_int8 in (True, False):
        for module in ("slamfeat.cpu", "slamfeat.engines.choose"):
            monkeypatch.setattr(f"{module}.cpu_has_int8", lambda has_int8=has_int8: has_int8)
        facts, advice = doctor.examine()
        assert facts["engine"].startswith("openvino int8") == has_int8
        assert not any("openvino" in line or "nncf" in line for line in advice)
    monkeypatch.setattr("slamfeat.cpu.cpu_has_int8", lambda: True)
    monkeypatch.setattr("slamfeat.engines.choose.cpu_has_int8", lambda: True)
    monkeypatch.setitem(sys.modules, "nncf", None)
    assert any('"slamfeat[openvino]" (missing: nncf): int8' in line for line in doctor.examine()[1])


@pytest.mark.parametrize("terminal", [True, False])
def test_building_an_engine_is_told_on_a_terminal(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from slamfeat.cli import main
    from slamfeat.cli.common import messages

    monkeypatch.setattr(messages, "_force_terminal", terminal)
    with main._warnings_in_one_line():
        logging.getLogger("slamfeat.engines").info("preparing the backbone")
        logging.getLogger("another.library").info("chatter")
        logging.getLogger("another.library").warning("trouble")
    shown = capsys.readouterr().err
    assert ("preparing the backbone" in shown) == terminal
    assert "chatter" not in shown and "warning: trouble" in shown


def test_doctor_says_how_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    from slamfeat.cli import doctor

    monkeypatch.setitem(sys.modules, "open3d", None)
    monkeypatch.setattr(doctor, "_PACKAGES", ("torch", "no-such-package"))
    facts, advice = doctor.examine()
    assert facts["no-such-package"] == "missing" and facts["open3d loads"] == "no"
    assert "no-such-package is missing: pip install no-such-package" in advice
    assert any("pip install open3d" in line and "apt-get install libusb-1.0-0" in line for line in advice)
