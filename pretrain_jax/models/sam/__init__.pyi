"""What `pretrain_jax.models.sam` offers: each name is imported when it is used."""

from .config import SAM_PRESETS, SAMConfig
from .generator import ImageMasks, MaskGenerator
from .generator_config import GeneratorConfig
from .masks_cache import MasksCache
from .modeling import SAM, SAMOutput
from .params import SAM_LAYOUTS, sam_keys, sam_table

__all__ = [
    "SAM",
    "SAM_LAYOUTS",
    "SAM_PRESETS",
    "GeneratorConfig",
    "ImageMasks",
    "MaskGenerator",
    "MasksCache",
    "SAMConfig",
    "SAMOutput",
    "sam_keys",
    "sam_table",
]
