"""What the odometry tells about each frame."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class FrameReport:
    """What happened to one frame; a line of frames.jsonl.

    Attributes:
        index, timestamp: of the frame.
        tracked: whether it has a pose.
        keyframe: whether it became a keyframe.
        carried: whether its pose comes from keypoints that were carried along rather than extracted and matched.
        keypoints, matches, inliers: counts; keypoints is 0 where none were extracted, and a carried frame's matches
            are the keyframe's keypoints that arrived.
        extractions: how often features were extracted from left images: 0 for a carried frame, 2 where those of the
            frame before were needed as well.
        displacement_px: mean displacement of the matches since the keyframe; NaN without matches.
        reason: why the frame is lost, empty when tracked.
        ms: milliseconds a stage; "extract" only where features were extracted, "carry" only where keypoints were
            carried, "stereo" (the right image's features, matches and depths) only where it was done.
    """

    index: int
    timestamp: float
    tracked: bool = True
    keyframe: bool = False
    carried: bool = False
    keypoints: int = 0
    matches: int = 0
    inliers: int = 0
    extractions: int = 0
    displacement_px: float = float("nan")
    reason: str = ""
    ms: dict[str, float] = field(default_factory=dict)

    @property
    def extracted(self) -> bool:
        """Whether the frontend looked at the frame."""
        return self.extractions > 0

    def spent(self, stage: str, started: float) -> FrameReport:
        """The report with the time since `started` (`time.perf_counter()`) added to a stage."""
        return self.took(stage, 1e3 * (time.perf_counter() - started))

    def took(self, stage: str, ms: float) -> FrameReport:
        """The report with milliseconds added to a stage."""
        return replace(self, ms={**self.ms, stage: self.ms.get(stage, 0.0) + ms})

    def extracting(self, ms: float) -> FrameReport:
        """The report with one more extraction, which took `ms` milliseconds."""
        return replace(self.took("extract", ms), extractions=self.extractions + 1)
