"""What pretraining minimises, by idea; each file says where its formulas come from."""

from slamfeat.pretrain.losses.dino import dino_loss, soft_cross_entropy
from slamfeat.pretrain.losses.gram import Negatives, gram_loss
from slamfeat.pretrain.losses.ibot import ibot_loss
from slamfeat.pretrain.losses.koleo import koleo_loss

__all__ = ["Negatives", "dino_loss", "gram_loss", "ibot_loss", "koleo_loss", "soft_cross_entropy"]
