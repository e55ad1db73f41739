"""What `pretrain_jax.models.dinov3` offers: each name is imported when it is used."""

from .config import DINOV3_PRESETS as DINOV3_PRESETS
from .config import DINOv3Config as DINOv3Config
from .modeling import DINOv3 as DINOv3
from .params import DINOV3_LAYOUTS as DINOV3_LAYOUTS
from .params import dinov3_config as dinov3_config
from .params import dinov3_keys as dinov3_keys
from .params import dinov3_table as dinov3_table
from .params import official_keys as official_keys
from .params import transformers_dinov3_config as transformers_dinov3_config

__all__ = [
    "DINOV3_LAYOUTS",
    "DINOV3_PRESETS",
    "DINOv3",
    "DINOv3Config",
    "dinov3_config",
    "dinov3_keys",
    "dinov3_table",
    "official_keys",
    "transformers_dinov3_config",
]
