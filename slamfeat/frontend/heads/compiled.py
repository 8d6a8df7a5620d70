"""Heads whose networks OpenVINO computes; everything around the networks stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slamfeat.engines import cache
from slamfeat.engines.base import Precision
from slamfeat.engines.compiled import CompiledModule, compile_module
from slamfeat.errors import SlamfeatError
from slamfeat.frontend.heads.assignment import Scores
from slamfeat.frontend.heads.bundle import Heads
from slamfeat.frontend.heads.describe import freeze
from slamfeat.frontend.heads.fine import FineBranch, FineMaps
from slamfeat.frontend.heads.matcher import AttentionMatcher, MatcherInput, cut, stack
from slamfeat.frontend.heads.refiner import CHUNK, PatchRefiner, Refined, as_refined

M = TypeVar("M", bound=nn.Module)
_KEYPOINTS = 24  # of the matcher's example


def compile_heads(
    heads: Heads,
    precision: Precision,
    *,
    matcher: Precision | None,
    refiner: bool,
    layers: int = 0,
    detect: bool = False,
) -> Heads:
    """A copy of the heads with the networks of its fine branch, and of the parts asked for, in OpenVINO.

    A part that OpenVINO cannot convert stays in torch, with a warning. Each takes some seconds the first time.

    Args:
        heads: on the CPU, in float32.
        precision: of fine branch and refiner: "fp32", or "bf16" of a processor that has it.
        matcher: precision of the matcher; None where it is not wanted.
        refiner: whether it is wanted.
        layers: of the matcher that will be used, 0 for all; other numbers are converted when they are met.
        detect: whether the fine branch's detector is wanted.

    Raises:
        ConfigError: the matcher has fewer layers.
    """
    compiled = copy.deepcopy(heads)
    compiled.fine = _attempt("fine branch", lambda: CompiledFine(heads.fine, precision, detect), compiled.fine)
    if matcher is not None and heads.matcher is not None:
        own = heads.matcher
        depth = own.depth(layers)
        compiled.matcher = _attempt("matcher", lambda: CompiledMatcher(own, matcher, depth), own)
    if refiner and heads.refiner is not None:
        old = heads.refiner
        compiled.refiner = _attempt("refiner", lambda: CompiledRefiner(old, precision), old)
    return compiled


def _attempt(name: str, build: Callable[[], M], otherwise: M) -> M:
    try:
        return cast(M, freeze(build()))
    except (SlamfeatError, ImportError, RuntimeError, ValueError, TypeError) as error:
        line = " ".join(str(error).split())[:300]
        cache.logger.warning("the heads' %s runs in torch, which is slower: openvino failed (%s)", name, line)
        return otherwise


class CompiledFine(FineBranch):
    """A fine branch whose `features` OpenVINO computes, or all its maps."""

    def __init__(self, branch: FineBranch, precision: Precision, detect: bool = False) -> None:
        super().__init__()
        self.dim, self.step, self.branch = branch.dim, branch.step, branch
        example = torch.zeros(1, 3, 2 * branch.step, 3 * branch.step)
        allowed: Precision = precision if branch.rounds else "fp32"
        network = _Maps(branch) if detect else _Features(branch)
        self._detects = detect
        self._network = compile_module(network, (example,), f"{branch.dim} {branch.step}", allowed)

    def forward(self, image: Tensor) -> FineMaps:
        """See `FineBranch`; in torch where the detector was not asked for."""
        maps: FineMaps = FineMaps(*self._network(image)) if self._detects else self.branch(image)
        return maps

    def features(self, image: Tensor) -> Tensor:
        """See `FineBranch`."""
        return self._network(image)[0]

    def detect(self, maps: FineMaps) -> Tensor | None:
        """See `FineBranch`."""
        return self.branch.detect(maps)

    def describe(self, maps: FineMaps, keypoints: Tensor, size: tuple[int, int]) -> Tensor:
        """See `FineBranch`; in torch."""
        return self.branch.describe(maps, keypoints, size)


class _Maps(nn.Module):
    def __init__(self, branch: FineBranch) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """See `FineBranch.forward`; those that there are."""
        maps: FineMaps = self.branch(image)
        return tuple(value for value in maps if value is not None)


class _Features(nn.Module):
    def __init__(self, branch: FineBranch) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, image: Tensor) -> Tensor:
        """See `FineBranch.features`."""
        return self.branch.features(image)


class CompiledMatcher(AttentionMatcher):
    """A matcher whose layers OpenVINO computes; one network for each depth that is asked for."""

    def __init__(self, matcher: AttentionMatcher, precision: Precision, layers: int = 0) -> None:
        with torch.device("meta"):  # no weights of its own
            super().__init__(matcher.config)
        self.load_state_dict(matcher.state_dict(), assign=True)
        self._precision: Precision = precision
        self._networks: dict[int, CompiledModule] = {}
        self._network(self.depth(layers))

    def forward(self, image0: MatcherInput, image1: MatcherInput, layers: int | None = None) -> Scores:
        """See `AttentionMatcher`."""
        both = stack(image0, image1)
        given = [both.positions, both.descriptors, both.mask]
        if self.tokens is not None:
            if both.tokens is None:  # possible, if seldom meant; the graph has them
                return super().forward(image0, image1, layers)
            given.append(both.tokens)
        scores = Scores(*self._network(self.depth(layers))(*given))
        return cut(scores, (image0.mask.shape[1], image1.mask.shape[1]))

    def _network(self, depth: int) -> CompiledModule:
        if depth not in self._networks:
            shape = 2, _KEYPOINTS
            example = [torch.zeros(*shape, 2), torch.zeros(*shape, self.config.input_dim), torch.ones(shape).bool()]
            if self.tokens is not None:
                example.append(torch.zeros(*shape, self.config.token_dim))
            settings = f"{self.config} {depth}"
            self._networks[depth] = compile_module(_Layers(self, depth), tuple(example), settings, self._precision)
        return self._networks[depth]


class _Layers(nn.Module):
    def __init__(self, matcher: AttentionMatcher, depth: int) -> None:
        super().__init__()
        self.matcher, self.depth = matcher, depth

    def forward(
        self, positions: Tensor, descriptors: Tensor, mask: Tensor, tokens: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Scores of images that `stack` made one."""
        matcher = self.matcher
        states, shared = matcher.start(MatcherInput(positions, descriptors, tokens, mask), any_mask=True)
        for layer in range(self.depth):
            states = matcher.step(layer, states, shared)
        return tuple(matcher.score(self.depth - 1, states, shared))


