"""Heads made of published weights, for measurements where none are trained: XFeat, LighterGlue, and random tokens."""

from __future__ import annotations

import torch
from torch import nn

from slamfeat.frontend.heads.bundle import Heads, HeadsAbout
from slamfeat.frontend.heads.lightglue_weights import load_lightglue
from slamfeat.frontend.heads.matcher import AttentionConfig
from slamfeat.frontend.heads.refiner import RefinerConfig
from slamfeat.peer_weights import load

_SMALL = 0.02  # of the weights that let tokens in: they take part, and the matches stay LighterGlue's


def published_heads(backbone: str, layer: int, token_dim: int) -> Heads:
    """XFeat's network and LighterGlue with small random weights for the tokens, and a random refiner; always the same.

    Args:
        backbone: name of the architecture.
        layer: its block whose tokens are used.
        token_dim: their channels.

    Raises:
        WeightsError: the peers' weights are not stored.
    """
    fine, matcher = load("xfeat"), load("xfeat-lighterglue")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = Heads(HeadsAbout(backbone, layer, "xfeat", AttentionConfig(token_dim=token_dim), RefinerConfig()))
        assert heads.matcher is not None and heads.matcher.tokens is not None
        tokens = heads.matcher.tokens
        for weights in (*(part.weight for part in tokens.into_layer), tokens.into_cross, tokens.into_similarity):
            nn.init.normal_(weights, std=_SMALL)
    own = {key: value for key, value in fine.items() if not key.startswith("fine_matcher.")}
    heads.fine.load_state_dict({f"net.{key}": value for key, value in own.items()})
    load_lightglue(heads.matcher, matcher)
    return heads.eval()
