"""A folder of images of mixed sizes, and files of weights of small random encoders."""

from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from pretrain_jax.models.dinov2 import DINOv2, DINOv2Config
from pretrain_jax.models.dinov2.params import dinov2_table
from pretrain_jax.weights import write_safetensors
from pretrain_jax.weights.mapping import export_state

SIZES = ((40, 60), (56, 28), (31, 31), (33, 90))
COUNT = 22
CONFIG = DINOv2Config(image_size=28, patch_size=14, width=64, depth=2, heads=1, mlp_ratio=2.0)


def write_images(folder: Path, count: int = COUNT) -> list[str]:
    """Smooth random pictures in two folders; returns their names in sorted order."""
    rng = np.random.default_rng(0)
    names = []
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3)).astype(np.uint8))
        name = f"{'even' if number % 2 == 0 else 'odd'}/{number:02d}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / name)
        names.append(name)
    return sorted(names)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded") / "images"
    write_images(folder)
    return folder


def write_encoder(path: Path, scale: float = 1.0) -> DINOv2:
    """Write a DINOv2 of random weights; `scale` is that of the last norm."""
    model = DINOv2(CONFIG, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(1)
    drawn = [
        (where, variable.replace(0.3 * rng.standard_normal(variable.shape).astype(np.float32)))
        for where, variable in nnx.to_flat_state(nnx.state(model))
    ]
    nnx.update(model, nnx.from_flat_state(drawn))
    model.norm.scale[...] = np.full(CONFIG.width, scale, np.float32)
    write_safetensors(path, export_state(model, dinov2_table(CONFIG)))
    return model


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    write_encoder(path)
    return path
