"""Figures of the steps between two lines of the log, and where a session's time goes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Meter:
    """Sums since the last line; evaluations and checkpoints lie outside the timed steps.

    Attributes:
        samples: a step, over all processes.
        session_steps, session_seconds: of all steps of the session.
    """

    samples: int
    session_steps: int = 0
    session_seconds: float = 0.0
    _sums: dict[str, Tensor] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _norms: list[float] = field(default_factory=list)
    _seconds: float = 0.0
    _waited: float = 0.0
    _started: float = 0.0

    def begin(self) -> None:
        """A step begins."""
        self._started = time.perf_counter()

    def add(self, loss: Tensor, parts: Mapping[str, Tensor | float], waited: float) -> None:
        """One micro-batch, `waited` seconds for."""
        assert "loss" not in parts, "the log has a figure of that name already"
        for name, value in {"loss": loss, **parts}.items():
            figure = torch.as_tensor(value).detach().cpu().double()
            self._sums[name] = self._sums.get(name, torch.zeros((), dtype=torch.float64)) + figure
            self._counts[name] = self._counts.get(name, 0) + 1
        self._waited += waited

    def end(self, norm: float) -> None:
        """The step is made, with a gradient of this norm."""
        seconds = time.perf_counter() - self._started
        self._norms.append(norm)
        self._seconds += seconds
        self.session_steps += 1
        self.session_seconds += seconds

    def figures(self) -> dict[str, float]:
        """Means of loss and parts over the micro-batches since the last `clear` that had them; of this process."""
        return {name: float(value) / self._counts[name] for name, value in self._sums.items()}

    @property
    def norm(self) -> float:
        """Mean norm of the gradient before clipping."""
        return sum(self._norms) / len(self._norms)

    @property
    def rate(self) -> float:
        """Samples a second while training."""
        return len(self._norms) * self.samples / max(self._seconds, 1e-9)

    @property
    def waited_percent(self) -> float:
        """Share of the time that went by waiting for data."""
        return 100 * self._waited / max(self._seconds, 1e-9)

    def left(self, steps: int) -> float:
        """Seconds that so many steps take at the session's mean."""
        return steps * self.session_seconds / max(self.session_steps, 1)

    def clear(self) -> None:
        """Start the next line."""
        self._sums, self._counts, self._norms, self._seconds, self._waited = {}, {}, [], 0.0, 0.0
