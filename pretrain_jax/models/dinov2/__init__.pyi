"""What `pretrain_jax.models.dinov2` offers: each name is imported when it is used."""

from .config import DINOV2_PRESETS as DINOV2_PRESETS
from .config import DINOv2Config as DINOv2Config
from .modeling import DINOv2 as DINOv2
from .modeling import DINOv2Output as DINOv2Output
from .params import DINOV2_LAYOUTS as DINOV2_LAYOUTS
from .params import dinov2_config as dinov2_config
from .params import dinov2_keys as dinov2_keys
from .params import dinov2_table as dinov2_table
from .params import transformers_dinov2_config as transformers_dinov2_config

__all__ = [
    "DINOV2_LAYOUTS",
    "DINOV2_PRESETS",
    "DINOv2",
    "DINOv2Config",
    "DINOv2Output",
    "dinov2_config",
    "dinov2_keys",
    "dinov2_table",
    "transformers_dinov2_config",
]
