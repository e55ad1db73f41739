"""What `pretrain_jax.models.vit` offers: each name is imported when it is used."""

from .config import VIT_PRESETS as VIT_PRESETS
from .config import ViTConfig as ViTConfig
from .modeling import FixedPositions as FixedPositions
from .modeling import ViT as ViT
from .modeling import patchify as patchify
from .modeling import resize_positions as resize_positions
from .modeling import sincos_positions as sincos_positions
from .modeling import unpatchify as unpatchify

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
