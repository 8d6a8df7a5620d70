"""What a converted network is kept under: weights, settings, and the source that computes."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path

from torch import nn

import slamfeat
from slamfeat.backbones.checkpoints import state_digest
from slamfeat.engines import cache

_PACKAGE = Path(slamfeat.__file__).parent


def module_entry(module: nn.Module, settings: str) -> cache.Entry:
    """Where the OpenVINO model of a network is kept.

    Args:
        module: whose weights and classes decide. Of this package every file beside a class counts, of others the
            installed version.
        settings: all else that decides what it computes.
    """
    files: set[Path] = set()
    packages = set()
    for kind in {type(part) for part in module.modules()}:
        package = kind.__module__.partition(".")[0]
        if package == _PACKAGE.name:
            files |= set(Path(inspect.getfile(kind)).parent.glob("*.py"))
        elif package not in ("torch", "__main__"):
            packages.add(package)
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    identity = json.dumps([name, state_digest(module.state_dict()), settings, source, _own_source()])
    return cache.Entry("network", identity, ("torch", "openvino", *sorted(packages)))


def _own_source() -> str:
    return hashlib.sha256((Path(__file__).parent / "compiled.py").read_bytes()).hexdigest()