class CompiledRefiner(PatchRefiner):
    """A refiner whose networks OpenVINO computes, always for the same number of matches at once."""

    def __init__(self, refiner: PatchRefiner, precision: Precision) -> None:
        with torch.device("meta"):
            super().__init__(refiner.config)
        self.load_state_dict(refiner.state_dict(), assign=True)
        patches = torch.zeros(CHUNK, 1, self.config.patch, self.config.patch)
        settings = str(self.config)
        with torch.no_grad():
            kernels = refiner.describe(patches)
        self._describe = compile_module(_Describe(refiner), (patches,), settings, precision)
        self._compare = compile_module(_Compare(refiner), (kernels, patches), settings, precision)

    def describe(self, patches: Tensor) -> Tensor:
        """See `PatchRefiner`."""
        return _in_chunks(self._describe, patches)

    def compare_patches(self, kernels0: Tensor, patches1: Tensor) -> Refined:
        """See `PatchRefiner`."""
        return as_refined(_in_chunks(self._compare, kernels0, patches1))


class _Describe(nn.Module):
    def __init__(self, refiner: PatchRefiner) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(self, patches: Tensor) -> Tensor:
        """See `PatchRefiner.describe`."""
        return self.refiner.kernels(self.refiner.features(patches))


class _Compare(nn.Module):
    def __init__(self, refiner: PatchRefiner) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(self, kernels0: Tensor, patches1: Tensor) -> Tensor:
        """See `PatchRefiner.numbers`."""
        return self.refiner.numbers(kernels0, patches1)


def _in_chunks(network: CompiledModule, *inputs: Tensor) -> Tensor:
    """The network's output for any number of matches: one shape to compile, and what it works on stays in the cache."""
    count = len(inputs[0])
    parts = []
    for start in range(0, max(1, count), CHUNK):
        chunk = [values[start : start + CHUNK] for values in inputs]
        missing = CHUNK - len(chunk[0])
        if missing:
            chunk = [F.pad(values, (*[0] * (2 * values.ndim - 2), 0, missing)) for values in chunk]
        parts.append(network(*chunk)[0])
    return torch.cat(parts)[:count]
