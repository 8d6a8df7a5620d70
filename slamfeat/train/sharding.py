"""Parameters, gradients and optimizer state shared out among the processes: FSDP2, torch's `fully_shard`.

A sharded parameter is a DTensor. What is written to disk is whole, so that a file serves any number of processes; only
the optimizer's state, which nobody but a resumed run wants, stays in parts, a file a process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from slamfeat.errors import ConfigError
from slamfeat.train.distributed import Ranks


@runtime_checkable
class Shardable(Protocol):
    """A task whose module can be shared out."""

    def shard_units(self) -> Sequence[nn.Module]:
        """Modules that are gathered one at a time when they run, inner ones before those that hold them.

        All parameters of the task's module must lie in them, and run through their `forward`.
        """


def shard(task: object, ranks: Ranks) -> None:
    """Share a task's parameters out among the processes.

    Raises:
        ConfigError: the task, or this torch, cannot be sharded, or there is one process only.
    """
    if not isinstance(task, Shardable):
        raise ConfigError(f"{type(task).__name__} cannot be sharded; leave loop.shard out")
    if ranks.world == 1:
        raise ConfigError("loop.shard shares out among processes: start several with torchrun, or leave it out")
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise ConfigError("loop.shard needs torch 2.6 or newer; leave it out, or install that") from error
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    for unit in task.shard_units():
        # Also the outermost, which by default stays gathered: a teacher is moved between its forward passes.
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)


def whole(value: Tensor) -> Tensor:
    """All of a tensor, in every process; all must call it alike. One that is not sharded is returned as it is."""
    gathered: Tensor = value.full_tensor() if _is_sharded(value) else value  # type: ignore[attr-defined]  # a DTensor's
    return gathered


def gathered(values: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """All of each tensor, on the CPU where `keep` is set, elsewhere nothing; all processes must call it alike.

    One at a time, so that no device holds more than one whole tensor of a model that it cannot hold.
    """
    kept: dict[str, Tensor] = {}
    for name, value in values.items():
        one = whole(value.detach())
        if keep:
            kept[name] = one.cpu()
        del one  # before the next one is gathered
    return kept


def local(value: Tensor) -> Tensor:
    """This process's part of a tensor, sharing its memory; a tensor that is not sharded as it is."""
    part: Tensor = value.to_local() if _is_sharded(value) else value  # type: ignore[attr-defined]  # a DTensor's
    return part


@torch.no_grad()
def fill(target: Tensor, source: Tensor) -> None:
    """Write a tensor into one of its shape, of which this process may have only a part."""
    if _is_sharded(target) and not _is_sharded(source):
        from torch.distributed.tensor import distribute_tensor

        mesh, placements = target.device_mesh, target.placements  # type: ignore[attr-defined]  # a DTensor's
        source = distribute_tensor(source.to(target.device, target.dtype), mesh, placements, src_data_rank=None)
    target.copy_(source)


def own_part(state: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's state dict with this process's part of every sharded tensor, as plain tensors."""
    parts = {
        number: {name: local(value) if isinstance(value, Tensor) else value for name, value in one.items()}
        for number, one in state["state"].items()
    }
    return {**state, "state": parts}


def joined_part(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The reverse of `own_part`, for the parameters of an optimizer.

    Raises:
        KeyError, IndexError: it is of other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    by_number = dict(zip(numbers, parameters, strict=False))
    joined = {
        number: {name: _like(value, by_number[number]) for name, value in one.items()}
        for number, one in state["state"].items()
    }
    return {**state, "state": joined}


def _like(value: Any, parameter: Tensor) -> Any:
    """A part as a DTensor laid out as its parameter; single numbers, such as the step, as they are."""
    if not (isinstance(value, Tensor) and value.ndim and _is_sharded(parameter)):
        return value
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        value, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()  # type: ignore[attr-defined]
    )  # fmt: skip


def _is_sharded(value: object) -> bool:
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)
