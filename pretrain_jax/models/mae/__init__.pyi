"""What `pretrain_jax.models.mae` offers: each name is imported when it is used."""

from .config import MAE_PRESETS as MAE_PRESETS
from .config import MAEConfig as MAEConfig
from .modeling import MAE as MAE
from .modeling import MAEOutput as MAEOutput
from .modeling import masking_noise as masking_noise
from .modeling import standardise_patches as standardise_patches

__all__ = [
    "MAE",
    "MAE_PRESETS",
    "MAEConfig",
    "MAEOutput",
    "masking_noise",
    "standardise_patches",
]
