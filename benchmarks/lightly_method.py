"""A recipe of `slamfeat pretrain` as LightlyTrain's DINOv2 has it: model and settings, and what it cannot do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from slamfeat.errors import ConfigError
from slamfeat.pretrain.crops import CropConfig
from slamfeat.pretrain.light import LightConfig
from slamfeat.pretrain.masking import MaskConfig
from slamfeat.pretrain.recipe import PretrainRecipe

HEAD_LAYERS = 3
"""Of its heads; not a setting."""
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}
"""The recipe's, and its name there."""


def check_recipe(recipe: PretrainRecipe) -> None:
    """Refuse what would not be the same there.

    Raises:
        ConfigError: with what must change.
    """
    made, heads, plain = recipe.architecture, (recipe.dino_head, recipe.ibot_head), MaskConfig()
    alike = heads[0] == heads[1] or not recipe.objective.separate_heads
    group, crops, light = recipe.objective.koleo_group, CropConfig(), LightConfig()
    needed = {
        "a plain DINOv2: no registers, position offset, ffn mlp":
            not made.registers and made.position == "offset" and made.ffn == "mlp",
        "dino_head and ibot_head of one size": alike,
        f"heads of {HEAD_LAYERS} layers": heads[0].layers == HEAD_LAYERS,
        f"masks.block={plain.block} and masks.aspect={plain.aspect}":
            (recipe.masks.block, recipe.masks.aspect) == (plain.block, plain.aspect),
        "objective.gram=0, init= and start=": not (recipe.objective.gram or recipe.init or recipe.start),
        f"crops.flip={crops.flip} and crops.aspect={crops.aspect:.3f}":
            (recipe.crops.flip, recipe.crops.aspect) == (crops.flip, crops.aspect),
        "crops.light as it is by default, but for sigma": replace(recipe.crops.light, sigma=light.sigma) == light,
        "objective.koleo_group=0": group in (0, recipe.loop.batch),
        "loop.accumulate=1": recipe.loop.accumulate == 1,
    }  # fmt: skip
    for what, is_so in needed.items():
        if not is_so:
            raise ConfigError(f"LightlyTrain's DINOv2 needs {what}; change the recipe")


def model_of(recipe: PretrainRecipe) -> Any:
    """LightlyTrain's own transformer of the recipe's size."""
    from lightly_train._models.dinov2_vit.dinov2_vit_src.layers.attention import MemEffAttention
    from lightly_train._models.dinov2_vit.dinov2_vit_src.layers.block import Block
    from lightly_train._models.dinov2_vit.dinov2_vit_src.models.vision_transformer import DinoVisionTransformer

    made = recipe.architecture
    return DinoVisionTransformer(
        img_size=recipe.crops.global_size, patch_size=made.patch_size, embed_dim=made.embed_dim, depth=made.depth,
        num_heads=made.num_heads, mlp_ratio=made.ffn_ratio, drop_path_rate=recipe.model.drop_path,
        drop_path_uniform=True, init_values=recipe.model.layer_scale, block_chunks=0,
        block_fn=partial(Block, attn_class=MemEffAttention),
    )  # fmt: skip


def method_of(recipe: PretrainRecipe) -> dict[str, Any]:
    """Settings of its method, by its names; of a recipe that `check_recipe` lets pass."""
    loop, teacher, head, masks = recipe.loop, recipe.teacher, recipe.dino_head, recipe.masks
    return {
        "ibot_separate_head": recipe.objective.separate_heads, "hidden_dim": head.hidden,
        "dino_bottleneck_dim": head.bottleneck, "ibot_bottleneck_dim": head.bottleneck,
        "output_dim": head.prototypes, "student_freeze_last_layer_steps": recipe.rates.last_layer_from,
        "dino_loss_weight": recipe.objective.dino, "ibot_loss_weight": recipe.objective.ibot,
        "koleo_loss_weight": recipe.objective.koleo,
        "center_method": "sinkhorn_knopp" if teacher.targets == "sinkhorn" else "softmax",
        "center_momentum": teacher.centre_momentum,
        "mask_ratio_min": masks.least, "mask_ratio_max": masks.most, "mask_probability": masks.share,
        "momentum_start": teacher.momentum, "momentum_end": teacher.final_momentum,
        "student_temp": recipe.objective.temperature, "teacher_temp_start": teacher.temperature,
        "teacher_temp_end": teacher.final_temperature, "teacher_temp_warmup_steps": teacher.warmup,
        "min_lr": loop.final_lr, "warmup_steps": loop.warmup, "layerwise_decay": recipe.rates.layer_decay,
        "patch_embed_lr_multiplier": recipe.rates.patch_embed, "reference_batch_size": loop.batch,
        "weight_decay_end": loop.weight_decay if loop.final_weight_decay is None else loop.final_weight_decay,
        "gradient_clip_val": loop.clip,
    }  # fmt: skip


def views_of(recipe: PretrainRecipe) -> dict[str, Any]:
    """Settings of its crops, by its names."""
    crops = recipe.crops
    blur = {"sigmas": crops.light.sigma}
    return {
        "image_size": [crops.global_size, crops.global_size],
        "random_resize": {"min_scale": crops.global_scale[0], "max_scale": crops.global_scale[1]},
        "gaussian_blur": blur,
        "global_view_1": {"gaussian_blur": blur},
        "local_view": {
            "gaussian_blur": blur,
            "num_views": crops.local_count, "view_size": [crops.local_size, crops.local_size],
            "random_resize": {"min_scale": crops.local_scale[0], "max_scale": crops.local_scale[1]},
        },
    }  # fmt: skip
