"""The journal keeps what was written whole, whatever happens afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slamfeat.errors import InputError, OutputError
from slamfeat.export.journal import Journal

SETTINGS = '{"a": 1}'


def record(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"points": random.normal(size=(5, 2)).astype(np.float32), "size": np.array([640, 480])}


def filled(path: Path, count: int = 3) -> Path:
    journal = Journal(path, SETTINGS)
    for index in range(count):
        journal.append(f"folder/{index}.png", record(index))
    journal.close()
    return path


def test_every_cut_leaves_the_whole_records(tmp_path: Path) -> None:
    """Killed at any byte: what is read back is a prefix of what was written, and writing goes on behind it."""
    data = filled(tmp_path / "whole").read_bytes()
    kept = []
    for cut in range(0, len(data) + 1, 7):
        path = tmp_path / "cut"
        path.write_bytes(data[:cut])
        journal = Journal(path, SETTINGS)
        names = list(journal.names)
        assert names == [f"folder/{i}.png" for i in range(len(names))]
        kept.append(len(names))
        journal.append("new", record(9))
        for name, seed in [*((name, i) for i, name in enumerate(names)), ("new", 9)]:
            for key, value in record(seed).items():
                assert np.array_equal(journal.read(name)[key], value)
        journal.close()
        assert Journal(path, SETTINGS).names == [*names, "new"]
    assert sorted(kept) == kept and set(kept) == {0, 1, 2}
    assert Journal(filled(tmp_path / "again"), SETTINGS).names == [f"folder/{i}.png" for i in range(3)]


def test_damage_and_other_settings_are_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.part")
    with pytest.raises(InputError, match=r"a\.part was begun with other settings; delete it"):
        Journal(path, '{"a": 2}')
    data = bytearray(path.read_bytes())
    data[-3] ^= 255
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.part is damaged; delete it"):
        Journal(path, SETTINGS).read("folder/2.png")
    path.write_bytes(b"something else altogether, and longer than the header of a journal")
    with pytest.raises(InputError, match=r"a\.part is damaged"):
        Journal(path, SETTINGS)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="another --out"):
        Journal(tmp_path / "file" / "a.part", SETTINGS)


def test_discarding(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.part", SETTINGS)
    journal.discard()
    assert list(tmp_path.iterdir()) == []
