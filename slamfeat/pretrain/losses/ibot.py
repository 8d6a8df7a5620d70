"""iBOT's loss: the student says of a patch that it cannot see what the teacher says, who can (arXiv 2111.07832)."""

from __future__ import annotations

import torch
from torch import Tensor

from slamfeat.pretrain.losses.dino import soft_cross_entropy


def ibot_loss(logits: Tensor, targets: Tensor, masks: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross entropy of masked patches: mean over an image's, then over all images; 0 for an image without any.

    So every masked image counts alike, however much of it is masked.

    Args:
        logits: (M, K) the student's, of the masked patches in the order of `masks.nonzero()`: image by image, row by
            row. Rows beyond those fill up and are left out.
        targets: (M, K) the teacher's probabilities of the same; they get no gradient.
        masks: (B, h, w) or (B, P) bool, True for masked.
        temperature: of the student's softmax.
    """
    masks = masks.flatten(1)
    image = masks.nonzero()[:, 0]
    count = len(image)
    assert logits.shape == targets.shape and len(logits) >= count, "a row for each masked patch is needed"
    each = soft_cross_entropy(logits[:count], targets[:count], temperature)
    weight = 1 / masks.sum(1).to(each.dtype)
    return torch.sum(each * weight[image]) / len(masks)
