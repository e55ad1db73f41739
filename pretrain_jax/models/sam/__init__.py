"""Segment Anything (arXiv:2304.02643) and its automatic mask generator."""

from pretrain_jax.models.sam.config import SAM_PRESETS, SAMConfig
from pretrain_jax.models.sam.generator import ImageMasks, MaskGenerator
from pretrain_jax.models.sam.generator_config import GeneratorConfig
from pretrain_jax.models.sam.masks_cache import MasksCache
from pretrain_jax.models.sam.modeling import SAM, SAMOutput
from pretrain_jax.models.sam.params import SAM_LAYOUTS, sam_keys, sam_table

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
