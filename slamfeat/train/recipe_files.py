"""Where the recipes of the package are."""

from __future__ import annotations

import difflib
from pathlib import Path

from slamfeat.errors import ConfigError

_PACKAGE = Path(__file__).parent.parent


def recipes_folder(verb: str = "train") -> Path:
    """Of a verb ("train", "pretrain"), inside an installed package or in a source checkout."""
    packed = _PACKAGE / "recipes" / verb
    return packed if packed.is_dir() else _PACKAGE.parent / "configs" / verb


def find_recipe(name_or_path: str, verb: str = "train") -> Path:
    """A recipe's file by its name or path.

    Args:
        name_or_path: a name of the verb's recipes, or a YAML file.
        verb: see `recipes_folder`.

    Raises:
        ConfigError: unknown, with the closest name.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"no recipe {path}; check the path")
        return path
    known = {file.stem: file for file in sorted(recipes_folder(verb).glob("*.yaml"))}
    if name_or_path in known:
        return known[name_or_path]
    close = difflib.get_close_matches(name_or_path, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"use one of {', '.join(known)}, or a .yaml file"
    raise ConfigError(f"unknown recipe '{name_or_path}'; {hint}")
