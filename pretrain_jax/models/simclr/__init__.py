"""Contrastive learning of image encoders (SimCLR, arXiv:2002.05709)."""

from pretrain_jax.models.simclr.augmentations import Augmentation, random_views
from pretrain_jax.models.simclr.modeling import SimCLR, SimCLRConfig
from pretrain_jax.models.simclr.ntxent import (
    cached_value_and_grad,
    nt_xent,
    warn_of_few_negatives,
)

__all__ = [
    "Augmentation",
    "SimCLR",
    "SimCLRConfig",
    "cached_value_and_grad",
    "nt_xent",
    "random_views",
    "warn_of_few_negatives",
]
