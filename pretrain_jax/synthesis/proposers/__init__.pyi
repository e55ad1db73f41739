"""What `pretrain_jax.synthesis.proposers` offers: each name is imported when it is used."""

from .base import Found as Found
from .base import Proposer as Proposer
from .named import PROPOSERS as PROPOSERS
from .named import proposer_from_name as proposer_from_name
from .random_crop import RandomCrop as RandomCrop
from .saliency import Saliency as Saliency
from .saliency import saliency_map as saliency_map
from .sam import Sam as Sam

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
