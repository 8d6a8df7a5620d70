"""`slamfeat doctor`: what this machine offers, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from typing import Any

from rich.table import Table

from slamfeat.cli.common import Json, console, tell

EXAMPLES = "Example: [bold]slamfeat doctor --json[/bold]"
_PACKAGES = ("torch", "opencv-python", "kornia", "numpy", "scipy", "pycolmap", "evo", "open3d", "safetensors")


def doctor_command(as_json: Json = False) -> None:
    """Show versions, processor, precision, weights, and advice."""
    facts, advice = examine()
    if as_json:
        print(json.dumps({**facts, "advice": advice}, indent=2))
        return
    table = Table(show_header=False)
    for key, value in facts.items():
        table.add_row(key, (", ".join(value) or "none") if isinstance(value, list) else str(value))
    console.print(table)
    for line in advice or ["nothing to mend"]:
        tell(f"• {line}")


def examine() -> tuple[dict[str, Any], list[str]]:
    """Facts by name, and what to do about what is missing."""
    import torch

    from slamfeat import __version__
    from slamfeat.backbones import list_backbones, store
    from slamfeat.bench.provenance import cpu_model
    from slamfeat.frontend.pretrained import DEFAULT_WEIGHTS, choose_dtype

    advice: list[str] = []
    stored = [name for name in list_backbones() if store.stored_path(name).exists()]
    chosen = choose_dtype("auto", torch.device("cpu"))
    facts = {
        "slamfeat": __version__,
        "python": platform.python_version(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "precision on cpu": str(chosen).removeprefix("torch."),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        **{package: _version(package, advice) for package in _PACKAGES},
        "poselib (optional)": _version("poselib", []),
        "open3d loads": _open3d_loads(advice),
        "default weights": "shipped" if DEFAULT_WEIGHTS.exists() else "missing",
        "stored weights": stored,
        "weights folder": str(store.weights_folder()),
    }
    if not DEFAULT_WEIGHTS.exists():
        advice.append("the shipped weights are missing: install slamfeat again")
    if "dinov2-vits14" not in stored:
        advice.append("full-precision DINOv2 ViT-S/14: slamfeat weights get dinov2-vits14")
    if chosen == torch.float32:
        advice.append("this processor has no bfloat16: larger cells are faster, for example frontend.cell=42")
    return facts, advice


def _version(package: str, advice: list[str]) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        # The headless build gives the same module under another name.
        if package == "opencv-python":
            return _version("opencv-python-headless", advice)
        advice.append(f"{package} is missing: pip install {package}")
        return "missing"


def _open3d_loads(advice: list[str]) -> str:
    from slamfeat.errors import MissingDependencyError
    from slamfeat.viz.fusion import import_open3d

    try:
        import_open3d()
    except MissingDependencyError as error:
        advice.append(str(error))
        return "no"
    return "yes"
