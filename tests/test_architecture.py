"""The rules of docs/architecture.md that a program can hold: import direction, docstrings, a quiet import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "slamfeat"
MODULES = sorted(PACKAGE.rglob("*.py"))
LAYERS: list[tuple[str, ...]] = [
    ("errors", "commit", "files", "run_log", "sample", "geometry.se3"),
    ("types", "config", "cpu", "image", "image_files", "image_header", "trajectory_io"),
    ("backbones", "geometry", "peer_weights"),
    ("engines",),
    ("frontend", "data", "eval"),
    ("vo", "train", "pretrain", "curate", "export", "compat", "viz"),
    ("bench",),
    ("cli",),
]
# Conversions that hang on the value types as methods; imported when called, so that the types stay light.
CONVERSIONS = {("types", "compat"), ("types", "trajectory_io"), ("vo", "viz")}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def layer(module: str) -> int | None:
    """The layer of a module, by the longest name that fits; None for the front door itself."""
    fitting = [
        (len(name), level)
        for level, names in enumerate(LAYERS)
        for name in names
        if f"{module}.".startswith(f"{name}.")
    ]
    return max(fitting)[1] if fitting else None


def imports(path: Path) -> list[tuple[str, int]]:
    """Modules of slamfeat that a file imports at run time, with the line."""
    tree = ast.parse(path.read_text())
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slamfeat"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name.removeprefix("slamfeat").lstrip("."), node.lineno) for name in names]
        elif isinstance(node, ast.Import):
            found += [
                (a.name.removeprefix("slamfeat."), node.lineno) for a in node.names if a.name.startswith("slamfeat.")
            ]
    return found


def test_every_module_has_a_layer() -> None:
    assert [dotted(path) for path in MODULES if dotted(path) and layer(dotted(path)) is None] == []


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_one_way(path: Path) -> None:
    module = dotted(path)
    own = layer(module)
    for target, line in imports(path):
        aimed = layer(target)
        pair = (module.split(".")[0], target.split(".")[0])
        if own is None or aimed is None or pair in CONVERSIONS or pair[0] == pair[1]:
            continue
        assert aimed <= own, f"{path}:{line} imports {target}, which stands above it"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_public_names_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text())
    wanting = [] if ast.get_docstring(tree) or not tree.body else ["module"]
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        overloaded = any(ast.unparse(d) == "overload" for d in node.decorator_list)
        nested = any(node in ast.walk(f) and f is not node for f in ast.walk(tree) if isinstance(f, ast.FunctionDef))
        if not overloaded and not nested and not ast.get_docstring(node):
            wanting.append(node.name)
    assert wanting == []


def test_import_is_silent_quick_and_offline() -> None:
    """No warnings, no sockets, and under two seconds more than torch alone."""
    code = (
        "import time, sys, socket\n"
        "import torch\n"
        "def refuse(*a, **k): raise SystemExit('network at import')\n"
        "socket.socket.connect = refuse\n"
        "start = time.perf_counter()\n"
        "import slamfeat\n"
        "print(time.perf_counter() - start)\n"
        "heavy = {'cv2', 'kornia', 'pycolmap', 'evo', 'open3d', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert float(done.stdout) < 2.0


def test_the_version_is_said_once() -> None:
    import tomllib

    import slamfeat

    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert project["version"] == slamfeat.__version__
