"""Readers of the folder layouts that segmentation and pre-training sets are published in."""

from pretrain_jax.segmentation.layouts.pairs import read_pair
from pretrain_jax.segmentation.layouts.pretraining import PRETRAINING, write_image_list
from pretrain_jax.segmentation.layouts.published import PUBLISHED
from pretrain_jax.segmentation.layouts.read import read_pretraining, read_segmentation

__all__ = [
    "PRETRAINING",
    "PUBLISHED",
    "read_pair",
    "read_pretraining",
    "read_segmentation",
    "write_image_list",
]
