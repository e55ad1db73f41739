"""What `pretrain_jax.models.simclr` offers: each name is imported when it is used."""

from .config import Augmentation as Augmentation
from .config import SimCLRConfig as SimCLRConfig
from .modeling import SimCLR as SimCLR
from .modeling import cached_value_and_grad as cached_value_and_grad
from .modeling import nt_xent as nt_xent
from .modeling import random_views as random_views
from .modeling import warn_of_few_negatives as warn_of_few_negatives

__all__ = [
    "Augmentation",
    "SimCLR",
    "SimCLRConfig",
    "cached_value_and_grad",
    "nt_xent",
    "random_views",
    "warn_of_few_negatives",
]
