"""Where a fine-tuning's encoder comes from: a stage of pre-training, a bare run, or nowhere."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from pretrain_jax.models.vit import ViT
from pretrain_jax.stages import digest, read_manifest
from pretrain_jax.stages.manifest import MANIFEST
from pretrain_jax.train.restored import load_model

__all__ = ["SCRATCH", "Origin", "TrainedEncoder", "load_encoder", "origin_of"]

RUN = "run"


@dataclass(frozen=True)
class Origin:
    """What a model was pre-trained on.

    Attributes:
        objective: "mae", "simclr", or "none".
        method: that chose the data, "scratch" without pre-training, "" where unknown.
        ratio: share of the data, None where unknown.
        storage_ratio: share of the pixels, None where unknown.
        seed: of the pre-training, None where unknown.
    """

    objective: str
    method: str
    ratio: float | None
    storage_ratio: float | None
    seed: int | None


SCRATCH = Origin("none", "scratch", 0.0, 0.0, None)


@dataclass(frozen=True)
class TrainedEncoder:
    """An encoder without pooling.

    Attributes:
        encoder: with its weights.
        mean: of each channel, where the largest pixel value is 1.
        std: of each channel.
        objective: that trained it.
        sha256: of its arrays.
    """

    encoder: ViT
    mean: tuple[float, ...]
    std: tuple[float, ...]
    objective: str
    sha256: str


def origin_of(folder: Path, trained: TrainedEncoder) -> tuple[Origin, str]:
    """What the manifest of a stage's folder says, and its digest; without one, little.

    Args:
        folder: of the stage, or of a run.
        trained: what `load_encoder` found there.
    """
    if not (folder / MANIFEST).is_file():
        return Origin(trained.objective, "", None, None, None), trained.sha256
    manifest = read_manifest(folder)
    known = manifest.parameters
    origin = Origin(
        objective=known.get("objective", trained.objective),
        method=known.get("method", ""),
        ratio=known.get("ratio"),
        storage_ratio=manifest.counts.get("storage_ratio"),
        seed=manifest.seed,
    )
    return origin, digest(manifest)


def load_encoder(folder: Path, image_size: int | None) -> TrainedEncoder:
    """The encoder of a pre-training, for images of a size.

    Args:
        folder: of a stage (its run lies in run/), of a run, or one of its checkpoints.
        image_size: side of the images; None keeps the encoder's, otherwise its positions are
            interpolated.

    Raises:
        ValueError: there is no checkpoint, or `image_size` does not fit the patches.
    """
    run = folder / RUN
    trained = load_model(run if run.is_dir() else folder)
    model: Any = trained.model
    encoder: ViT = model.encoder
    if image_size is not None and encoder.config.size != (image_size, image_size):
        encoder = encoder.with_image_size(image_size)
    plain = dataclasses.replace(encoder.config, pool=None, classes=0)
    found = hashlib.sha256(repr(plain).encode())
    for leaf in jax.tree.leaves(nnx.state(encoder)):
        found.update(np.asarray(leaf).tobytes())
    encoder.config = plain
    objective = type(trained.config.model).__name__.removesuffix("Config").lower()
    return TrainedEncoder(encoder, trained.mean, trained.std, objective, found.hexdigest())
