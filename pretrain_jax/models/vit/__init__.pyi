"""What `pretrain_jax.models.vit` offers: each name is imported when it is used."""

from .config import VIT_PRESETS, ViTConfig
from .modeling import FixedPositions, ViT, patchify, unpatchify
from .positions import resize_positions, sincos_positions

__all__ = [
    "VIT_PRESETS",
    "FixedPositions",
    "ViT",
    "ViTConfig",
    "patchify",
    "resize_positions",
    "sincos_positions",
    "unpatchify",
]
