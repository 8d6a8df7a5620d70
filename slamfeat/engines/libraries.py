"""Optional libraries: which are there, and importing them without telemetry, progress bars or chatter."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from slamfeat.errors import MissingDependencyError

EXPORTER = ("onnx", "onnxscript")
_TELEMETRY = "openvino_telemetry"
_hiding = threading.RLock()  # sys.modules belongs to all threads


def installed(*names: str) -> bool:
    """Whether all of these can be imported; imports nothing."""
    return all(importlib.util.find_spec(name) is not None for name in names)


def version(name: str) -> str | None:
    """The installed version of a library, None without it."""
    if not installed(name):
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def require(purpose: str, extra: str, *names: str) -> None:
    """Check that libraries are there.

    Raises:
        MissingDependencyError: one is not; says what to install.
    """
    missing = [name for name in names if not installed(name)]
    if missing:
        raise MissingDependencyError(
            f'{purpose} needs {", ".join(missing)}; install it: pip install "slamfeat[{extra}]"'
        )


def import_openvino() -> Any:
    """The module `openvino`, without its telemetry."""
    with without_telemetry():
        import openvino
    return openvino


@cache
def openvino_core() -> Any:
    """OpenVINO's `Core`, one for the whole process.

    A core makes the kernel deliver signals on a stack of its own and frees that when it goes: with several of them
    that go in another order than they came, the next Ctrl-C writes to freed memory.
    """
    return import_openvino().Core()


def import_nncf() -> Any:
    """The module `nncf`, without its telemetry, its informational messages and its class for everybody's loggers."""
    kept = logging.getLoggerClass()
    try:
        with without_telemetry():
            import nncf
    finally:
        logging.setLoggerClass(kept)
    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own set_log_level changes the handlers of others too
    return nncf


def import_onnxruntime() -> Any:
    """The module `onnxruntime`, without its telemetry.

    It writes an identifier below the home folder and opens its store when it is imported, which only the variable
    prevents; the call is for a process that had imported it before.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Imports in the block find no `openvino_telemetry`.

    openvino and nncf send usage to a server and write an identifier to the home folder as soon as they are imported,
    with no setting against it; without that package they fall back on stubs.
    """
    with _hiding:
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == _TELEMETRY}
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # how Python marks a module that cannot be imported
        try:
            yield
        finally:
            sys.modules.pop(_TELEMETRY, None)
            sys.modules.update(hidden)


@contextmanager
def quiet_export() -> Iterator[None]:
    """torch's exporter reports every step, libraries it does not need and its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def quiet_rich() -> Iterator[None]:
    """nncf draws progress bars on rich's global console."""
    from rich import get_console

    console = get_console()
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before
