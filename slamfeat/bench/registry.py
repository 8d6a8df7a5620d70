"""From a name to a frontend: slamfeat, its presets and recipes, the peers' files, and a file of the user's own.

A peer is one Python file with `FRONTENDS: dict[str, Callable[[int], FeatureFrontend]]`, from a name to a factory that
takes the keypoint budget. Peers live in benchmarks/peers/ of a checkout (a wheel carries a copy).
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from slamfeat.errors import ConfigError
from slamfeat.frontend import FeatureFrontend, Frontend
from slamfeat.frontend.presets import PRESETS

PACKAGE = Path(__file__).parent.parent
Factory = Callable[[int], FeatureFrontend]
OURS = "slamfeat"
_LIBRARIES = ("torch", "kornia", "opencv-python", "numpy")
_OWN_LIBRARIES = ("openvino", "nncf", "onnxruntime", "scipy")  # no peer computes with these
_OWN_FOLDERS = ("frontend", "frontend/heads", "backbones", "engines")
_OWN_FILES = ("image.py", "image_header.py", "types.py", "cpu.py", "config.py", "vo/pipeline.py")


def peers_folder() -> Path:
    """Where the peers' files are: inside an installed package, or in a source checkout."""
    packed = PACKAGE / "bench" / "peers"
    return packed if packed.is_dir() else PACKAGE.parent / "benchmarks" / "peers"


def list_frontends() -> list[str]:
    """All names that `build_frontend` knows without a file."""
    return [OURS, *_presets(), *_recipes(), *_peers()]


def is_ours(name: str) -> bool:
    """Whether a name is slamfeat's: itself, a preset or recipe ("slamfeat:NAME"), or a recipe's file."""
    return name == OURS or name.startswith(f"{OURS}:") or name.endswith((".yaml", ".yml"))


def build_frontend(name: str, num_keypoints: int) -> FeatureFrontend:
    """A frontend by name or file, with a budget of keypoints.

    Args:
        name: "slamfeat", "slamfeat:PRESET", "slamfeat:RECIPE" (a file of configs/frontend), a peer's name, a .yaml
            recipe of slamfeat's, or a .py file with `FRONTENDS` ("file.py", or "file.py:name" where it has several).
        num_keypoints: slots K.

    Raises:
        ConfigError: unknown name, or a file without `FRONTENDS`.
        WeightsError: weights missing; says how to get them.
    """
    if is_ours(name):
        return _ours(name, num_keypoints)
    _, factory = _find(name)
    return factory(num_keypoints)


def settings_of(frontend: FeatureFrontend) -> dict[str, Any]:
    """What a frontend says of its settings: its `settings`, or slamfeat's configuration."""
    from slamfeat.config import to_dict

    if not isinstance(frontend, Frontend):
        return dict(getattr(frontend, "settings", {}))
    backbone, engine = frontend.backbone, frontend.engine
    blocks = max(layer % backbone.depth for layer in frontend.layers) + 1  # no engine computes more
    about = {
        "backbone": backbone.name, "blocks": blocks, "engine": engine.name, "precision": engine.precision,
    }  # fmt: skip
    return {**about, **_flat(to_dict(frontend.config))}


@functools.cache
def fingerprint(name: str) -> str:
    """A digest of the code, weights and libraries behind a name: another one makes other predictions."""
    libraries = (*_LIBRARIES, *_OWN_LIBRARIES) if is_ours(name) else _LIBRARIES
    digest = hashlib.sha256(repr([_version(library) for library in libraries]).encode())
    recipe = _recipe_of(name)
    files = [recipe, *_named_in(recipe)] if recipe else []
    if is_ours(name):
        files += [file for folder in _OWN_FOLDERS for file in _sources(folder)]
        files += [*(PACKAGE / file for file in _OWN_FILES), *sorted((PACKAGE / "assets").iterdir())]
    else:
        files += [_find(name)[0], PACKAGE / "peer_weights.py", *sorted((PACKAGE / "bench").glob("peer_*.py"))]
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _named_in(recipe: Path) -> list[Path]:
    """The files of weights and heads that a recipe names: their content decides, whatever they are called."""
    from slamfeat.vo.pipeline import load_pipeline

    made = load_pipeline(recipe)
    named = (Path(word).expanduser() for word in (made.weights, made.frontend.heads) if word)
    files = (path / "model.safetensors" if path.is_dir() else path for path in named)  # a folder as Hugging Face's
    return [path for path in files if path.is_file()]


@functools.cache
def source_digest(*folders: str) -> str:
    """A digest of the source in folders of the package, such as "vo"."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in _sources(folder):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _sources(folder: str) -> list[Path]:
    return sorted((PACKAGE / folder).glob("*.py"))


def _ours(name: str, num_keypoints: int) -> FeatureFrontend:
    from slamfeat.vo.pipeline import build_frontend, load_pipeline

    words = [f"frontend.num_keypoints={num_keypoints}"]
    if name in _presets():
        words.append(f"preset={_presets()[name]}")
    recipe = _recipe_of(name)
    frontend = build_frontend(load_pipeline(recipe, words))
    frontend.name = name if recipe is None or name.startswith(OURS) else recipe.stem
    return frontend


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def _presets() -> dict[str, str]:
    return {f"{OURS}:{name}": name for name in PRESETS}


def _recipes() -> dict[str, Path]:
    return {f"{OURS}:{path.stem}": path for path in sorted((PACKAGE.parent / "configs" / "frontend").glob("*.yaml"))}


def _recipe_of(name: str) -> Path | None:
    """The recipe behind one of slamfeat's names, None where it is the package's or a preset's."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    recipes = _recipes()
    if name.startswith(f"{OURS}:") and name not in recipes and name not in _presets():
        raise _unknown(name)
    return recipes.get(name)


def _find(name: str) -> tuple[Path, Factory]:
    file, _, inner = name.partition(".py")
    if name.endswith(".py") or inner.startswith(":"):
        path = Path(f"{file}.py")
        return path, _choose(path, inner.removeprefix(":"))
    known = _peers()
    if name not in known:
        raise _unknown(name)
    return known[name]


def _unknown(name: str) -> ConfigError:
    close = difflib.get_close_matches(name, list_frontends(), n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(list_frontends())}, or a .py file"
    return ConfigError(f"unknown frontend '{name}'; {hint}")


def _choose(path: Path, wanted: str) -> Factory:
    factories = _factories(path)
    if not wanted and len(factories) == 1:
        return next(iter(factories.values()))
    if wanted not in factories:
        raise ConfigError(f"{path}: has {', '.join(factories)}; name one as {path}:{next(iter(factories))}")
    return factories[wanted]


@functools.cache
def _peers() -> dict[str, tuple[Path, Factory]]:
    files = sorted(path for path in peers_folder().glob("*.py") if not path.name.startswith("_"))
    return {name: (path, factory) for path in files for name, factory in _factories(path).items()}


def _factories(path: Path) -> dict[str, Factory]:
    found: dict[str, Factory] | None = getattr(_load(path), "FRONTENDS", None)
    if not found:
        raise ConfigError(f"{path}: defines no FRONTENDS; see benchmarks/README.md, 'Add a frontend'")
    return found


@functools.cache
def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"no such file: {path}; a frontend's file is a Python module with FRONTENDS")
    spec = importlib.util.spec_from_file_location(f"slamfeat_peer_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "none"
