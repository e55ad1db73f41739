"""Masked autoencoders without torch: masks, loss, reconstruction, sizes, modes of NNX."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pretrain_jax.models.mae import (
    MAE,
    MAE_PRESETS,
    MAEConfig,
    MAEOutput,
    masking_noise,
    standardise_patches,
)
from pretrain_jax.models.vit import ViTConfig, patchify, unpatchify

ENCODER = ViTConfig(image_size=12, patch_size=4, channels=2, width=8, depth=1, heads=2)
CONFIG = MAEConfig(ENCODER, decoder_width=12, decoder_depth=1, decoder_heads=3, mask_ratio=0.6)
IMAGES = np.random.default_rng(0).normal(size=(3, 12, 12, 2)).astype(np.float32)
NOISE = np.random.default_rng(1).random((3, 9)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> MAE:
    return nnx.jit(lambda: MAE(CONFIG, rngs=nnx.Rngs(0)))()


@pytest.fixture(scope="module")
def output(model: MAE) -> MAEOutput:
    return nnx.jit(MAE.__call__)(model, IMAGES, NOISE)


def test_the_patches_of_largest_noise_are_hidden(output: MAEOutput) -> None:
    """int(9 * 0.4) = 3 patches stay; the mask is in the order of the grid."""
    ranks = np.argsort(np.argsort(NOISE, axis=1), axis=1)
    np.testing.assert_array_equal(output.mask, ranks >= 3)
    np.testing.assert_array_equal(output.ids_restore, ranks)


def test_loss_is_the_error_of_the_hidden_patches(output: MAEOutput) -> None:
    """Recomputed in NumPy from prediction and mask, the target standardised with ddof = 1."""
    patches = np.asarray(patchify(IMAGES, 4), np.float64)
    variance = patches.var(-1, ddof=1, keepdims=True)
    target = (patches - patches.mean(-1, keepdims=True)) / np.sqrt(variance + 1e-6)
    np.testing.assert_allclose(
        standardise_patches(jnp.asarray(patches)), target, rtol=1e-5, atol=1e-5
    )
    error = ((np.asarray(output.prediction) - target) ** 2).mean(-1)
    mask = np.asarray(output.mask)
    expected = (error * mask).sum(1) / mask.sum(1)
    np.testing.assert_allclose(output.per_example_loss, expected, rtol=1e-5)
    np.testing.assert_allclose(output.loss, (error * mask).sum() / mask.sum(), rtol=1e-5)


def test_hidden_pixels_do_not_reach_the_prediction(model: MAE, output: MAEOutput) -> None:
    """Other pixels under the mask: the same prediction, another loss."""
    hidden = np.asarray(output.mask)[:, :, None]
    patches = np.asarray(patchify(IMAGES, 4))
    other = unpatchify(jnp.asarray(np.where(hidden > 0, patches[::-1] + 1, patches)), 4, (3, 3))
    again = nnx.jit(MAE.__call__)(model, other, NOISE)
    np.testing.assert_array_equal(again.prediction, output.prediction)
    assert not np.allclose(again.per_example_loss, output.per_example_loss, rtol=1e-2)


def test_reconstruction_keeps_what_is_visible(model: MAE, output: MAEOutput) -> None:
    """Visible patches as given; hidden ones have the true mean and deviation times prediction."""
    shown = np.asarray(patchify(nnx.jit(MAE.reconstruct)(model, IMAGES, NOISE), 4))
    patches, mask = np.asarray(patchify(IMAGES, 4)), np.asarray(output.mask) > 0
    np.testing.assert_array_equal(shown[~mask], patches[~mask])
    deviation = np.sqrt(patches.var(-1, ddof=1, keepdims=True) + 1e-6)
    expected = np.asarray(output.prediction) * deviation + patches.mean(-1, keepdims=True)
    np.testing.assert_allclose(shown[mask], expected[mask], rtol=1e-4, atol=1e-5)


def test_noise_depends_on_key_and_example_alone() -> None:
    key = jax.random.key(5)
    noise = masking_noise(key, jnp.arange(6), 9)
    np.testing.assert_array_equal(
        masking_noise(key, jnp.array([4, 1]), 9), noise[jnp.array([4, 1])]
    )
    assert len(np.unique(np.asarray(noise))) == noise.size
    assert not np.allclose(noise, masking_noise(jax.random.key(6), jnp.arange(6), 9))


def test_graph_and_tree_mode_agree(model: MAE, output: MAEOutput) -> None:
    tree = nnx.jit(lambda model, *inputs: model(*inputs), graph=False)(model, IMAGES, NOISE)
    for ours, expected in zip(tree, output, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_remat_gives_the_same_gradient(model: MAE) -> None:
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    encoder = dataclasses.replace(ENCODER, remat=True)
    config = dataclasses.replace(CONFIG, encoder=encoder)
    thrifty = nnx.split(nnx.eval_shape(lambda: MAE(config, rngs=nnx.Rngs(0))), nnx.Param, ...)[0]

    def gradient(graph: nnx.GraphDef) -> nnx.State:
        return jax.jit(jax.grad(lambda p: nnx.merge(graph, p, rest)(IMAGES, NOISE).loss))(params)

    ours, expected = (jax.tree.leaves(gradient(g)) for g in (thrifty, graph))
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_bfloat16_follows_float32(model: MAE, output: MAEOutput) -> None:
    """Products in bfloat16 with float32 parameters: errors of its 8 bits, loss in float32."""
    encoder = dataclasses.replace(ENCODER, dtype="bfloat16")
    config = dataclasses.replace(CONFIG, encoder=encoder)
    graph, _ = nnx.split(nnx.eval_shape(lambda: MAE(config, rngs=nnx.Rngs(0))))
    half = jax.jit(lambda state: nnx.merge(graph, state)(IMAGES, NOISE))(nnx.state(model))
    assert half.loss.dtype == jnp.float32
    assert half.prediction.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.loss, output.loss, rtol=0.02)


def test_another_image_size(model: MAE) -> None:
    """Blocks stay, both tables of positions are resized; rectangles work."""
    larger = model.with_image_size((16, 24))
    assert larger.encoder.positions.shape == (1 + 24, 8)
    assert larger.decoder_positions.shape == (1 + 24, 12)
    np.testing.assert_array_equal(larger.encoder.embed.kernel[...], model.encoder.embed.kernel[...])
    images, noise = jnp.ones((1, 16, 24, 2)), jnp.linspace(0, 1, 24)[None]
    assert nnx.jit(MAE.__call__)(larger, images, noise).prediction.shape == (1, 24, 32)


def test_images_of_another_shape_are_refused(model: MAE) -> None:
    with pytest.raises(ValueError, match=r"\(3, 12, 12, 1\), the model takes .* 12, 12, 2\)"):
        model(IMAGES[..., :1], NOISE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask_ratio": 1.0}, "mask_ratio = 1"),
        ({"mask_ratio": 0.99}, "leaves 0 of 9"),
        ({"decoder_width": 14}, "decoder_width = 14"),
        ({"decoder_depth": 0}, "decoder_depth = 0"),
        ({"encoder": ViTConfig(pool="cls")}, "pool = None"),
    ],
)
def test_bad_configurations(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **fields)


def test_presets() -> None:
    """Parameters of the paper's ViT-B: 111.66 million with decoder, positions apart."""
    model = nnx.eval_shape(lambda: MAE(MAE_PRESETS["mae_vit_base"], rngs=nnx.Rngs(0)))
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    # The 111,907,840 of the official code include 197 * (768 + 512) values of fixed positions.
    assert count == 111_907_840 - 197 * (768 + 512)
    tiny = MAE_PRESETS["mae_vit_tiny"]
    encoder = dataclasses.replace(tiny.encoder, image_size=32, patch_size=8)
    small = dataclasses.replace(tiny, encoder=encoder, mask_ratio=0.5)
    assert (small.encoder.grid, small.visible, small.encoder.width) == ((4, 4), 8, 192)
