"""LightlyTrain's DINOv2 as a peer of `slamfeat pretrain`: the same images, model, crops, heads and number of steps.

    python -m venv .venv-lightly && .venv-lightly/bin/pip install -c constraints.txt lightly-train==0.18.0
    .venv-lightly/bin/python -m benchmarks.lightly_peer cpu_vitt14 --out runs/pretrain/lightly
    .venv/bin/python -m benchmarks.backbones runs/pretrain/cpu_vitt14/backbone.safetensors \\
        runs/pretrain/lightly/lightly14.safetensors --out OUT --images ... --groups imagenet_groups

Runs in an environment of its own, since LightlyTrain (AGPL-3.0) is no dependency of slamfeat's, with this checkout as
the working folder. Model, crops, prototypes, schedules and rates are the recipe's; augmentations are LightlyTrain's.
Writes what it trained (its teacher, as ours) for `load_backbone`, and OUT/peer.json: images a second of the steps after
the first tenth, which warms up.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from slamfeat.backbones.own import save_backbone
from slamfeat.config import load_config
from slamfeat.files import write_text
from slamfeat.pretrain.recipe import PretrainRecipe
from slamfeat.pretrain.run import open_data
from slamfeat.train.recipe_files import find_recipe

NAME = "lightly14"
_DECLARED: list[Any] = []


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
    """Settings of its method, by its names."""
    loop, teacher, head = recipe.loop, recipe.teacher, recipe.dino_head
    return {
        "ibot_separate_head": recipe.objective.separate_heads, "hidden_dim": head.hidden,
        "dino_bottleneck_dim": head.bottleneck, "ibot_bottleneck_dim": recipe.ibot_head.bottleneck,
        "output_dim": head.prototypes, "student_freeze_last_layer_steps": recipe.rates.last_layer_from,
        "dino_loss_weight": recipe.objective.dino, "ibot_loss_weight": recipe.objective.ibot,
        "koleo_loss_weight": recipe.objective.koleo,
        "center_method": "sinkhorn_knopp" if teacher.targets == "sinkhorn" else "softmax",
        "momentum_start": teacher.momentum, "momentum_end": teacher.final_momentum,
        "student_temp": recipe.objective.temperature, "teacher_temp_start": teacher.temperature,
        "teacher_temp_end": teacher.final_temperature, "teacher_temp_warmup_steps": teacher.warmup,
        "min_lr": loop.final_lr, "warmup_steps": loop.warmup, "layerwise_decay": recipe.rates.layer_decay,
        "patch_embed_lr_multiplier": recipe.rates.patch_embed, "reference_batch_size": loop.batch,
        "weight_decay_end": loop.weight_decay if loop.final_weight_decay is None else loop.final_weight_decay,
        "gradient_clip_val": loop.clip,
    }  # fmt: skip


def _declare_operators() -> None:
    """Let torchvision be imported where its binary was built for another torch; none of its operators is used."""
    import torch

    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _DECLARED.append(library)  # what it declares goes with it


def train(recipe: PretrainRecipe, files: Sequence[str], out: Path, workers: int) -> list[float]:
    """Train; returns when each step ended."""
    _declare_operators()
    import lightly_train
    from lightly_train._methods.dinov2.dinov2 import DINOv2

    ended: list[float] = []

    before = DINOv2.on_train_batch_end

    def noted(method: Any, *words: Any, **named: Any) -> None:
        before(method, *words, **named)
        ended.append(time.perf_counter())

    DINOv2.on_train_batch_end = noted
    crops, loop = recipe.crops, recipe.loop
    steps_an_epoch = len(files) // loop.batch
    lightly_train.pretrain(
        out=str(out / "run"), data=list(files), model=model_of(recipe), method="dinov2", method_args=method_of(recipe),
        epochs=-(-loop.steps // steps_an_epoch), batch_size=loop.batch, num_workers=workers, devices=1,
        accelerator="cpu", precision="32-true", seed=loop.seed, overwrite=True,
        optim_args={"lr": loop.lr, "weight_decay": loop.weight_decay, "betas": [loop.beta1, loop.beta2]},
        trainer_args={"max_steps": loop.steps},
        transform_args={
            "image_size": [crops.global_size, crops.global_size],
            "random_resize": {"min_scale": crops.global_scale[0], "max_scale": crops.global_scale[1]},
            "local_view": {
                "num_views": crops.local_count, "view_size": [crops.local_size, crops.local_size],
                "random_resize": {"min_scale": crops.local_scale[0], "max_scale": crops.local_scale[1]},
            },
        },
    )  # fmt: skip
    return ended


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a name of configs/pretrain, or a YAML file")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="changes of the recipe")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--workers", type=int, default=1, help="processes that read images")
    given = parser.parse_intermixed_args(arguments)
    recipe = load_config(PretrainRecipe, find_recipe(given.recipe, "pretrain"), given.settings)
    made = recipe.architecture
    if made.registers or made.position != "offset" or made.ffn != "mlp":
        parser.error("the model must be a plain DINOv2: no registers, position offset, ffn mlp")
    images, learnt, _ = open_data(recipe.data)
    if len(learnt) < recipe.loop.batch:
        parser.error(f"{len(learnt)} images are fewer than loop.batch={recipe.loop.batch}")
    files = [str(Path(images.names[number]).resolve()) for number in learnt]
    ended = train(recipe, files, given.out, given.workers)
    first = len(ended) // 10
    rate = recipe.loop.batch * (len(ended) - 1 - first) / (ended[-1] - ended[first])
    weights = torch.load(given.out / "run" / "exported_models" / "exported_last.pt", weights_only=True)
    save_backbone(weights, recipe.architecture, given.out / f"{NAME}.safetensors", name=NAME)
    facts = {"steps": len(ended), "images_per_s": rate, "threads": torch.get_num_threads(), "images": len(files)}
    write_text(given.out / "peer.json", json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
