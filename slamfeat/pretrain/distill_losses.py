"""How near a student's tokens are to its teacher's: as losses, and as figures."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from slamfeat.pretrain.distill_networks import Scale
from slamfeat.pretrain.distill_recipe import DenseConfig


def dense_loss(said: Tensor, target: Tensor, config: DenseConfig) -> Tensor:
    """Smooth L1 in standard deviations, and 1 - cosine, of tokens (..., C); a mean over all of them."""
    said = said.float()
    error = F.smooth_l1_loss(said, target, beta=config.smooth)
    return error + config.cosine * (1 - F.cosine_similarity(said, target, dim=-1).mean())


def centred_loss(said: Tensor, target: Tensor) -> Tensor:
    """1 - cosine of patches (B, N, C) less the mean of their image, a mean over all of them."""
    return 1 - F.cosine_similarity(_in_image(said), _in_image(target), dim=-1).mean()


def likenesses(scaled: Tensor, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:
    """Scaled patches (B, N, C) as the teacher's, as they are, and as the teacher's less the mean of their image."""
    return scale.undo(scaled), scaled, _in_image(scaled) * scale.spread


def _in_image(patches: Tensor) -> Tensor:
    """(B, N, C) less the mean of their image."""
    wide = patches.float()
    return wide - wide.mean(1, keepdim=True)
