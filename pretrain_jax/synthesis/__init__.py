"""Patches of images, how hard they are, and smaller sets made of the hardest: OptiDEL's stages."""

from pretrain_jax.synthesis.features import read_features
from pretrain_jax.synthesis.images import Images, index_images
from pretrain_jax.synthesis.margins import ProbeModel, load_probe
from pretrain_jax.synthesis.methods import METHODS, Method, recommended_ratio
from pretrain_jax.synthesis.patches import Patches
from pretrain_jax.synthesis.propose import propose
from pretrain_jax.synthesis.proposers import (
    PROPOSERS,
    Proposer,
    RandomCrop,
    Saliency,
    Sam,
    proposer_from_name,
)
from pretrain_jax.synthesis.score import score
from pretrain_jax.synthesis.select import select
from pretrain_jax.synthesis.synthesise import synthesise

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
