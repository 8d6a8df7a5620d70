"""Frozen vision transformers: DINOv2 and DINOv3 on torch's scaled_dot_product_attention, loaded strictly."""

from slamfeat.backbones.base import Backbone, Tokens
from slamfeat.backbones.load import load_backbone
from slamfeat.backbones.registry import list_backbones

__all__ = ["Backbone", "Tokens", "list_backbones", "load_backbone"]
