"""What a training recipe may hold: `slamfeat train RECIPE` reads one, configs/train/ has some."""

from __future__ import annotations

from dataclasses import dataclass, field

from slamfeat.errors import ConfigError
from slamfeat.frontend.heads.bundle import FINE_BRANCHES
from slamfeat.frontend.heads.matcher import AttentionConfig
from slamfeat.frontend.heads.refiner import RefinerConfig
from slamfeat.frontend.heads.saliency import SaliencyConfig
from slamfeat.frontend.selector import SelectorConfig
from slamfeat.train.config import LoopConfig
from slamfeat.train.homography_views import HomographyConfig
from slamfeat.train.joint_task import JointTaskConfig
from slamfeat.train.matcher_task import MatcherTaskConfig
from slamfeat.train.photometric import PhotometricConfig
from slamfeat.train.refiner_task import RefinerTaskConfig
from slamfeat.train.room_config import RoomPairsConfig
from slamfeat.train.sequences import SequenceConfig

STAGES = ("joint", "matcher", "refiner")


@dataclass
class DataConfig:
    """Where pairs come from.

    Attributes:
        photos: folders of photographs, for rooms and homographies; empty for the frames shipped with the package.
        sequences: with ground truth and depth, or a right camera to match it from, or patterns such as
            "tartanair/*/Easy/P*"; pairs of their frames.
        stereo: sequences with a right camera and depth; pairs of left and right.
        rooms, homographies, posed, stereo_share: shares of the four kinds of pairs; a kind without data must have 0.
        held_out: share of the photographs, and of the sequences where there are several, that are kept for judging.
        seed: of all draws.
        room, homography, sequence: see their classes. The room's own seed does not count.
    """

    photos: list[str] = field(default_factory=list)
    sequences: list[str] = field(default_factory=list)
    stereo: list[str] = field(default_factory=list)
    rooms: float = 0.6
    homographies: float = 0.4
    posed: float = 0.0
    stereo_share: float = 0.0
    held_out: float = 0.15
    seed: int = 0
    room: RoomPairsConfig = field(default_factory=RoomPairsConfig)
    homography: HomographyConfig = field(default_factory=HomographyConfig)
    sequence: SequenceConfig = field(default_factory=SequenceConfig)

    def __post_init__(self) -> None:
        shares = (self.rooms, self.homographies, self.posed, self.stereo_share)
        if min(shares) < 0 or sum(shares) <= 0:
            raise ConfigError("data: rooms, homographies, posed and stereo_share are shares; one must be above 0")
        if (self.posed > 0) != bool(self.sequences) or (self.stereo_share > 0) != bool(self.stereo):
            raise ConfigError("data: give sequences with posed above 0, and stereo with stereo_share above 0")
        if not 0 < self.held_out < 1 or self.seed < 0:
            raise ConfigError("data: 0 < held_out < 1 and seed >= 0 are needed")


