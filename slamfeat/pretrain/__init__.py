"""Self-supervised pretraining and distillation of backbones: DINOv2's recipe, from one processor to many GPUs."""
