"""What a pretraining recipe may hold: `slamfeat pretrain RECIPE` reads one, configs/pretrain/ has some."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import get_args

from slamfeat.backbones.layers import Ffn
from slamfeat.backbones.registry import BACKBONES, Architecture, find_entry
from slamfeat.backbones.vit import PositionMode
from slamfeat.errors import ConfigError
from slamfeat.pretrain.crops import CropConfig
from slamfeat.pretrain.head import HeadConfig
from slamfeat.pretrain.losses import Negatives, check_groups
from slamfeat.pretrain.masking import MaskConfig
from slamfeat.pretrain.probes import ProbeConfig
from slamfeat.train.config import LoopConfig
from slamfeat.train.order import check_shared

CENTRINGS = ("sinkhorn", "centring")


@dataclass
class ModelConfig:
    """The backbone that is made.

    Attributes:
        name: shown, and written into its file; letters, digits, "-" and "_", and not that of a published backbone.
        like: a published backbone whose architecture it has; empty for the fields from `embed_dim` to `ffn_ratio`,
            which must not be given beside it.
        embed_dim, depth, num_heads, patch_size, registers, ffn, ffn_ratio: see `Architecture`.
        position: "offset" or "antialias" (learned positions), or "rope".
        grid: side of the stored position embedding in patches; 0 for that of the global crops. Other sizes of crops are
            interpolated from it.
        layer_scale: initial value of the layer scales.
        drop_path: share of the crops that a residual leaves out in training.
        rope_jitter: with "rope", most that coordinates are stretched or shrunk in training, as a factor; 1 for none.
        recompute: activations inside blocks are computed again for the gradient, for less memory.
    """

    name: str = "own-vitt14"
    like: str = ""
    embed_dim: int = 192
    depth: int = 12
    num_heads: int = 3
    patch_size: int = 14
    registers: int = 0
    position: str = "offset"
    ffn: str = "mlp"
    ffn_ratio: float = 4.0
    grid: int = 0
    layer_scale: float = 1e-5
    drop_path: float = 0.0
    rope_jitter: float = 1.0
    recompute: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name, re.ASCII) or self.name in BACKBONES:
            raise ConfigError(
                f"model: '{self.name}' is no name of your own; choose one of letters, digits, - and _ that no published"
                " backbone has"
            )
        if self.embed_dim % max(self.num_heads, 1) or min(self.embed_dim, self.depth, self.num_heads) < 1:
            raise ConfigError(f"model: embed_dim={self.embed_dim} is no multiple of num_heads={self.num_heads}")
        if self.position not in ("offset", "antialias", "rope"):
            raise ConfigError(f"model: position is one of offset, antialias, rope, not '{self.position}'")
        if self.ffn not in ("mlp", "swiglu_fused", "swiglu"):
            raise ConfigError(f"model: ffn is one of mlp, swiglu_fused, swiglu, not '{self.ffn}'")
        if not 0 <= self.drop_path < 1 or min(self.patch_size, self.grid + 1, self.registers + 1) < 1:
            raise ConfigError("model: 0 <= drop_path < 1, patch_size >= 1, grid >= 0 and registers >= 0 are needed")
        named = ("embed_dim", "depth", "num_heads", "patch_size", "registers", "position", "ffn", "ffn_ratio")
        given = [name for name in named if getattr(self, name) != getattr(ModelConfig, name)]
        if self.like and find_entry(self.like) and given:
            raise ConfigError(f"model: like={self.like} says what {', '.join(given)} would; leave one or the other out")
        if self.rope_jitter < 1:
            raise ConfigError(f"model: rope_jitter is a factor of at least 1, not {self.rope_jitter}")

    def architecture(self, global_size: int) -> Architecture:
        """For global crops of this size.

        Raises:
            ConfigError: an unknown published backbone.
        """
        if self.like:
            published = find_entry(self.like).architecture
            grid = self.grid or max(1, global_size // published.patch_size)
            return replace(published, layer_scale=self.layer_scale, grid=grid)
        position: PositionMode | str = self.position
        ffn: Ffn | str = self.ffn
        grid = self.grid or max(1, global_size // self.patch_size)
        return Architecture(
            self.embed_dim, self.depth, self.num_heads, self.patch_size, self.registers, position, ffn,  # type: ignore[arg-type]
            self.ffn_ratio, grid, self.layer_scale,
        )  # fmt: skip


@dataclass
class ImagesConfig:
    """What is learnt from.

    Attributes:
        images: images, videos, .tar shards, folders of all these, and .txt lists of them; empty for the frames shipped
            with the package.
        held_out: share of the images, by a hash of their names (see `slamfeat.pretrain.sources.photo_of`), that is kept
            for judging.
        frame_step: of every so many frames of a video one is taken.
    """

    images: list[str] = field(default_factory=list)
    held_out: float = 0.05
    frame_step: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1 or self.frame_step < 1:
            raise ConfigError("data: 0 < held_out < 1 and frame_step >= 1 are needed")


@dataclass
class TeacherConfig:
    """How the teacher, a running mean of the student, moves and what it says.

    Attributes:
        momentum, final_momentum: of the mean; half a cosine over the run.
        temperature, final_temperature: of its softmax, a straight line over `warmup` steps and the last value after.
        warmup: steps.
        targets: "sinkhorn" or "centring".
        centre_momentum: of the centre.
    """

    momentum: float = 0.994
    final_momentum: float = 1.0
    temperature: float = 0.04
    final_temperature: float = 0.07
    warmup: int = 0
    targets: str = "sinkhorn"
    centre_momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.targets not in CENTRINGS:
            raise ConfigError(f"teacher: targets is one of {', '.join(CENTRINGS)}, not '{self.targets}'")
        if not 0 <= self.momentum <= self.final_momentum <= 1 or self.warmup < 0:
            raise ConfigError("teacher: 0 <= momentum <= final_momentum <= 1 and warmup >= 0 are needed")
        if min(self.temperature, self.final_temperature) <= 0:
            raise ConfigError("teacher: temperatures must be above 0")


@dataclass
class ObjectiveConfig:
    """What the student is told.

    Attributes:
        dino, ibot, koleo, gram: weights; 0 leaves a part out.
        temperature: of the student's softmax.
        koleo_group: images that have their neighbours among themselves; 0 for all of a process's micro-batch.
        separate_heads: whether patches have a head of their own.
    """

    dino: float = 1.0
    ibot: float = 1.0
    koleo: float = 0.1
    gram: float = 0.0
    temperature: float = 0.1
    koleo_group: int = 0
    separate_heads: bool = True

    def __post_init__(self) -> None:
        if min(self.dino, self.ibot, self.koleo, self.gram) < 0 or max(self.dino, self.ibot) <= 0:
            raise ConfigError("objective: weights must not be negative, and dino or ibot above 0")
        if self.temperature <= 0 or self.koleo_group < 0:
            raise ConfigError("objective: temperature > 0 and koleo_group >= 0 are needed")


@dataclass
class GramConfig:
    """Gram anchoring (DINOv3, arXiv 2508.10104, Sec. 4.2): patches stay as alike as they were to an earlier teacher.

    Attributes:
        from_step: from which it counts; the teacher as it is then becomes the Gram teacher.
        refresh: steps after which the Gram teacher is renewed; 0 for never.
        most: renewals, at most.
        scale: how many times larger the Gram teacher sees the global crops; its patches are brought to the student's
            grid bicubically, without antialiasing, as by DINOv3's recipes.
        negatives: see `slamfeat.pretrain.losses.gram_loss`.
    """

    from_step: int = 0
    refresh: int = 0
    most: int = 3
    scale: int = 1
    negatives: str = "keep"

    def __post_init__(self) -> None:
        if min(self.from_step, self.refresh, self.most) < 0 or self.scale < 1:
            raise ConfigError("gram: from_step, refresh and most of at least 0 and scale of at least 1 are needed")
        if self.negatives not in get_args(Negatives):
            raise ConfigError(f"gram: negatives is one of {', '.join(get_args(Negatives))}, not '{self.negatives}'")

    def renewed(self, step: int) -> bool:
        """Whether the teacher after this step becomes the Gram teacher."""
        since = step - self.from_step
        if since <= 0:
            return since == 0
        return bool(self.refresh) and since % self.refresh == 0 and since // self.refresh <= self.most


@dataclass
class RatesConfig:
    """How fast which part learns, as shares of the loop's rate.

    Attributes:
        layer_decay: of each block, of the next one's.
        patch_embed: of the patch embedding.
        last_layer_from: step from which the heads' prototypes move.
    """

    layer_decay: float = 1.0
    patch_embed: float = 0.2
    last_layer_from: int = 0


@dataclass
class PretrainRecipe:
    """A backbone from images alone.

    Attributes:
        model, data, crops, masks, dino_head, ibot_head, teacher, objective, gram, rates, probes, loop: see their
            classes.
        init: weights to begin with: a backbone's name or file, of this architecture or a deeper one, of which the first
            blocks are taken; empty for none.
        start: folder of a pretraining to begin with, as its newest checkpoint is: student, teacher and heads; for a
            phase at another size of crops.
        notes: for the file's metadata, such as the images' licence.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: ImagesConfig = field(default_factory=ImagesConfig)
    crops: CropConfig = field(default_factory=CropConfig)
    masks: MaskConfig = field(default_factory=MaskConfig)
    dino_head: HeadConfig = field(default_factory=HeadConfig)
    ibot_head: HeadConfig = field(default_factory=HeadConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    gram: GramConfig = field(default_factory=GramConfig)
    rates: RatesConfig = field(default_factory=RatesConfig)
    probes: ProbeConfig = field(default_factory=ProbeConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(unit="images", batch=64, clip=3.0, weight_decay=0.04))
    init: str = ""
    start: str = ""
    notes: dict[str, str] = field(default_factory=dict, metadata={"neutral": True})

    def __post_init__(self) -> None:
        self.crops.check_patch(self.architecture.patch_size)
        self.check_shared(1)
        if self.init and self.start:
            raise ConfigError("init gives a backbone and start a whole pretraining to begin with; choose one of them")

    def check_shared(self, world: int) -> None:
        """Raise ConfigError unless so many processes can share a batch, with neighbours in each one's part."""
        check_shared(self.loop, world)
        if self.objective.koleo:
            check_groups(self.loop.batch // world, self.objective.koleo_group)

    @property
    def architecture(self) -> Architecture:
        """Of the backbone."""
        return self.model.architecture(self.crops.global_size)
