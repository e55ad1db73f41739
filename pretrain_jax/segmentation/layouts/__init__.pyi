"""What `pretrain_jax.segmentation.layouts` offers: each name is imported when it is used."""

from .pairs import read_pair
from .pretraining import PRETRAINING, write_image_list
from .published import PUBLISHED
from .read import read_pretraining, read_segmentation

__all__ = [
    "PRETRAINING",
    "PUBLISHED",
    "read_pair",
    "read_pretraining",
    "read_segmentation",
    "write_image_list",
]
