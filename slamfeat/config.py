"""Typed dataclasses from YAML files and `key=value` words. OmegaConf does not leave this file."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from slamfeat.errors import ConfigError

T = TypeVar("T")


@overload
def load_config(schema: type[T], recipe: str | Path | None = None, overrides: Sequence[str] = ()) -> T: ...
@overload
def load_config(schema: T, recipe: str | Path | None = None, overrides: Sequence[str] = ()) -> T: ...
def load_config(schema: Any, recipe: str | Path | None = None, overrides: Sequence[str] = ()) -> Any:
    """Build `schema` from its defaults, then the YAML file `recipe`, then `key=value` words.

    Args:
        schema: a dataclass whose fields all have defaults, or an object of one that holds other defaults; nested
            dataclasses are reached with dots.
        recipe: a YAML file that holds only the differences from the defaults.
        overrides: words such as `frontend.num_keypoints=512`; nothing after the sign is empty text where text belongs.

    Raises:
        ConfigError: missing or malformed file, unknown key (with a suggestion), or a value of the wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    source = str(recipe) if recipe else "the command line"
    config = OmegaConf.structured(schema)
    try:
        if recipe is not None:
            loaded = OmegaConf.load(Path(recipe))
            _check_keys(schema, OmegaConf.to_container(loaded), str(recipe))
            config = OmegaConf.merge(config, loaded)
        for word in overrides:
            source = f"'{word}'"
            if "=" not in word:
                raise ConfigError(f"{source} is not of the form key=value")
            if word.endswith("=") and isinstance(OmegaConf.select(config, word[:-1]), str):
                word += "''"  # empty text, of which the shell took the quotes
            change = OmegaConf.from_dotlist([word])
            _check_keys(schema, OmegaConf.to_container(change), source)
            config = OmegaConf.merge(config, change)
        return OmegaConf.to_object(config)
    except FileNotFoundError as error:
        raise ConfigError(f"no configuration file {recipe}; check the path") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{source}: {str(error).splitlines()[0]}") from error
    except YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML ({' '.join(str(error).split())})") from error
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(f"{source}: {str(error).splitlines()[0]}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain nested dicts, ready for JSON."""
    return dataclasses.asdict(config)


def to_yaml(config: Any) -> str:
    """A config dataclass as YAML; `load_config` reads it back to an equal object."""
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(OmegaConf.structured(config)))


def _has_field(value: Any, name: object) -> bool:
    return dataclasses.is_dataclass(value) and name in {field.name for field in dataclasses.fields(value)}


def _check_keys(schema: Any, given: Any, source: str, prefix: str = "") -> None:
    if not isinstance(given, dict):
        raise ConfigError(f"{source}: expected 'key: value' pairs" + (f" under {prefix[:-1]}" if prefix else ""))
    defaults = schema() if isinstance(schema, type) else schema
    fields = {f.name: getattr(defaults, f.name) for f in dataclasses.fields(defaults)}
    for key, value in given.items():
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            inside = [f"{name}.{key}" for name, default in fields.items() if _has_field(default, key)]
            near = inside or close
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known: {', '.join(fields)}"
            raise ConfigError(f"{source}: unknown key '{prefix}{key}'; {hint}")
        if dataclasses.is_dataclass(fields[key]):
            _check_keys(fields[key], value, source, f"{prefix}{key}.")
