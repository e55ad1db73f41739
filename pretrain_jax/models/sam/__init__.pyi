"""What `pretrain_jax.models.sam` offers: each name is imported when it is used."""

from .config import SAM_PRESETS as SAM_PRESETS
from .config import GeneratorConfig as GeneratorConfig
from .config import SAMConfig as SAMConfig
from .generator import ImageMasks as ImageMasks
from .generator import MaskGenerator as MaskGenerator
from .generator import MasksCache as MasksCache
from .modeling import SAM as SAM
from .modeling import SAMOutput as SAMOutput
from .params import SAM_LAYOUTS as SAM_LAYOUTS
from .params import sam_keys as sam_keys
from .params import sam_table as sam_table

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
