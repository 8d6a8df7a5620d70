"""What a distillation recipe may hold: `slamfeat distill RECIPE` reads one, configs/distill/ has some."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import nn

from slamfeat.errors import ConfigError
from slamfeat.pretrain.crops import GLOBAL, CropConfig
from slamfeat.pretrain.head import HeadConfig
from slamfeat.pretrain.losses import check_groups
from slamfeat.pretrain.probes import ProbeConfig
from slamfeat.pretrain.recipe import ImagesConfig, ModelConfig, RatesConfig
from slamfeat.train.config import LoopConfig
from slamfeat.train.order import check_shared


@dataclass
class DenseConfig:
    """Regression of the teacher's tokens through a linear map.

    Attributes:
        weight: of the loss; 0 leaves it out.
        layers: [student's block, teacher's block] each, from 0 or from the end; their normed tokens are compared.
        cls: weight of the class token's part beside the patches'.
        smooth: error, in standard deviations of the teacher's channel, up to which it counts squared.
        cosine: weight of 1 - cosine beside the smooth L1.
        centred: weight of 1 - cosine of the patches less their image's mean, which is how frontends look at them.
    """

    weight: float = 1.0
    layers: list[list[int]] = field(default_factory=lambda: [[-1, -1]])
    cls: float = 0.25
    smooth: float = 1.0
    cosine: float = 1.0
    centred: float = 0.0

    def __post_init__(self) -> None:
        if min(self.weight, self.cls, self.cosine, self.centred) < 0 or self.smooth <= 0:
            raise ConfigError("dense: weights must not be negative, and smooth above 0")
        if self.weight and (not self.layers or any(len(pair) != 2 for pair in self.layers)):
            raise ConfigError("dense: layers is a list of [student's block, teacher's block]")


@dataclass
class PrototypeConfig:
    """The paper's loss: scores of prototypes, of the class token across crops and of every patch of both global crops.

    DINOv2's own heads were never released, so that there are no prototypes to take over: they are the centres of
    k-means on the teacher's tokens, at unit length, made before the first step.

    Attributes:
        dino, ibot: weights; 0 leaves a part out.
        koleo: weight of KoLeo's loss on the student's class tokens of the global crops; 0 leaves it out.
        count: prototypes of class tokens, and as many of patches.
        images: crops whose tokens are clustered.
        teacher_temperature, temperature: of the two softmaxes.
        head: the student's; its prototypes are `count`.
    """

    dino: float = 0.0
    ibot: float = 0.0
    koleo: float = 0.0
    count: int = 1024
    images: int = 2048
    teacher_temperature: float = 0.05
    temperature: float = 0.1
    head: HeadConfig = field(default_factory=HeadConfig)

    def __post_init__(self) -> None:
        if min(self.dino, self.ibot, self.koleo) < 0 or min(self.teacher_temperature, self.temperature) <= 0:
            raise ConfigError("prototypes: weights must not be negative, and temperatures above 0")
        if self.count < 2 or self.images < 2:
            raise ConfigError("prototypes: count and images of at least 2 are needed")
        if (self.dino or self.ibot) and self.head.prototypes != self.count:
            raise ConfigError(f"prototypes: head.prototypes={self.head.prototypes} must be count={self.count}")


@dataclass
class DistillRecipe:
    """Small backbones from a larger, frozen one.

    `imitate` alone may differ when a run is gone on with: it changes what is written, not what is learnt.

    Attributes:
        teacher: a backbone's name or file.
        students: one or several of one patch size, all taught by one pass of the teacher.
        init: weights for the first student to begin with, of its own architecture, a deeper one, or one with wider
            feed-forward parts; empty for none.
        imitate: the students that are written have the map of their last block, so that their tokens take the place of
            the teacher's in frontends, and heads that know these serve them.
        sizes: of the global crops, which batches take turns in; empty for `crops.global_size` alone.
        data, crops, dense, prototypes, rates, probes, loop: see their classes. `loop.ema` gives the averaged students
            that are kept; the crops' solarisation and blur are as for pretraining.
        notes: for the files' metadata.
    """

    teacher: str = "dinov2-vits14"
    students: list[ModelConfig] = field(default_factory=lambda: [ModelConfig(layer_scale=1.0)])
    init: str = ""
    imitate: bool = field(default=False, metadata={"neutral": True})
    sizes: list[int] = field(default_factory=list)
    data: ImagesConfig = field(default_factory=ImagesConfig)
    crops: CropConfig = field(default_factory=lambda: CropConfig(local_count=0))
    dense: DenseConfig = field(default_factory=DenseConfig)
    prototypes: PrototypeConfig = field(default_factory=PrototypeConfig)
    rates: RatesConfig = field(default_factory=lambda: RatesConfig(patch_embed=1.0))
    probes: ProbeConfig = field(default_factory=ProbeConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(unit="images", batch=32, clip=3.0, weight_decay=0.04, ema=0.999)
    )
    notes: dict[str, str] = field(default_factory=dict, metadata={"neutral": True})

    def __post_init__(self) -> None:
        if not self.students:
            raise ConfigError("students: name one or more")
        names = [student.name for student in self.students]
        if len(set(names)) < len(names):
            raise ConfigError(f"students: each needs a name of its own, not {', '.join(names)}")
        if taken := [name for name in names if hasattr(nn.ModuleDict(), name)]:
            raise ConfigError(f"students: {', '.join(taken)} is a name that torch needs itself; choose another")
        if self.prototypes.dino and GLOBAL * self.prototypes.images < self.prototypes.count:
            raise ConfigError(
                f"prototypes: count={self.prototypes.count} class tokens' centres need as many of them; raise images to"
                f" {-(-self.prototypes.count // GLOBAL)} (both crops of each count), or lower count"
            )
        if not (self.dense.weight or self.prototypes.dino or self.prototypes.ibot):
            raise ConfigError("nothing to learn: raise dense.weight, prototypes.dino or prototypes.ibot above 0")
        patches = {s.name: s.architecture(self.crops.global_size).patch_size for s in self.students}
        if len(set(patches.values())) > 1:
            said = ", ".join(f"{name} {patch}" for name, patch in patches.items())
            raise ConfigError(f"students: all need one patch size, not {said}; distil them one after the other")
        for size in (self.crops.global_size, *self.sizes):
            replace(self.crops, global_size=size).check_patch(next(iter(patches.values())))
        depths = {s.architecture(self.crops.global_size).depth for s in self.students}
        if self.imitate and not all(self.imitating_pair(depth) is not None for depth in depths):
            raise ConfigError(
                "imitate: dense.layers must pair every student's last block, -1, with one of the teacher's"
            )

    def check_shared(self, world: int) -> None:
        """Raise ConfigError unless so many processes can share a batch, with neighbours in each one's part."""
        check_shared(self.loop, world)
        if self.prototypes.koleo:
            check_groups(self.loop.batch // world)

    def imitating_pair(self, depth: int) -> int | None:
        """Which of `dense.layers` is that of the last block of a student of this depth, if any is."""
        if not self.dense.weight:
            return None
        return next((n for n, pair in enumerate(self.dense.layers) if pair[0] in (-1, depth - 1)), None)
