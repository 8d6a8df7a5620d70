"""What pretraining minimises, by idea; each file says where its formulas come from."""

from slamfeat.pretrain.losses.dino import dino_loss, soft_cross_entropy
from slamfeat.pretrain.losses.gram import Negatives, gram_loss
from slamfeat.pretrain.losses.ibot import ibot_loss
from slamfeat.pretrain.losses.koleo import check_groups, koleo_loss, koleo_of_views

__all__ = [
    "Negatives", "check_groups", "dino_loss", "gram_loss", "ibot_loss", "koleo_loss", "koleo_of_views",
    "soft_cross_entropy",
]  # fmt: skip
