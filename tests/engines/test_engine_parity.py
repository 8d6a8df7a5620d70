"""Every engine gives the backbone's tokens."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from engine_backbones import LAYERS, TINY, make_backbone, mean_cosine, need_engine, random_images, reference

from slamfeat.engines import make_engine
from slamfeat.errors import InputError

OTHERS = ("openvino", "onnx")


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("engine", OTHERS)
def test_one_export_serves_every_batch_and_size(engine: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    need_engine(engine)
    backbone = make_backbone(name)
    made = make_engine(backbone, LAYERS, engine, "fp32")
    assert (made.name, made.precision, made.patch_size) == (engine, "fp32", backbone.patch_size)
    monkeypatch.delattr("torch.onnx.export")
    for rows, columns, batch in ((5, 7, 1), (4, 9, 3), (5, 5, 2), (1, 3, 1), (5, 7, 2)):
        images = random_images(backbone, rows, columns, batch)
        for got, wanted in zip(made(images), reference(backbone, images), strict=True):
            assert got.shape == wanted.shape == (batch, 48, rows, columns)
            assert got.dtype == torch.float32
            torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bf16(engine: str, name: str) -> None:
    need_engine(engine, "bf16")
    backbone = make_backbone(name)
    made = make_engine(backbone, LAYERS, engine, "bf16")
    assert made.precision == "bf16" and backbone.dtype == torch.float32
    images = random_images(backbone, 6, 8, 2)
    for got, wanted in zip(made(images), reference(backbone, images), strict=True):
        assert got.dtype == torch.float32
        assert mean_cosine(got, wanted) > 0.999
        assert not torch.equal(got, wanted)


@pytest.mark.parametrize("name", TINY)
def test_int8(name: str, images_folder: Path) -> None:
    need_engine("openvino", "int8")
    backbone = make_backbone(name)
    made = make_engine(backbone, LAYERS, "openvino", "int8", images_folder)
    assert made.precision == "int8"
    for rows, columns in ((17, 22), (6, 8)):
        images = random_images(backbone, rows, columns)
        for got, wanted in zip(made(images), reference(backbone, images), strict=True):
            assert 0.99 < mean_cosine(got, wanted) < 0.999999


def test_torch_fp32_is_the_backbone_itself() -> None:
    backbone = make_backbone("dinov2")
    images = random_images(backbone, 5, 7)
    for got, wanted in zip(
        make_engine(backbone, LAYERS, "torch", "fp32")(images), reference(backbone, images), strict=True
    ):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("engine", OTHERS)
def test_outputs_are_the_callers_own_and_threads_do_not_mix(engine: str) -> None:
    need_engine(engine)
    backbone = make_backbone("dinov2")
    made = make_engine(backbone, LAYERS, engine, "fp32")
    images = [random_images(backbone, 5, 7 + seed % 2, seed=seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(made, images))
    for got, image in zip(threaded, images, strict=True):
        torch.testing.assert_close(got[0], reference(backbone, image)[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("engine", ["torch", *OTHERS])
def test_images_of_a_wrong_size_or_kind_are_refused(engine: str) -> None:
    need_engine(engine)
    made = make_engine(make_backbone("dinov2"), LAYERS, engine, "fp32")
    with pytest.raises(InputError, match="multiples of 14, got 30x28"):
        made(torch.zeros(1, 3, 28, 30))
    with pytest.raises(InputError, match=r"\(B, 3, H, W\)"):
        made(torch.zeros(3, 28, 28))
    with pytest.raises(InputError, match="takes floats, got uint8; divide by 255 first"):
        made(torch.zeros(1, 3, 28, 28, dtype=torch.uint8))


def test_openvino_leaves_the_choice_of_cores_to_the_system() -> None:
    need_engine("openvino")
    made = make_engine(make_backbone("dinov2"), LAYERS, "openvino", "fp32")
    made(torch.zeros(1, 3, 28, 28))
    (request,) = made._requests.values()  # type: ignore[attr-defined]
    assert request.get_compiled_model().get_property("ENABLE_CPU_PINNING") is False
