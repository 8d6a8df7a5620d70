"""The heads that rows of the ablation name, as files in its working folder.

Kept predictions know a frontend by its recipe, and a recipe knows heads by their file's name: with a digest in it,
other heads under the old name never meet what was predicted with these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from slamfeat.backbones.checkpoints import state_digest
from slamfeat.errors import ConfigError, SlamfeatError
from slamfeat.frontend.heads.bundle import Heads, load_heads, save_heads


def unchanged(heads: Heads) -> Heads:
    """The heads themselves."""
    return heads


def without_tokens(heads: Heads) -> Heads:
    """The same heads without the weights that lead tokens into the matcher, which is the same as with zeros there.

    Raises:
        ConfigError: there is no matcher, or it knows no tokens.
    """
    settings = heads.about.matcher
    if settings is None or not settings.token_dim:
        raise ConfigError("these heads have no matcher with tokens that could be left out")
    blind = Heads(replace(heads.about, matcher=replace(settings, token_dim=0)))
    state = heads.state_dict()
    blind.load_state_dict({key: value for key, value in state.items() if not key.startswith("matcher.tokens.")})
    return blind


VARIANTS: dict[str, tuple[str, Callable[[Heads], Heads]]] = {
    "light": ("light", unchanged),
    "light-without-tokens": ("light", without_tokens),
    "full": ("full", unchanged),
    "scratch": ("scratch", unchanged),
}
"""By the name that rows use: which of the given heads, and what is made of them."""


def write_heads(given: Mapping[str, str], folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Files of all variants by name, and why there is none of the others.

    Args:
        given: names of shipped heads, or files, for "light", "full" and "scratch".
        folder: where the files go.
    """
    files, missing = {}, {}
    for name, (source, change) in VARIANTS.items():
        try:
            heads = change(load_heads(given[source]))
        except SlamfeatError as error:
            missing[name] = " ".join(str(error).split())
            continue
        about = replace(heads.about, notes={})
        words = f"{about} {state_digest(heads.state_dict())}"
        path = folder / f"{name}-{hashlib.sha256(words.encode()).hexdigest()[:10]}.safetensors"
        files[name] = str(path if path.exists() else save_heads(heads, path))
    return files, missing
