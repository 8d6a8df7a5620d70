"""int8 through NNCF's post-training quantisation, for OpenVINO."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from slamfeat.backbones import Backbone
from slamfeat.cpu import cpu_has_int8
from slamfeat.engines import cache
from slamfeat.engines.calibration import GRID, digest_images, list_images, read_images
from slamfeat.engines.calibration import __file__ as calibration_file
from slamfeat.engines.graph import IMAGES, TABLE
from slamfeat.engines.libraries import import_nncf, import_openvino, openvino_core, quiet_rich, require

_SMOOTH_QUANT_ALPHA = 0.5
"""How much of the activations' spread moves into the weights (Xiao et al., ICML 2023). NNCF's 0.95 gave tokens of
Kodak's photographs a cosine of 0.989 to float32's, this 0.998; a few channels of DINOv2 are very large."""


def quantised_entry(graph: cache.Entry, folder: Path | None) -> cache.Entry:
    """Where the quantised model is kept: by its graph, the images it was calibrated with, and the weights' range."""
    images = digest_images(list_images(folder))
    source = hashlib.sha256(b"".join(Path(file).read_bytes() for file in (__file__, calibration_file))).hexdigest()
    identity = json.dumps([graph.identity, images, source, *([] if cpu_has_int8() else ["half range"])])
    return cache.Entry("int8", identity, (*graph.libraries, "openvino", "nncf"))


def quantise(backbone: Backbone, model: Any, calibration: Path | None) -> Any:
    """An `openvino.Model` with int8 matrix products, calibrated with images at one size and good for all.

    Args:
        backbone: whose graph it is.
        model: the graph as `openvino.Model`.
        calibration: a folder of images; None takes the shipped ones.

    Raises:
        InputError: no images in the folder.
        MissingDependencyError: no nncf.
    """
    require("precision=int8", "openvino", "nncf")
    nncf = import_nncf()
    tables = {f"{TABLE}{i}": table.cpu().numpy() for i, table in enumerate(backbone.tables(*GRID))}
    images = list(read_images(list_images(calibration), backbone.patch_size))

    def feed(image: Tensor) -> dict[str, Any]:
        return {IMAGES: image.numpy(), **tables}

    with quiet_rich():
        return nncf.quantize(
            model,
            nncf.Dataset(images, feed),
            subset_size=len(images),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(names=_attention_products(model)),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=_SMOOTH_QUANT_ALPHA),
                # Weights in half of the range, so that sums of two products fit 16 bits, see `cpu_has_int8`.
                overflow_fix=None if cpu_has_int8() else nncf.OverflowFix.ENABLE,
            ),
        )


def _attention_products(model: Any) -> list[str]:
    """Names of the matrix products without weights: left alone, OpenVINO fuses them with the softmax between."""
    return [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "MatMul"
        and all(value.get_source_output().get_node().get_type_name() != "Constant" for value in node.inputs())
    ]


def load_quantised(backbone: Backbone, model: Any, calibration: Path | None, entry: cache.Entry) -> Any:
    """The quantised model from the cache, or made now, see `quantise`; `model` is called for the graph only then."""
    openvino = import_openvino()
    return cache.load_or_build(
        entry,
        lambda folder: openvino_core().read_model(folder / "model.xml"),
        lambda: quantise(backbone, model(), calibration),
        lambda made, folder: openvino.save_model(made, folder / "model.xml", compress_to_fp16=False),
    )
