"""Named settings, and what may change them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slamfeat.errors import ConfigError, ImageError
from slamfeat.frontend import Frontend, FrontendConfig
from slamfeat.frontend.presets import PRESETS, default_preset, find_preset
from slamfeat.vo.pipeline import load_pipeline


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_matches_a_shifted_photo(photo: np.ndarray, name: str) -> None:
    frontend = Frontend.from_pretrained("default", preset=name, engine="torch", precision="fp32")
    first, second = photo[:-20, :-40], photo[20:, 40:]
    points0, points1, _ = frontend.match(frontend.extract(first), frontend.extract(second)).numpy()
    error = np.linalg.norm(points0 - points1 - [40, 20], axis=1)
    assert len(points0) > 150
    assert (error < 1).mean() > 0.9


@pytest.mark.parametrize("name", PRESETS)
def test_a_small_image_works_or_the_error_says_what_helps(photo: np.ndarray, name: str) -> None:
    small = photo[200:248, 200:248]
    config = find_preset(name)
    if config.cell <= 48:
        assert Frontend.from_pretrained("default", config=config, engine="torch").extract(small).mask.any()
        return
    with pytest.raises(ImageError, match=r"48x48 .* frontend\.fit=pad or resize, or a smaller frontend\.cell"):
        Frontend.from_pretrained("default", config=config, engine="torch").extract(small)
    config.fit = "pad"
    assert Frontend.from_pretrained("default", config=config, engine="torch").extract(small).mask.any()


def test_presets_do_less_the_faster_they_are() -> None:
    accurate, balanced, fast = (find_preset(name) for name in ("accurate", "balanced", "fast"))
    assert (accurate.heads, balanced.heads, fast.heads) == ("full", "light", "")
    assert balanced.matcher.layers > 0 and fast.depth < balanced.depth
    assert find_preset("untrained") == FrontendConfig()
    assert find_preset("fast") is not find_preset("fast")


def test_the_default_is_one_whose_heads_know_the_backbone(tmp_path: Path) -> None:
    file = tmp_path / "dinov2-vits14-mine.safetensors"
    file.write_bytes(b"")
    for weights in ("default", "dinov2-vits14", file):
        assert default_preset(weights) == "balanced"
    for weights in ("dinov3-vits16", "dinov2-vits14-reg", tmp_path / "missing.safetensors"):
        assert default_preset(weights) == "untrained"
    assert load_pipeline(None, ["weights=dinov2-vitb14"]).frontend == FrontendConfig()
    assert load_pipeline(None, ["preset=fast"], weights="dinov2-vitb14").preset == "fast"
    assert load_pipeline(None, [], weights="dinov2-vitb14").preset == "untrained"
    assert load_pipeline().preset == "balanced"


def test_recipe_and_words_change_a_preset(tmp_path: Path) -> None:
    recipe = tmp_path / "a.yaml"
    recipe.write_text("preset: fast\nfrontend:\n  num_keypoints: 300\n")
    config = load_pipeline(recipe, ["frontend.refine.window=13"])
    expected = find_preset("fast")
    expected.num_keypoints, expected.refine.window = 300, 13
    assert config.frontend == expected
    assert load_pipeline(recipe, ["preset=untrained"]).frontend == FrontendConfig(num_keypoints=300)


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'ballanced'; did you mean 'balanced'\?"):
        Frontend.from_pretrained("default", preset="ballanced")
    with pytest.raises(ConfigError, match="unknown preset"):
        load_pipeline(None, ["preset=turbo"])
    with pytest.raises(ConfigError, match="either a preset or a config"):
        Frontend.from_pretrained("default", preset="fast", config=FrontendConfig())
