"""What is said when the backbone runs slower than it could."""

from __future__ import annotations

import logging

import pytest

from slamfeat.engines import make, make_engine
from tests.backbones.tiny_backbones import make_backbone


@pytest.mark.parametrize(("engine", "there", "said"), [("auto", False, 1), ("torch", False, 0), ("auto", True, 0)])
def test_torch_for_want_of_openvino_is_said_once(
    engine: str, there: bool, said: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = make_backbone("tiny2").requires_grad_(False)
    monkeypatch.setattr(make, "plan_engine", lambda *_: make.Choice("torch", "fp32", "as planned"))
    monkeypatch.setattr(make, "installed", lambda *_: there)
    with caplog.at_level(logging.INFO, logger="slamfeat.engines"):
        assert make_engine(backbone, [0], engine).name == "torch"
    assert [record.levelname for record in caplog.records] == ["INFO"] * said
    assert all("slamfeat[openvino]" in record.message for record in caplog.records)
