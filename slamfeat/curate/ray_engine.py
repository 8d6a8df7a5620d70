"""Tasks on a Ray cluster: Ray Data for what holds a network, plain tasks for the rest.

All machines see the run's folder and the images under the same paths (a shared file system), and have slamfeat with its
extra `ray` installed. The tasks are those of `LocalEngine`, in one thread each, and write the same files: so does the
result.
"""

from __future__ import annotations

import logging
import os
import pickle
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

from slamfeat.curate.engine import single_threads
from slamfeat.engines.libraries import installed
from slamfeat.errors import ConfigError, MissingDependencyError

T = TypeVar("T")
R = TypeVar("R")
_BLOCKS = 1000  # into which Ray Data cuts the tasks, at most: a block's results come together


class RayEngine:
    """See `Engine`. Starts Ray on this machine, or joins a cluster; `close` leaves it."""

    name = "ray"

    def __init__(self, address: str | None = None, workers: int = 0) -> None:
        """Connect.

        Args:
            address: of a cluster, such as "10.0.0.1:6379" or "auto"; None starts Ray on this machine.
            workers: tasks at once; 0 for as many as there are processors.

        Raises:
            MissingDependencyError: Ray is not installed.
            ConfigError: no cluster at the address, or Ray does not start.
        """
        if not installed("ray"):
            raise MissingDependencyError('--engine ray needs Ray; install it: pip install "slamfeat[ray]"')
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
        self._set = _own_token() if address is None else []
        import ray

        self._ray: Any = ray
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if address is None:
                ray.init(num_cpus=workers or None, include_dashboard=False, **quiet)
            else:
                ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"no Ray cluster at {address}" if address else "Ray does not start on this machine"
            raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error
        self.workers = workers or int(ray.cluster_resources().get("CPU", 1))
        self.together = min(self.workers, most_processors(ray.nodes()))

    def run(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """See `Engine`; a few tasks are taken in advance."""
        ray, held = self._ray, self._ray.put(work)
        remote = ray.remote(num_cpus=1)(_carry_out)
        pending: deque[Any] = deque()
        try:
            for task in tasks:
                pending.append(remote.remote(held, task))
                if len(pending) > 2 * self.workers:
                    yield self._result(pending.popleft())
            while pending:
                yield self._result(pending.popleft())
        finally:
            for left in pending:
                ray.cancel(left, force=False)

    def stream(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """See `Engine`; each worker makes its own copy of the work once."""
        import ray.data

        gpus = getattr(work, "gpus", 0)
        todo = [{"task": pickle.dumps(task)} for task in tasks]
        if not todo:
            return
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # it reports what it plans as warnings
        ray.data.DataContext.get_current().enable_progress_bars = False
        given = ray.data.from_items(todo, override_num_blocks=min(len(todo), _BLOCKS))
        done = given.map_batches(
            _Worker, fn_constructor_args=(pickle.dumps(work),), batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(self._actors(gpus), len(todo))),
            num_cpus=1, num_gpus=gpus,
        )  # fmt: skip
        try:
            for row in done.iter_rows():
                # Bytes that `_Worker` below made in this very run, and no file; Ray itself moves all objects so.
                result = pickle.loads(row["result"])
                if isinstance(result, Exception):
                    raise result
                yield cast(R, result)
        except self._ray.exceptions.RayError as error:
            raise _said(error) from error

    def close(self) -> None:
        """Leave the cluster; ends the one that was started here."""
        self._ray.shutdown()
        for name in self._set:
            os.environ.pop(name, None)

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error  # as it was raised, without the other process's traceback in its message
        except self._ray.exceptions.RayError as error:
            raise _said(error) from error

    def _actors(self, gpus: float) -> int:
        """Workers that can be there at once where each needs so many GPUs; Ray would wait for the others for ever."""
        if not gpus:
            return self.workers
        there = int(self._ray.cluster_resources().get("GPU", 0) / gpus)
        if not there:
            raise ConfigError(
                f"embed.device: Ray's machines have no {gpus:g} GPUs free for a worker; use embed.device=cpu"
            )
        return min(self.workers, there)


def _said(error: Exception) -> ConfigError:
    """What became of a worker that did not end by itself, as when a machine runs out of memory."""
    reason = ["no reason given", *str(error).strip().splitlines()][-1].strip()
    return ConfigError(
        f"Ray lost a task ({type(error).__name__}: {reason}); run the same command to go on, with fewer workers if"
        " memory was short (Ray's logs are in /tmp/ray)"
    )


def most_processors(nodes: Iterable[Mapping[str, Any]]) -> int:
    """Of the machines that Ray lists, the processors of the one with most: so many tasks may share its memory."""
    return max((int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]), default=0) or 1


def _own_token() -> list[str]:
    """Have a cluster of our own ask for a token that dies with this process; Ray would leave one in the home folder.

    Returns the environment variables set; none where the user has chosen how Ray authenticates.
    """
    if any(name.startswith("RAY_AUTH_") for name in os.environ):
        return []
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return ["RAY_AUTH_TOKEN", "RAY_AUTH_MODE"]  # the mode is set by Ray


def _carry_out(work: Callable[[T], R], task: T) -> R:
    with single_threads():
        return work(task)


class _Worker:
    """One of Ray Data's actors."""

    def __init__(self, work: bytes) -> None:
        self._work = pickle.loads(work)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        task = pickle.loads(batch["task"][0])
        try:
            result = _carry_out(self._work, task)
        except Exception as error:  # raised here it would come as Ray's own
            result = error
        return {"result": [_pickled(result)]}


def _pickled(result: object) -> bytes:
    try:
        return pickle.dumps(result)
    except (pickle.PicklingError, TypeError, AttributeError):
        if not isinstance(result, Exception):
            raise
        return pickle.dumps(RuntimeError(repr(result)))  # an error that holds what cannot travel still says what it was
