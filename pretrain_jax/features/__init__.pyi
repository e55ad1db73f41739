"""What `pretrain_jax.features` offers: each name is imported when it is used."""

from .embedding import embed as embed
from .encoder import Encoder as Encoder
from .encoder import Features as Features
from .encoder import features as features
from .encoder import open_encoder as open_encoder
from .keeping import Kept as Kept
from .keeping import keep as keep

__all__ = [
    "Encoder",
    "Features",
    "Kept",
    "embed",
    "features",
    "keep",
    "open_encoder",
]
