"""Settings of the benchmark. A recipe (configs/bench/) holds the differences from these."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from slamfeat.errors import ConfigError
from slamfeat.vo.config import Estimator, OdometryConfig

DEFAULT_FRONTENDS = (
    "slamfeat", "slamfeat:accurate", "slamfeat:fast", "slamfeat:untrained",
    "orb", "sift", "gftt-lk", "xfeat", "xfeat+lighterglue", "aliked+lightglue", "disk+lightglue",
)  # fmt: skip


@dataclass
class MatchingConfig:
    """Relative poses and homographies of image pairs.

    Attributes:
        data: words as on the command line: sequences, folders of posed views, homography folders, pair lists.
        gaps: frames between the two images of a sequence's pairs.
        per_gap: most pairs a gap of a sequence, evenly spaced; 0 for all.
        most_pairs: most pairs of any group, evenly spaced; 0 for all.
        longest_side: larger images are reduced to this, for all frontends alike; pixels, 0 for as they are. Errors
            are in pixels of the reduced images.
    """

    data: list[str] = field(default_factory=list)
    gaps: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16, 32])
    per_gap: int = 0
    most_pairs: int = 0
    longest_side: int = 0


@dataclass
class VoConfig:
    """Odometry over sequences.

    Attributes:
        data: words PATH[:MODES][@START:STOP:STRIDE], see `slamfeat.bench.data.parse_sequence`.
        trials: runs with different seeds; the median is shown, with half the range beside it.
    """

    data: list[str] = field(default_factory=list)
    trials: int = 1


@dataclass
class RobustnessConfig:
    """Odometry over degraded sequences.

    Attributes:
        data: words as for `VoConfig`, one mode each.
        degradations: names of `slamfeat.bench.degrade.DEGRADATIONS`; empty for all.
        levels: which of each degradation's strengths, from 0 (mild); empty for all.
    """

    data: list[str] = field(default_factory=list)
    degradations: list[str] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)


@dataclass
class SpeedConfig:
    """Time and memory.

    Attributes:
        data: sequences whose first frames are used; one image size each.
        threads: numbers of threads, each measured in a process of its own.
        rounds: how often every frontend is timed, in turn with the others; the median counts.
        also: further frontends that only this task measures, such as reduced precisions.
    """

    data: list[str] = field(default_factory=list)
    threads: list[int] = field(default_factory=lambda: [1, 2])
    rounds: int = 7
    also: list[str] = field(default_factory=list)


@dataclass
class BenchConfig:
    """Everything a benchmark run depends on besides the code.

    Attributes:
        frontends: names or files, see `slamfeat.bench.registry.build_frontend`.
        num_keypoints: slots K, the same for all.
        estimator: of relative poses and homographies, the same for all: "poselib", "pycolmap" or "opencv" (MAGSAC++).
        threshold_px: its inlier threshold for relative poses; pixels.
        homography_threshold_px: its inlier threshold for homographies; pixels.
        seed: of the robust estimators.
        matching, vo, robustness, speed: the tasks.
        odometry: settings of the odometry, the same for all. So `covariances` is off: few frontends give any.
    """

    frontends: list[str] = field(default_factory=lambda: list(DEFAULT_FRONTENDS))
    num_keypoints: int = 1024
    estimator: str = "poselib"
    threshold_px: float = 1.0
    homography_threshold_px: float = 3.0
    seed: int = 0
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    vo: VoConfig = field(default_factory=VoConfig)
    robustness: RobustnessConfig = field(default_factory=RobustnessConfig)
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    odometry: OdometryConfig = field(default_factory=lambda: OdometryConfig(covariances=False))

    def __post_init__(self) -> None:
        if self.estimator not in get_args(Estimator):
            raise ConfigError(f"unknown estimator '{self.estimator}'; use one of {', '.join(get_args(Estimator))}")
        if self.num_keypoints < 1 or self.vo.trials < 1 or self.speed.rounds < 1:
            raise ConfigError("num_keypoints, vo.trials and speed.rounds must be at least 1")
        if min(self.threshold_px, self.homography_threshold_px) <= 0:
            raise ConfigError("threshold_px and homography_threshold_px must be positive")
        if not self.frontends:
            raise ConfigError("frontends: name at least one")

    @property
    def estimator_label(self) -> str:
        """How poses of pairs were estimated, for tables."""
        return f"{self.estimator}, {self.threshold_px:g} px, polished"


def rooted(config: BenchConfig, root: Path) -> BenchConfig:
    """The configuration with its data below `root`."""

    def below(words: list[str]) -> list[str]:
        return [str(root / word) for word in words]

    return replace(
        config,
        matching=replace(config.matching, data=below(config.matching.data)),
        vo=replace(config.vo, data=below(config.vo.data)),
        robustness=replace(config.robustness, data=below(config.robustness.data)),
        speed=replace(config.speed, data=below(config.speed.data)),
    )


def quick(config: BenchConfig) -> BenchConfig:
    """A reduced form for a first look: few frames, few pairs, one strength; its figures are not to be quoted."""
    return replace(
        config,
        matching=replace(config.matching, gaps=config.matching.gaps[::2], per_gap=2, most_pairs=6),
        vo=replace(config.vo, data=[_first_frames(word, 8) for word in config.vo.data], trials=1),
        robustness=replace(
            config.robustness, data=[_first_frames(w, 5) for w in config.robustness.data[:1]], levels=[1]
        ),
        speed=replace(config.speed, data=config.speed.data[:1], rounds=2, threads=config.speed.threads[-1:]),
    )


def _first_frames(word: str, count: int) -> str:
    from slamfeat.bench.data import parse_sequence

    return parse_sequence(word).first(count).word
