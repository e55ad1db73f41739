"""Vision transformers (arXiv:2010.11929) and the blocks that other models share."""

from pretrain_jax.models.vit.config import VIT_PRESETS, ViTConfig
from pretrain_jax.models.vit.modeling import FixedPositions, ViT, patchify, unpatchify
from pretrain_jax.models.vit.positions import resize_positions, sincos_positions

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
