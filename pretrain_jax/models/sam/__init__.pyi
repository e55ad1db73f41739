"""What `pretrain_jax.models.sam` offers: each name is imported when it is used."""

from .config import SAM_PRESETS as SAM_PRESETS
from .config import GeneratorConfig as GeneratorConfig
from .config import SAMConfig as SAMConfig
from .encoder import ImageEncoder as ImageEncoder
from .generator import ImageMasks as ImageMasks
from .generator import MaskGenerator as MaskGenerator
from .generator import MasksCache as MasksCache
from .modeling import SAM as SAM
from .modeling import SAMOutput as SAMOutput
from .params import SAM_LAYOUTS as SAM_LAYOUTS
from .params import sam_encoder_config as sam_encoder_config
from .params import sam_encoder_keys as sam_encoder_keys
from .params import sam_encoder_table as sam_encoder_table
from .params import sam_keys as sam_keys
from .params import sam_table as sam_table

__all__ = [
    "SAM",
    "SAM_LAYOUTS",
    "SAM_PRESETS",
    "GeneratorConfig",
    "ImageEncoder",
    "ImageMasks",
    "MaskGenerator",
    "MasksCache",
    "SAMConfig",
    "SAMOutput",
    "sam_encoder_config",
    "sam_encoder_keys",
    "sam_encoder_table",
    "sam_keys",
    "sam_table",
]
