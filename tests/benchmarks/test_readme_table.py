"""Tables of the results in the README."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import readme_table

SECTION = "<!-- results: {name} -->\n{text}\n<!-- end of results -->\n"


def test_tables_are_put_in_and_missing_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(readme_table, "REPO", tmp_path)
    (tmp_path / "new.md").write_text("| new |\n")
    old = SECTION.format(name="new.md", text="| old |") + "between\n" + SECTION.format(name="gone.md", text="| kept |")
    (tmp_path / "README.md").write_text(old)
    readme_table.main()
    assert (tmp_path / "README.md").read_text() == old.replace("old", "new")
    assert "gone.md is missing" in capsys.readouterr().err
