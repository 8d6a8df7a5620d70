"""Reading, extraction and estimation of successive frames side by side, with the result of doing them in turn.

One thread reads frames, one extracts their features, and the caller's matches and estimates. At most `AHEAD` frames
wait before each stage, so that memory stays flat.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from slamfeat.data import Sequence
from slamfeat.data.prefetch import prefetch
from slamfeat.types import Features, Frame
from slamfeat.vo.odometry import Odometry
from slamfeat.vo.report import FrameReport

AHEAD = 2
"""Frames in front of a stage; more would only take memory, since the slowest stage sets the pace."""


@contextmanager
def tracking(sequence: Sequence, odometry: Odometry) -> Iterator[Iterator[FrameReport]]:
    """Yields an iterator that tracks a frame at each step; no thread is left when the block is.

    A live camera is tracked frame by frame whatever `vo.pipelined` says: frames that wait in a queue are old ones.
    What `sequence` or the frontend raises comes at the frame concerned, after those before it were tracked.
    """
    with ExitStack() as stack:
        if not odometry.config.pipelined or sequence.live:
            yield (_track(odometry, frame) for frame in sequence)
            return
        frames = stack.enter_context(prefetch(sequence, AHEAD))
        if not odometry.extracts_ahead:
            yield (_track(odometry, frame) for frame in frames)
            return
        extractions = stack.enter_context(prefetch((_extract(odometry, frame) for frame in frames), AHEAD))
        yield (_track_extracted(odometry, extraction) for extraction in extractions)


@dataclass(frozen=True)
class _Extraction:
    """What became of a frame's extraction: features and milliseconds, or an error."""

    frame: Frame
    features: Features | None = None
    ms: float = 0.0
    error: Exception | None = None


def _extract(odometry: Odometry, frame: Frame) -> _Extraction:
    try:
        features, ms = odometry.extract(frame)
    except Exception as error:  # raised by `_track_extracted`, once the frame's turn has come
        return _Extraction(frame, error=error)
    return _Extraction(frame, features, ms)


def _track(odometry: Odometry, frame: Frame) -> FrameReport:
    odometry.track(frame)
    return odometry.reports[-1]


def _track_extracted(odometry: Odometry, extraction: _Extraction) -> FrameReport:
    if extraction.error is not None:
        odometry.check(extraction.frame)  # what is wrong with the frame says more than what it did to the frontend
        raise extraction.error
    odometry.track(extraction.frame, extraction.features, extraction.ms)
    return odometry.reports[-1]
