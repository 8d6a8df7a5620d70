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
_OPTIONAL = ("openvino", "nncf", "onnx", "onnxscript", "onnxruntime", "poselib", "faiss-cpu", "ray")
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
    from slamfeat.cpu import cpu_has_bfloat16
    from slamfeat.engines import cache
    from slamfeat.frontend.pretrained import SHIPPED

    advice: list[str] = []
    missing = [name for name, file in SHIPPED.items() if not file.exists()]
    stored = [name for name in list_backbones() if store.stored_path(name).exists()]
    facts = {
        "slamfeat": __version__,
        "python": platform.python_version(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "bfloat16 on cpu": "yes" if cpu_has_bfloat16() else "no",
        "engine": _engine(advice),
        **{f"{package} (optional)": _version(package, []) for package in _OPTIONAL},
        "engine folder": f"{cache.engines_folder()}, {cache.folder_bytes() / 1e6:.0f} MB",
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        **{package: _version(package, advice) for package in _PACKAGES},
        "open3d loads": _open3d_loads(advice),
        "shipped weights": [name for name in SHIPPED if name not in missing],
        "stored weights": stored,
        "weights folder": str(store.weights_folder()),
    }
    if missing:
        advice.append("the shipped weights are missing: install slamfeat again")
    if "dinov2-vits14" not in stored:
        advice.append("full-precision DINOv2 ViT-S/14: slamfeat weights get dinov2-vits14")
    return facts, advice


def _engine(advice: list[str]) -> str:
    """What `auto` takes for the shipped weights, and why; advice where something faster could be had."""
    import torch

    from slamfeat.cpu import cpu_has_bfloat16, cpu_has_int8
    from slamfeat.engines import plan_engine
    from slamfeat.errors import SlamfeatError
    from slamfeat.frontend import FrontendConfig
    from slamfeat.frontend.grid_choice import layers_of
    from slamfeat.frontend.pretrained import load_pretrained

    try:
        backbone, _ = load_pretrained("default", torch.device("cpu"))
        choice = plan_engine(backbone, layers_of(backbone, FrontendConfig()))
    except SlamfeatError as error:
        return f"unknown: {error}"
    command = f'pip install "slamfeat[openvino]" (missing: {", ".join(_missing())})'
    if choice.engine != "openvino":
        advice.append(f"{command}: the backbone takes about half of its time in torch")
    elif choice.precision != "int8" and cpu_has_int8():
        advice.append(f"{command}: int8 takes about two thirds of the time of bf16")
    if choice.precision == "fp32" and not cpu_has_bfloat16():
        advice.append("the backbone runs in fp32 here: preset=fast takes less of its time")
    return f"{choice.engine} {choice.precision}: {choice.reason}"


def _missing() -> list[str]:
    """What the fastest engine lacks."""
    from slamfeat.cpu import cpu_has_int8
    from slamfeat.engines.graph import can_trace
    from slamfeat.engines.libraries import EXPORTER, installed

    wanted = ("openvino", *(("nncf",) if cpu_has_int8() else ()), *EXPORTER)
    return [*(name for name in wanted if not installed(name)), *([] if can_trace() else ["torch 2.6"])]


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
