"""A pipeline that takes seconds: 24 images of 24 pixels, a model of 8, one block."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain_jax import DataOptions, OptimizerOptions, TrainConfig
from pretrain_jax.models.mae import MAEConfig
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.pipeline import PIPELINES, PipelineConfig, Trials

ENCODER = ViTConfig(image_size=8, patch_size=2, width=8, depth=1, heads=2)
TRAIN = TrainConfig(
    model=MAEConfig(ENCODER, 8, 1, 2),
    data=DataOptions(workers=0, validation_images=8),
    optimizer=OptimizerOptions(learning_rate=1e-2),
    batch_size=4,
    epochs=1.0,
    log_every=1,
    checkpoint_every=2,
    validate_every=0,
)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline-images")
    rng = np.random.default_rng(0)
    for number in range(24):
        pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        pixels[:, :, 1] //= 1 + number % 4
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture
def train_config() -> TrainConfig:
    """With fixed statistics, so that all runs share one program."""
    data = dataclasses.replace(TRAIN.data, mean=(0.4, 0.4, 0.4), std=(0.3, 0.3, 0.3))
    return dataclasses.replace(TRAIN, data=data)


@pytest.fixture
def config(image_folder: Path, tmp_path: Path) -> PipelineConfig:
    """Pre-training only, one method besides the full set."""
    return PipelineConfig(
        mae=Trials(TRAIN, methods=("all", "optidel-s"), ratios=(0.5,), seeds=(0,)),
        simclr=PIPELINES["optidel_reference"].simclr,
        data=str(image_folder),
        out=str(tmp_path / "out"),
    )
