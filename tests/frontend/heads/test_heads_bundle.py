"""Heads in a file, and a frontend that uses them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from slamfeat.errors import ConfigError, WeightsError
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.heads.bundle import Heads, HeadsAbout, load_heads, save_heads, shipped_heads
from slamfeat.frontend.heads.lightglue_weights import load_lightglue
from slamfeat.frontend.heads.matcher import AttentionConfig
from slamfeat.frontend.heads.refiner import RefinerConfig
from slamfeat.frontend.matcher import MatcherConfig
from slamfeat.frontend.refine import RefineConfig


@pytest.fixture(scope="module")
def heads(published: Callable[[str], Mapping[str, torch.Tensor]]) -> Heads:
    """XFeat and LighterGlue as published; tokens are not let in, and the refiner knows nothing."""
    torch.manual_seed(0)
    made = Heads(HeadsAbout("dinov2-vits14", 8, "xfeat", AttentionConfig(), RefinerConfig()))
    state = {f"net.{k}": v for k, v in published("xfeat").items() if not k.startswith("fine_matcher.")}
    made.fine.load_state_dict(state)
    assert made.matcher is not None
    load_lightglue(made.matcher, published("xfeat-lighterglue"))
    return made


def learned(path: Path | str, method: str = "attention", refine: str = "lk") -> FrontendConfig:
    return FrontendConfig(
        depth=0.75, heads=str(path), matcher=MatcherConfig(method=method), refine=RefineConfig(method=refine)
    )


def test_what_was_saved_is_loaded(heads: Heads, tmp_path: Path) -> None:
    loaded = load_heads(save_heads(heads, tmp_path / "h.safetensors"))
    assert loaded.about == heads.about
    for name, value in heads.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-6, rtol=1e-3)
    assert not any(p.requires_grad for p in loaded.parameters()) and not loaded.training


def test_a_frontend_with_heads_matches_a_shifted_photo(heads: Heads, tmp_path: Path, photo: np.ndarray) -> None:
    path = save_heads(heads, tmp_path / "h.safetensors")
    frontend = Frontend.from_pretrained("dinov2-vits14-int8", config=learned(path), engine="torch", precision="fp32")
    first, second = frontend.extract(photo[:-20, :-40]), frontend.extract(photo[20:, 40:])
    assert first.descriptors.shape == (1, 1024, 64)
    points0, points1, _ = frontend.match(first, second).numpy()
    error = np.linalg.norm(points0 - points1 - [40, 20], axis=1)
    assert len(points0) > 300 and (error < 1).mean() > 0.95


def test_the_matcher_is_lighterglue_until_tokens_are_let_in(
    heads: Heads, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the whole frontend: other tokens, same matches."""
    matches = []
    for depth in (0.75, 0.34):
        config = learned("", refine="none")
        config.depth = depth
        monkeypatch.setattr(heads, "about", dataclasses.replace(heads.about, layer=int(12 * depth) - 1))
        frontend = Frontend.from_pretrained("dinov2-vits14-int8", config=FrontendConfig(depth=depth), engine="torch")
        frontend = Frontend(frontend.backbone, config, engine=frontend.engine, heads=heads)
        matches.append(frontend.match(frontend.extract(photo), frontend.extract(photo[::-1].copy())))
    torch.testing.assert_close(matches[0].scores, matches[1].scores, atol=1e-5, rtol=0)


def test_heads_that_do_not_fit_are_refused(heads: Heads, tmp_path: Path) -> None:
    path = save_heads(heads, tmp_path / "h.safetensors")
    other = learned(path)
    other.depth = 0.5
    with pytest.raises(ConfigError, match=r"trained on block .* not on \[5\]"):
        Frontend.from_pretrained("dinov2-vits14-int8", config=other, engine="torch")
    with pytest.raises(ConfigError, match="need trained heads"):
        Frontend.from_pretrained("dinov2-vits14-int8", config=learned(""), engine="torch")
    with pytest.raises(ConfigError, match="unknown heads 'nonsense'"):
        Frontend.from_pretrained("dinov2-vits14-int8", config=learned("nonsense"), engine="torch")


def test_shipped_heads_are_small() -> None:
    """The sizes that were promised: the light matcher 1.5 million parameters, the files 12 and 30 MB."""
    matcher, files = load_heads("light").matcher, shipped_heads()
    assert matcher is not None and sum(parameter.numel() for parameter in matcher.parameters()) <= 1.5e6
    assert files["light"].stat().st_size <= 12e6 and files["full"].stat().st_size <= 30e6


def test_damaged_heads_are_refused(heads: Heads, tmp_path: Path) -> None:
    path = save_heads(heads, tmp_path / "h.safetensors")
    content = bytearray(path.read_bytes())
    content[-100] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match=r"h\.safetensors"):
        load_heads(path)
    path.write_bytes(bytes(content[: len(content) // 2]))
    with pytest.raises(WeightsError, match=r"h\.safetensors"):
        load_heads(path)
