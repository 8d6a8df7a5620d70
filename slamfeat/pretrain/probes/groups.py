"""Classes of images: by what their files' names begin with, from a text file, or by the folders that they lie in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slamfeat.errors import ConfigError
from slamfeat.pretrain.shards import in_shard
from slamfeat.train.recipe_files import recipes_folder

FOLDERS = "folders"


class FolderGroups:
    """A class a folder, as ImageNet is laid out.

    Attributes:
        names: of the folders, in the order of the alphabet.
    """

    def __init__(self, files: Sequence[str]) -> None:
        """Of all images that there are, by their names in a source."""
        self.names: Sequence[str] = sorted({_folder(file) for file in files} - {""})
        self._numbers = {name: number for number, name in enumerate(self.names)}

    def of(self, name: str) -> int | None:
        """The number of an image's folder; None where it lies in none, as in a shard."""
        return self._numbers.get(_folder(name))


class Groups:
    """Groups in the order in which the file names them.

    Attributes:
        names: of the groups.
    """

    def __init__(self, path: Path) -> None:
        """Read lines `GROUP BEGINNING ...`, where a beginning is that of a file's name, or FIRST-LAST for all between.

        Raises:
            ConfigError: the file is missing, or has a line without beginnings.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(f"probes.groups: {path} cannot be read ({error}); check the path") from error
        found: dict[str, list[tuple[str, str]]] = {}
        for number, line in enumerate(lines, 1):
            group, *beginnings = line.split("#")[0].split() or [""]
            if group and not beginnings:
                raise ConfigError(f"{path}, line {number}: '{line}' is no GROUP BEGINNING ...")
            if group:
                found.setdefault(group, []).extend(_range(beginning) for beginning in beginnings)
        if len(found) < 2:
            raise ConfigError(f"{path}: names {len(found)} groups; two are needed to tell apart")
        self.names: Sequence[str] = list(found)
        self._ranges = list(found.values())

    def of(self, name: str) -> int | None:
        """The group's number of an image by its name in a source; None where it is in none."""
        file = Path(in_shard(name)).name
        for number, ranges in enumerate(self._ranges):
            if any(first <= file[: len(first)] and file[: len(last)] <= last for first, last in ranges):
                return number
        return None


def open_groups(name_or_path: str, files: Sequence[str] = ()) -> Groups | FolderGroups:
    """Classes by their name.

    Args:
        name_or_path: a file of groups, or one that lies beside the recipes, such as "imagenet_groups"; or "folders".
        files: names of all images in a source, for "folders".

    Raises:
        ConfigError: see `Groups`.
    """
    if name_or_path == FOLDERS:
        return FolderGroups(files)
    known = recipes_folder("pretrain") / f"{name_or_path}.txt"
    return Groups(known if known.is_file() else Path(name_or_path).expanduser())


def _folder(name: str) -> str:
    return Path(in_shard(name)).parent.name


def _range(beginning: str) -> tuple[str, str]:
    first, _, last = beginning.partition("-")
    return first, last or first
