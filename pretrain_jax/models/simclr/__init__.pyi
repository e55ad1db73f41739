"""What `pretrain_jax.models.simclr` offers: each name is imported when it is used."""

from .augmentations import random_views
from .config import Augmentation, SimCLRConfig
from .modeling import SimCLR
from .ntxent import cached_value_and_grad, nt_xent, warn_of_few_negatives

__all__ = [
    "Augmentation",
    "SimCLR",
    "SimCLRConfig",
    "cached_value_and_grad",
    "nt_xent",
    "random_views",
    "warn_of_few_negatives",
]
