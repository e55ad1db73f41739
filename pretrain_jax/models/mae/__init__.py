"""Masked autoencoders (arXiv:2111.06377)."""

from pretrain_jax.models.mae.config import MAE_PRESETS, MAEConfig
from pretrain_jax.models.mae.modeling import MAE, MAEOutput, masking_noise, standardise_patches

__all__ = [
    "MAE",
    "MAE_PRESETS",
    "MAEConfig",
    "MAEOutput",
    "masking_noise",
    "standardise_patches",
]
