"""Settings of the training loop."""

from __future__ import annotations

from dataclasses import dataclass

from slamfeat.errors import ConfigError

NEUTRAL = frozenset({"max_minutes", "log_every", "save_every", "keep", "keep_every", "workers", "ahead", "unit"})
"""Settings that may differ when a run is resumed: they do not change what is learnt."""


@dataclass
class LoopConfig:
    """How a task is trained.

    Attributes:
        steps: of the optimizer.
        batch: samples of a micro-batch, over all processes.
        accumulate: micro-batches of a step.
        lr, final_lr: learning rate after the warm-up and at the end.
        warmup: steps in which the rate rises from 0.
        weight_decay, final_weight_decay: at the beginning and at the end; the second None for no change.
        beta1, beta2: of AdamW.
        clip: largest norm of the gradient; 0 for any.
        ema, final_ema: decay of the average of the weights that is evaluated and exported, at the beginning and at the
            end, half a cosine between; the first 0 for no average, the second None for no change.
        precision: of the loss: "fp32", or "bf16" by autocast. Weights are float32.
        shard: share parameters and optimizer state out among torchrun's processes (FSDP2), for models that one device
            cannot train; else each has all, and gradients are averaged. What is evaluated, a backbone, is whole then.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" for CUDA where there is some. Under torchrun plain "cuda" is
            each process's own.
        seed: of the order of samples and of the global generators.
        overfit: the first step's samples for ever: a loss that does not fall then shows a fault.
        evaluate_every: steps between evaluations; 0 for none.
        score: figure of the evaluation that is to be high; the best checkpoint is chosen by it.
        patience: evaluations without a better score before the run ends; 0 for never.
        max_minutes: of this session, which then ends with a checkpoint to resume from; 0 for any.
        log_every: steps a line of the log stands for.
        save_every: steps between checkpoints.
        keep: newest checkpoints that are kept, beside the best; one would leave nothing if it were damaged.
        keep_every: checkpoints at multiples of so many steps are kept for good; 0 for none.
        workers: threads that make batches; 0 makes them between steps.
        ahead: micro-batches made in advance, at most.
        unit: what a sample is called in the log.
    """

    steps: int = 1000
    batch: int = 8
    accumulate: int = 1
    lr: float = 1e-3
    final_lr: float = 1e-5
    warmup: int = 0
    weight_decay: float = 1e-4
    final_weight_decay: float | None = None
    beta1: float = 0.9
    beta2: float = 0.999
    clip: float = 1.0
    ema: float = 0.0
    final_ema: float | None = None
    precision: str = "fp32"
    shard: bool = False
    device: str = "auto"
    seed: int = 0
    overfit: bool = False
    evaluate_every: int = 500
    score: str = "score"
    patience: int = 0
    max_minutes: float = 0.0
    log_every: int = 20
    save_every: int = 500
    keep: int = 2
    keep_every: int = 0
    workers: int = 1
    ahead: int = 4
    unit: str = "pairs"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "log_every", "save_every", "keep", "ahead"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in (
            "final_lr", "weight_decay", "clip", "seed", "evaluate_every", "patience", "max_minutes", "keep_every",
            "workers",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.lr < float("inf"):
            raise ConfigError(f"lr must be above 0, got {self.lr}")
        if not 0 <= self.warmup < self.steps:
            raise ConfigError(f"warmup must be at least 0 and below steps={self.steps}, got {self.warmup}")
        if self.final_weight_decay is not None and self.final_weight_decay < 0:
            raise ConfigError(f"final_weight_decay must not be negative, got {self.final_weight_decay}")
        for name in ("beta1", "beta2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.final_ema is not None and not 0 < self.ema <= self.final_ema <= 1:
            raise ConfigError(
                f"final_ema must lie between an ema above 0 and 1, got {self.final_ema} for ema={self.ema}"
            )
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"unknown precision '{self.precision}'; use one of fp32, bf16")
        if self.patience and not self.evaluate_every:
            raise ConfigError("patience counts evaluations; set evaluate_every, or patience=0")
        if not self.unit.isidentifier():
            raise ConfigError(f"unit must be one word, got '{self.unit}'")
