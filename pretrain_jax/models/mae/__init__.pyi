"""What `pretrain_jax.models.mae` offers: each name is imported when it is used."""

from .config import MAE_PRESETS, MAEConfig
from .modeling import MAE, MAEOutput, masking_noise, standardise_patches

__all__ = [
    "MAE",
    "MAE_PRESETS",
    "MAEConfig",
    "MAEOutput",
    "masking_noise",
    "standardise_patches",
]
