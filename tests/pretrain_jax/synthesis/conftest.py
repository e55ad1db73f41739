"""A set of small images of mixed sizes, and a masked autoencoder that was never trained."""

from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from pretrain_jax import TrainConfig, TrainedModel
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.synthesis import (
    ProbeModel,
    RandomCrop,
    index_images,
    propose,
    score,
)

SIZES = ((32, 32), (32, 32), (40, 24), (24, 48), (33, 47))
COUNT = 20


def write_images(folder: Path, count: int = COUNT) -> Path:
    """Smooth images with a rectangle, of sizes that take turns, in two subfolders."""
    rng = np.random.default_rng(0)
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        coarse = rng.integers(0, 120, (5, 5, 3)).astype(np.uint8)
        pixels = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        top, left = rng.integers(2, height // 2), rng.integers(2, width // 2)
        pixels[top : top + 8, left : left + 9] = rng.integers(150, 255, 3)
        path = folder / ("first" if number % 3 else "second") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("synthesis-images"))


@pytest.fixture(scope="session")
def index(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthesis") / "index"
    index_images(image_folder, folder)
    return folder


@pytest.fixture(scope="session")
def crops(index: Path) -> Path:
    """Proposals of random crops."""
    folder = index.parent / "proposals" / "random-crop"
    propose(index, folder, proposer=RandomCrop(crops=7, least_side=8))
    return folder


@pytest.fixture(scope="session")
def trained() -> TrainedModel:
    """A small masked autoencoder with random weights of order one."""
    config = TrainConfig(
        model=MAEConfig(ViTConfig(image_size=16, patch_size=4, width=8, depth=1, heads=2), 8, 1, 2)
    )
    model = nnx.eval_shape(lambda: MAE(config.model, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    drawn = [
        (path, variable.replace(rng.normal(size=variable.shape).astype(np.float32)))
        for path, variable in nnx.to_flat_state(nnx.state(model))
    ]
    nnx.update(model, nnx.from_flat_state(drawn))
    return TrainedModel(model, config, (0.4, 0.3, 0.2), (0.2, 0.25, 0.3), 1)


@pytest.fixture(scope="session")
def probe(trained: TrainedModel) -> ProbeModel:
    return ProbeModel(trained, "of random weights", Path("probe"))


@pytest.fixture(scope="session")
def crop_scores(crops: Path, probe: ProbeModel) -> Path:
    folder = crops.parents[1] / "scores" / "random-crop"
    score(crops, probe, folder, masks=3, seed=5, batch_size=16)
    return folder


@pytest.fixture(scope="session")
def image_scores(index: Path, probe: ProbeModel) -> Path:
    folder = index.parent / "scores" / "images"
    score(index, probe, folder, masks=3, seed=5, batch_size=16)
    return folder


@pytest.fixture(autouse=True, scope="module")
def _lightly_compiled(lightly_compiled: None) -> None:
    """Programs are compared with each other here, and compiling them is most of the time."""
