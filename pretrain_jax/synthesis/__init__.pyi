"""What `pretrain_jax.synthesis` offers: each name is imported when it is used."""

from .features import read_features
from .images import Images, index_images
from .margins import ProbeModel, load_probe
from .methods import METHODS, Method
from .patches import Patches
from .proposers import PROPOSERS, Proposer, RandomCrop, Saliency, Sam, proposer_from_name
from .proposing import propose
from .rules import recommended_ratio
from .scoring import score
from .selecting import select
from .synthesising import synthesise

__all__ = [
    "METHODS",
    "PROPOSERS",
    "Images",
    "Method",
    "Patches",
    "ProbeModel",
    "Proposer",
    "RandomCrop",
    "Saliency",
    "Sam",
    "index_images",
    "load_probe",
    "propose",
    "proposer_from_name",
    "read_features",
    "recommended_ratio",
    "score",
    "select",
    "synthesise",
]
