"""What `pretrain_jax.synthesis.proposers` offers: each name is imported when it is used."""

from .boxes import Found, Proposer
from .named import PROPOSERS, proposer_from_name
from .random_crop import RandomCrop
from .saliency import Saliency, saliency_map
from .sam import Sam

__all__ = [
    "PROPOSERS",
    "Found",
    "Proposer",
    "RandomCrop",
    "Saliency",
    "Sam",
    "proposer_from_name",
    "saliency_map",
]
