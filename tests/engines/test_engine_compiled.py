"""Networks in OpenVINO: the same numbers, one conversion for all shapes, found again by what they are made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from engine_backbones import need
from torch import Tensor, nn

from slamfeat.engines import cache, compiled
from slamfeat.engines.compiled import CompiledModule, compile_module
from slamfeat.engines.module_entry import module_entry


class Small(nn.Module):
    """A layer and a mask, so that two types of inputs are seen."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(5, 3, generator=generator))

    def forward(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        out = values @ self.weight
        return out, out.masked_fill(mask[..., None], 0.0).sum(1)


class Other(Small):
    """Another class with the same weights."""


EXAMPLE = torch.zeros(1, 4, 5), torch.zeros(1, 4, dtype=torch.bool)


def made(seed: int = 0) -> CompiledModule:
    need("openvino")
    return compile_module(Small(seed), EXAMPLE, "", "fp32")


@pytest.mark.parametrize(("batch", "count"), [(1, 4), (2, 9), (3, 1)])
def test_every_shape_gives_what_torch_gives(batch: int, count: int) -> None:
    network, values, mask = made(), torch.randn(batch, count, 5), torch.rand(batch, count) > 0.5
    for found, wanted in zip(network(values, mask), Small()(values, mask), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_outputs_are_the_callers_own_and_few_shapes_are_kept() -> None:
    network = made()
    first = network(torch.ones(1, 4, 5), EXAMPLE[1])[0]
    kept = first.clone()
    for count in range(1, 9):
        network(torch.rand(1, count, 5), torch.zeros(1, count, dtype=torch.bool))
    network(torch.zeros(1, 4, 5), EXAMPLE[1])
    assert torch.equal(first, kept)
    assert len(network._requests) == compiled._KEPT


def test_it_is_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made(7)

    def refuse(module: nn.Module, example: tuple[Tensor, ...]) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(compiled, "_convert", refuse)
    values, mask = torch.rand(1, 4, 5), EXAMPLE[1]
    torch.testing.assert_close(made(7)(values, mask)[0], Small(7)(values, mask)[0])


def test_weights_class_and_settings_are_told_apart() -> None:
    entries = [
        module_entry(Small(), ""),
        module_entry(Small(1), ""),
        module_entry(Other(), ""),
        module_entry(Small(), "x"),
    ]
    assert len({entry.identity for entry in entries}) == 4
    assert module_entry(Small(), "") == entries[0]


def test_what_cannot_be_kept_still_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(cache, "engines_folder", lambda: tmp_path / "file" / "engines")
    values, mask = torch.rand(1, 4, 5), EXAMPLE[1]
    torch.testing.assert_close(made(8)(values, mask)[0], Small(8)(values, mask)[0])
    assert "cannot keep" in caplog.text


def test_conversion_is_silent_and_reports_to_nobody() -> None:
    need("openvino")
    code = (
        "import socket, sys, torch\n"
        "def refuse(*a, **k): raise SystemExit('network')\n"
        "socket.socket.connect = refuse\n"
        "from slamfeat.engines.compiled import compile_module\n"
        "network = compile_module(torch.nn.Linear(3, 4), (torch.zeros(2, 3),), 'silent', 'fp32')\n"
        "assert network(torch.ones(5, 3))[0].shape == (5, 4)\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


INTERRUPTED = """
import gc, os, signal
import torch
from test_engine_compiled import EXAMPLE, Small
from slamfeat.engines.compiled import compile_module

networks = [compile_module(Small(seed), EXAMPLE, "", "fp32") for seed in range(3)]
for network in networks:
    network(*EXAMPLE)
while networks:
    del networks[0], network
    gc.collect()
    network = None
rubbish = [torch.zeros(3000) for _ in range(3000)]
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_after_networks_went_in_the_order_they_came(tmp_path: Path) -> None:
    """OpenVINO's cores put the stack of signals back to one that an earlier core has freed."""
    made()
    words = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
