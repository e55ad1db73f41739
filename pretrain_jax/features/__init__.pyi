"""What `pretrain_jax.features` offers: each name is imported when it is used."""

from .encoder import Encoder as Encoder
from .encoder import Features as Features
from .encoder import features as features
from .encoder import open_encoder as open_encoder

__all__ = [
    "Encoder",
    "Features",
    "features",
    "open_encoder",
]
