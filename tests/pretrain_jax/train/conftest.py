"""A run that takes seconds: 8 x 8 pixel images, patches of 2, one block."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain_jax import DataOptions, OptimizerOptions, TrainConfig
from pretrain_jax.models.mae import MAEConfig
from pretrain_jax.models.vit import ViTConfig

MODEL = MAEConfig(ViTConfig(image_size=8, patch_size=2, width=8, depth=1, heads=2), 8, 1, 2)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images of two classes: stripes along rows or along columns, on noise."""
    folder = tmp_path_factory.mktemp("train-images")
    rng = np.random.default_rng(0)
    for number in range(24):
        stripes = 120 * (np.arange(8) // 2 % 2)
        pixels = rng.integers(0, 120, (8, 8, 3)) + stripes[:, None, None]
        if number % 2:
            pixels = pixels.transpose(1, 0, 2)
        target = folder / ("columns" if number % 2 else "rows") / f"{number:02d}.png"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(target)
    return folder


@pytest.fixture
def config(image_folder: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        model=MODEL,
        data=DataOptions(path=str(image_folder), validation_share=0.25, workers=0),
        optimizer=OptimizerOptions(learning_rate=1e-2, clip_norm=1.0, ema_decay=0.9),
        out=str(tmp_path / "run"),
        batch_size=8,
        steps=10,
        log_every=1,
        checkpoint_every=3,
        keep_checkpoints=2,
        validate_every=0,
    )