@dataclass
class JointStage:
    """How fine branch, descriptor, saliency and matcher are made together, from nothing.

    Attributes:
        rows, held_out: prepared pairs to learn from, and to judge by.
        keypoints: kept of each image.
        size: [W, H] that all images are brought to; pixels. Rows hold both images.
        layers: blocks whose tokens the descriptor knows, from 0; empty for the recipe's layer.
        dim: of the descriptor.
        photometric, model, saliency, task, loop: see their classes. The model's input_dim and token_dim and the
            saliency's input_dim are set by the descriptor and the fine branch.
    """

    rows: int = 4000
    held_out: int = 128
    keypoints: int = 512
    size: list[int] = field(default_factory=lambda: [640, 480])
    layers: list[int] = field(default_factory=list)
    dim: int = 192
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)
    model: AttentionConfig = field(default_factory=lambda: AttentionConfig(192, 0, dim=192, layers=12, heads=3))
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    task: JointTaskConfig = field(default_factory=JointTaskConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 32 or self.dim < 1 or min(self.layers, default=0) < 0:
            raise ConfigError("joint: size is [W, H] of at least 32 pixels, dim at least 1, layers count from 0")


@dataclass
class MatcherStage:
    """How the matcher is made.

    Attributes:
        rows, held_out: prepared pairs to learn from, and to judge by.
        keypoints: kept of each image.
        warm: name of published LightGlue weights to start from (see `slamfeat weights list`); empty for none.
        selector: which keypoints it learns on; saliency "learned" would need heads that are not made yet.
        photometric, model, task, loop: see their classes. The model's input_dim and token_dim are set by the frontend;
            a token_dim of 0 leaves the tokens out.
    """

    rows: int = 4000
    held_out: int = 128
    keypoints: int = 1024
    warm: str = "xfeat-lighterglue"
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)
    model: AttentionConfig = field(default_factory=AttentionConfig)
    task: MatcherTaskConfig = field(default_factory=MatcherTaskConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if self.selector.saliency == "learned":
            raise ConfigError("matcher.selector.saliency: no head says it yet in this stage; use gradient or fine")
        if not self.warm and self.task.warm_scale != 1:
            raise ConfigError(
                "matcher.task.warm_scale is for published weights; set it to 1 where matcher.warm is empty"
            )
        if not self.warm and self.task.teacher_weight:
            raise ConfigError("matcher.task.teacher_weight: the teacher is the published matcher; set matcher.warm")


@dataclass
class RefinerStage:
    """How the refiner is made.

    Attributes:
        rows, held_out: prepared pairs to learn from, and to judge by.
        points: matches kept of each pair.
        photometric, model, task, loop: see their classes.
    """

    rows: int = 2000
    held_out: int = 100
    points: int = 256
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)
    model: RefinerConfig = field(default_factory=RefinerConfig)
    task: RefinerTaskConfig = field(default_factory=RefinerTaskConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


StageSettings = JointStage | MatcherStage | RefinerStage


@dataclass
class HeadsRecipe:
    """Heads for one backbone.

    Attributes:
        weights: of the backbone: a name, or a file; the shipped heads are of "dinov2-vits14-int8".
        layer: block whose tokens the matcher knows, from 0.
        cell: pixels of the image that one patch covers.
        fine: fine branch: "xfeat", "aliked" or "sift" (which has no weights), frozen; "finer" where stage "joint"
            trains it.
        fine_weights: name of its published weights; empty where it has none, or where `others` gives the fine branch.
        stages: which heads are made, in this order: either "matcher", on a fine branch that is frozen, or "joint", all
            of them from nothing; then "refiner".
        others: heads (name or file) whose refiner, or matcher with its fine branch, is taken where no stage makes one;
            empty for none.
        workers: processes that prepare pairs.
        notes: for the model card, such as the data's licences.
        data, joint, matcher, refiner: see their classes.
    """

    weights: str = "dinov2-vits14-int8"
    layer: int = 5
    cell: int = 28
    fine: str = "xfeat"
    fine_weights: str = "xfeat"
    stages: list[str] = field(default_factory=lambda: ["matcher", "refiner"])
    others: str = ""
    workers: int = 1
    notes: dict[str, str] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    joint: JointStage = field(default_factory=JointStage)
    matcher: MatcherStage = field(default_factory=MatcherStage)
    refiner: RefinerStage = field(default_factory=RefinerStage)

    def __post_init__(self) -> None:
        unknown = [stage for stage in self.stages if stage not in STAGES]
        if unknown or not self.stages:
            raise ConfigError(f"stages: some of {', '.join(STAGES)}, not {self.stages}")
        if self.fine not in FINE_BRANCHES:
            raise ConfigError(f"unknown fine branch '{self.fine}'; use one of {', '.join(FINE_BRANCHES)}")
        if self.workers < 1 or self.cell < 0 or self.layer < 0:
            raise ConfigError("recipe: workers >= 1, cell >= 0 and layer >= 0 are needed")
        for stage in (self.joint, self.matcher, self.refiner):
            if min(stage.rows, stage.held_out) < 1:
                raise ConfigError("recipe: a stage needs rows and held_out of at least 1")
        if "joint" in self.stages and "matcher" in self.stages:
            raise ConfigError("stages: joint and matcher both make the matcher; choose one of them")
        if "joint" in self.stages and (self.fine != "finer" or self.fine_weights):
            raise ConfigError("stage joint trains the fine branch from nothing: set fine=finer 'fine_weights=\"\"'")
        self._check_fine()

    def _check_fine(self) -> None:
        """Raise ConfigError where the fine branch would have the weights it was drawn with."""
        given = self.others and "matcher" not in self.stages
        if not (self.fine_weights or self.fine == "sift" or "joint" in self.stages or given):
            raise ConfigError(
                f"fine={self.fine}: a fine branch that nobody trained; name its published weights with fine_weights"
                " (xfeat, aliked-n16), or set fine=sift, or stages=[joint]"
            )

    def settings(self, stage: str) -> StageSettings:
        """Of one of `STAGES`."""
        kinds: dict[str, StageSettings] = {"joint": self.joint, "matcher": self.matcher, "refiner": self.refiner}
        return kinds[stage]

    @property
    def joint_layers(self) -> list[int]:
        """Blocks whose tokens the joint stage's descriptor knows."""
        return list(self.joint.layers) or [self.layer]
