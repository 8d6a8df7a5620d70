"""Does an exported graph say what torch says? Runs it in ONNX Runtime and compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from slamfeat.engines.libraries import import_onnxruntime
from slamfeat.errors import OutputError

Figures = dict[str, float]
_SAME_PX = 0.01
_LEAST_COSINE = 0.999
_LEAST_SHARE = 0.97  # peaks that are equal up to rounding may change places
_LARGEST_SCORE_DIFFERENCE = 1e-2  # torch may round tokens to bfloat16, and the dual softmax magnifies it
_LARGEST_SALIENCY_DIFFERENCE = 0.01  # of the largest; fit=resize, see below, gave 0.002


def run(path: Path, names: Sequence[str], inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """The outputs of an ONNX file by name, on the CPU."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {name: value.detach().cpu().numpy() for name, value in zip(names, inputs, strict=True)}
    outputs = [output.name for output in session.get_outputs()]
    found: list[np.ndarray[Any, Any]] = session.run(outputs, feeds)
    return {name: torch.from_numpy(value) for name, value in zip(outputs, found, strict=True)}


def compare_tokens(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Figures:
    """Largest difference and least cosine over all tokens (B, C, h, w) of all outputs.

    Raises:
        OutputError: they do not agree, or there are values that are not finite.
    """
    pairs = [(found[name], tokens) for name, tokens in expected.items()]
    figures = {
        "tokens_max_abs": _largest([(a - b).abs() for a, b in pairs]),
        "tokens_min_cosine": _least([F.cosine_similarity(a, b, dim=1) for a, b in pairs]),
    }
    return _agreeing(found, figures, figures["tokens_min_cosine"] >= _LEAST_COSINE)


def compare_features(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Figures:
    """Share of keypoints that are the same to 0.01 px and to 1 px, the largest difference of the former's scores in
    parts of the largest score, and the least cosine of the former's descriptors and of the tokens.

    They agree when those within 1 px do: where OpenCV enlarges the image (fit=resize), its fixed-point interpolation
    is a grey level off here and there, which moves sub-pixel peaks.

    Raises:
        OutputError: they do not agree, or there are values that are not finite, or keypoints and none the same.
    """
    near = total = 0
    cosines, differences = [torch.ones(0)], [torch.zeros(0)]
    for b, mask in enumerate(expected["mask"]):
        points0, points1 = expected["keypoints"][b, mask], found["keypoints"][b, found["mask"][b]]
        distance = torch.cdist(points0, points1, compute_mode="donot_use_mm_for_euclid_dist")  # products lose 0.1 px
        total += max(distance.shape)
        if not distance.numel():
            continue
        nearest, index = distance.min(1)
        near += int((nearest <= 1).sum())
        same = nearest <= _SAME_PX

        def both(name: str, b: int = b, same: Tensor = same, index: Tensor = index) -> tuple[Tensor, Tensor]:
            return expected[name][b, expected["mask"][b]][same], found[name][b, found["mask"][b]][index[same]]

        cosines.append(F.cosine_similarity(*both("descriptors"), dim=1))
        scores0, scores1 = both("scores")
        differences.append((scores0 - scores1).abs())
    alike = sum(len(values) for values in cosines)
    figures = {
        "keypoints_equal": alike / total if total else 1.0,
        "keypoints_within_1px": near / total if total else 1.0,
        "scores_max_relative": _largest(differences) / float(expected["scores"].max().clamp(min=1e-12)),
        "descriptors_min_cosine": _least(cosines),
        "tokens_min_cosine": _least([F.cosine_similarity(found["tokens"], expected["tokens"], dim=1)]),
    }
    return _agreeing(
        found,
        figures,
        (alike > 0 or total == 0)
        and figures["keypoints_within_1px"] >= _LEAST_SHARE
        and figures["scores_max_relative"] <= _LARGEST_SALIENCY_DIFFERENCE
        and figures["descriptors_min_cosine"] >= _LEAST_COSINE
        and figures["tokens_min_cosine"] >= _LEAST_COSINE,
    )


def compare_matches(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Figures:
    """Share of slots with the same match, and the largest difference of the scores of those.

    Raises:
        OutputError: they do not agree, or there are values that are not finite.
    """
    same = found["indices0"] == expected["indices0"]
    figures = {
        "matches_equal": float(same.float().mean()),
        "scores_max_abs": _largest([(found["scores"] - expected["scores"]).abs()[same]]),
    }
    close = figures["scores_max_abs"] <= _LARGEST_SCORE_DIFFERENCE
    return _agreeing(found, figures, figures["matches_equal"] >= _LEAST_SHARE and close)


# Of torch and not of Python, whose min and max pass over NaN.
def _largest(values: Sequence[Tensor]) -> float:
    every = torch.cat([value.flatten() for value in values])
    return float(every.max()) if len(every) else 0.0


def _least(cosines: Sequence[Tensor]) -> float:
    every = torch.cat([value.flatten() for value in cosines])
    return float(every.min()) if len(every) else 1.0


def _agreeing(found: Mapping[str, Tensor], figures: Figures, agrees: bool) -> Figures:
    if not (agrees and all(bool(torch.isfinite(value).all()) for value in found.values())):
        said = ", ".join(f"{name} {value:.6g}" for name, value in figures.items())
        raise OutputError(
            f"the exported graph does not agree with torch ({said}); nothing was written: "
            "try other versions of torch and onnxscript, and report this"
        )
    return figures
