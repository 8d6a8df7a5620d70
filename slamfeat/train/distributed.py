"""The processes of one run under torchrun; every operation is free where there is only one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from slamfeat.backbones.load import parse_device

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run.

    Attributes:
        rank: 0 for the one that writes files.
        world: how many there are.
        device: of this one.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """Each flag: whether it is up in any process."""
        if self.world == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int32, device=self._carrier)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return [bool(flag) for flag in raised.tolist()]

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Each figure averaged over the processes, which must have the same ones."""
        if self.world == 1:
            return dict(values)
        names = sorted(values)
        total = torch.tensor([values[name] for name in names], dtype=torch.float64, device=self._carrier)
        dist.all_reduce(total)
        means = dict(zip(names, (total / self.world).tolist(), strict=True))
        return {name: means[name] for name in values}

    @torch.no_grad()
    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Average over the processes; a parameter without a gradient here counts as zero, if it has one anywhere.

        With equal shares of a batch this is the gradient of the whole batch's mean.
        """
        if self.world == 1:
            return
        somewhere = self.any(*(parameter.grad is not None for parameter in parameters))
        used = [parameter for parameter, has in zip(parameters, somewhere, strict=True) if has]
        for dtype in sorted({parameter.dtype for parameter in used}, key=str):
            alike = [parameter for parameter in used if parameter.dtype == dtype]
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in alike]
            joined = torch.cat([gradient.reshape(-1) for gradient in gradients]).to(self._carrier)
            dist.all_reduce(joined)
            mean = (joined / self.world).to(self.device)
            parts = torch.split(mean, [gradient.numel() for gradient in gradients])
            for parameter, part in zip(alike, parts, strict=True):
                parameter.grad = part.view_as(parameter).clone()

    @torch.no_grad()
    def same_everywhere(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the first one's values."""
        if self.world > 1:
            for tensor in tensors:
                sent = tensor.detach().to(self._carrier).contiguous()
                dist.broadcast(sent, 0)
                tensor.copy_(sent)

    def gather(self, item: T) -> list[T]:
        """One item of each process, in their order, in every process."""
        if self.world == 1:
            return [item]
        items: list[Any] = [None] * self.world
        dist.all_gather_object(items, item)
        return items

    def meet(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            dist.barrier()

    @property
    def _carrier(self) -> torch.device:
        """Where tensors must be to be sent: NCCL sends from CUDA devices, Gloo from memory."""
        return self.device if self.device.type == "cuda" else torch.device("cpu")


def share_norms(module: nn.Module, ranks: Ranks) -> None:
    """Let a module's batch norms go by the whole batch of all processes.

    Only CUDA devices can: elsewhere each process goes by its share, and the first one's running statistics are kept.
    """
    if ranks.world > 1 and ranks.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]


def rank_and_world() -> tuple[int, int]:
    """This process's number among those that torchrun started, and how many there are; 0 and 1 without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def own_device(device: str) -> torch.device:
    """The device of this process, and of those that it starts: "auto" is CUDA where there is some, among several
    processes on a machine each its own GPU.

    Raises:
        ConfigError: an unknown or absent device.
    """
    place = parse_device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    if place.type != "cuda" or rank_and_world()[1] == 1:
        return place
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if place.index is None else place.index)


@contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun started, if any (WORLD_SIZE above 1); leave them at the end of the block.

    NCCL carries what is on CUDA devices, Gloo all else.

    Args:
        device: see `own_device`.

    Raises:
        ConfigError: an unknown or absent device.
    """
    (rank, world), place = rank_and_world(), own_device(device)
    if world == 1:
        yield Ranks(0, 1, place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Ranks(rank, world, place)
    finally:
        if ours:
            dist.destroy_process_group()
