"""Weights of published LightGlues (Apache-2.0) under this package's names, to start the matcher from."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from slamfeat.errors import WeightsError
from slamfeat.frontend.heads.matcher import AttentionMatcher

_LAYER = r"transformers\.(\d+)\."
_RULES: tuple[tuple[str, str], ...] = (
    (r"input_proj\.", "input."),
    (r"posenc\.Wr\.", "encoding.frequencies."),
    (_LAYER + r"self_attn\.Wqkv\.", r"within.\1.query_key_value."),
    (_LAYER + r"self_attn\.out_proj\.", r"within.\1.out."),
    (_LAYER + r"self_attn\.ffn\.0\.", r"within.\1.update.wide."),
    (_LAYER + r"self_attn\.ffn\.1\.", r"within.\1.update.norm."),
    (_LAYER + r"self_attn\.ffn\.3\.", r"within.\1.update.narrow."),
    (_LAYER + r"cross_attn\.to_qk\.", r"across.\1.key."),
    (_LAYER + r"cross_attn\.to_v\.", r"across.\1.value."),
    (_LAYER + r"cross_attn\.to_out\.", r"across.\1.out."),
    (_LAYER + r"cross_attn\.ffn\.0\.", r"across.\1.update.wide."),
    (_LAYER + r"cross_attn\.ffn\.1\.", r"across.\1.update.norm."),
    (_LAYER + r"cross_attn\.ffn\.3\.", r"across.\1.update.narrow."),
    (r"log_assignment\.(\d+)\.final_proj\.", r"assignment.\1.project."),
    (r"log_assignment\.(\d+)\.matchability\.", r"assignment.\1.matchable."),
    (r"token_confidence\.(\d+)\.token\.0\.", r"confidence.\1."),
)
# A stored copy of a table, XFeat itself beside its matcher, and a number a layer that no released code reads.
_LEFT_OUT = re.compile(r"confidence_thresholds|extractor\..*|log_assignment\.\d\.r")


def load_lightglue(matcher: AttentionMatcher, state: Mapping[str, Tensor]) -> None:
    """Give a matcher the weights of a LightGlue; what LightGlue has not (tokens) stays as it is.

    Args:
        matcher: of the same sizes.
        state: LightGlue's names, today's or those of older checkpoints.

    Raises:
        WeightsError: a weight is missing, left over, or of another shape.
    """
    converted = {name: value for key, value in state.items() for name, value in _convert(key, value, matcher)}
    own = {key: value for key, value in matcher.state_dict().items() if not key.startswith("tokens.")}
    missing, unexpected = sorted(own.keys() - converted.keys()), sorted(converted.keys() - own.keys())
    misshapen = [key for key in own.keys() & converted.keys() if own[key].shape != converted[key].shape]
    if missing or unexpected or misshapen:
        raise WeightsError(
            f"these weights are of another LightGlue: missing {missing[:3]}, unexpected {unexpected[:3]}, "
            f"of another shape {misshapen[:3]}; give the matcher the sizes of its checkpoint"
        )
    matcher.load_state_dict({**matcher.state_dict(), **converted})


def _convert(key: str, value: Tensor, matcher: AttentionMatcher) -> list[tuple[str, Tensor]]:
    key = key.removeprefix("matcher.")
    key = re.sub(r"^(self_attn|cross_attn)\.(\d+)\.", r"transformers.\2.\1.", key)
    if _LEFT_OUT.fullmatch(key):
        return []
    for pattern, replacement in _RULES:
        name, count = re.subn(f"^{pattern}", replacement, key)
        if count:
            return [(name, _apart(value, matcher.config.heads) if ".query_key_value." in name else value)]
    return [(key, value)]


def _apart(value: Tensor, heads: int) -> Tensor:
    """LightGlue interleaves query, key and value within a head; here each is a block of its own."""
    rows = value.shape[0]
    split = value.reshape(heads, rows // (3 * heads), 3, *value.shape[1:])
    return torch.movedim(split, 2, 0).reshape(value.shape)
