"""V-information of a set against sums in NumPy, image by image."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from pretrain_jax import PRESETS
from pretrain_jax.models.mae import MAE, MAEConfig, masking_noise
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.report import Halves, set_information
from pretrain_jax.train.weights import TrainedModel

IMAGES, SIDE, PATCH, MASKS = 5, 16, 4, 3
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def trained(normalised: bool, seed: int = 0) -> TrainedModel:
    encoder = ViTConfig(image_size=SIDE, patch_size=PATCH, width=16, depth=1, heads=2)
    config = MAEConfig(encoder, 16, 1, 2, norm_pixel_loss=normalised)
    return TrainedModel(MAE(config, rngs=nnx.Rngs(seed)), PRESETS["demo"], MEAN, STD, step=1)


output = nnx.jit(lambda model, batch, noise: model(batch, noise))  # eager calls are slow


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images of the model's size, whose pixels therefore stay as they are."""
    rng = np.random.default_rng(3)
    for number in range(IMAGES):
        base = rng.integers(40, 200) + rng.integers(-30, 30, (SIDE, SIDE, 3))
        Image.fromarray(base.astype(np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path


def patches_of(images: Path, normalised: bool) -> np.ndarray:
    """Targets, shape (images, patches, values), cut out one by one."""
    found = []
    for number in range(IMAGES):
        shown = (np.asarray(Image.open(images / f"{number}.png")) / 255 - MEAN) / STD
        for top in range(0, SIDE, PATCH):
            for left in range(0, SIDE, PATCH):
                patch = shown[top : top + PATCH, left : left + PATCH].ravel()
                if normalised:
                    patch = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
                found.append(patch)
    return np.array(found).reshape(IMAGES, -1, PATCH * PATCH * 3)


@pytest.mark.parametrize("normalised", [False, True])
def test_against_sums_by_hand(images: Path, normalised: bool) -> None:
    """Half the loss of the model, and half the squares around the mean of the other images."""
    model = trained(normalised)
    found = set_information(model, images, sample=10, masks=MASKS, seed=7)
    targets = patches_of(images, normalised)
    pixels = [np.asarray(Image.open(images / f"{k}.png")) for k in range(IMAGES)]
    batch = jnp.asarray((np.stack(pixels) / 255 - MEAN) / STD, jnp.float32)
    given, empty = np.zeros(IMAGES), np.zeros(IMAGES)
    for key in jax.random.split(jax.random.key(7), MASKS):
        out = output(model.model, batch, masking_noise(key, jnp.arange(IMAGES), 16))
        given += np.asarray(out.per_example_loss) / MASKS
        for k in range(IMAGES):
            others = np.delete(targets, k, axis=0).mean(axis=0)
            hidden = np.asarray(out.mask[k]) > 0
            empty[k] += ((targets[k] - others)[hidden] ** 2).sum() / MASKS
    size = 12 * 48  # 75 % of 16 patches, 4 x 4 x 3 values each
    assert (found.images, found.size) == (IMAGES, size)
    constant = size * np.log(2 * np.pi) / 2
    estimate = found.estimate
    # Single precision of the model: 1e-6 of the sums.
    np.testing.assert_allclose(
        estimate.conditional_entropy, constant + size * given.mean() / 2, rtol=1e-5
    )
    np.testing.assert_allclose(estimate.empty_entropy, constant + empty.mean() / 2, rtol=1e-5)
    pointwise = (empty - size * given) / 2
    np.testing.assert_allclose(estimate.information, pointwise.mean(), rtol=1e-4, atol=1e-2)
    # Masks of one image are one independent unit.
    assert estimate.independent == IMAGES
    np.testing.assert_allclose(
        estimate.information_stderr, pointwise.std(ddof=1) / np.sqrt(IMAGES), rtol=1e-3
    )


def test_each_patch_is_predicted_by_the_half_that_does_not_know_it(images: Path) -> None:
    """Four cells an image, whose sources are drawn from both halves; sums patch by patch."""
    models = (trained(False), trained(False, seed=1))
    drawn = np.random.default_rng(5).integers(0, 2, (IMAGES, 4)).astype(np.int8)
    found = set_information(Halves(models, lambda rows: drawn[rows]), images, masks=1, seed=7)
    targets = patches_of(images, normalised=False)
    pixels = [np.asarray(Image.open(images / f"{k}.png")) for k in range(IMAGES)]
    batch = jnp.asarray((np.stack(pixels) / 255 - MEAN) / STD, jnp.float32)
    (key,) = jax.random.split(jax.random.key(7), 1)
    noise = masking_noise(key, jnp.arange(IMAGES), 16)
    outputs = [output(one.model, batch, noise) for one in models]
    given = np.zeros(IMAGES)
    for k in range(IMAGES):
        for patch in range(16):
            row, column = divmod(patch, 4)
            half = drawn[k, 2 * (row // 2) + column // 2]
            told = outputs[1 - half]
            if told.mask[k, patch] > 0:
                given[k] += np.sum((np.asarray(told.prediction[k, patch]) - targets[k, patch]) ** 2)
    expected = found.size * np.log(2 * np.pi) / 2 + given.mean() / 2
    # Single precision of the model: 1e-6 of the sums.
    np.testing.assert_allclose(found.estimate.conditional_entropy, expected, rtol=1e-5)
    thirds = Halves(models, lambda rows: np.zeros((len(rows), 9), np.int8))
    with pytest.raises(ValueError, match="3 x 3 cells cut through the patches of a grid of 4 x 4"):
        set_information(thirds, images)


def test_sample_is_spread_over_the_set(images: Path) -> None:
    """Two of five images: the first and the last."""
    (images / "list.txt").write_text("0.png\n4.png\n")
    model = trained(False)
    few = set_information(model, images, sample=2, masks=1)
    listed = set_information(model, images / "list.txt", masks=1)
    assert few.images == 2
    assert float(few.estimate.information) == float(listed.estimate.information)


def test_refused(images: Path, tmp_path: Path) -> None:
    (images / "one.txt").write_text("0.png\n")
    with pytest.raises(ValueError, match="holds 1 image; a standard error needs two"):
        set_information(trained(False), images / "one.txt")
    with pytest.raises(ValueError, match="masks = 0 is outside"):
        set_information(trained(False), images, masks=0)
    model = TrainedModel(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), PRESETS["demo"], MEAN, STD, step=1)
    with pytest.raises(ValueError, match="needs a masked autoencoder"):
        set_information(model, images)
