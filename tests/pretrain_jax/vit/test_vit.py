"""Vision transformers without torch: positions, pooling, hand-written derivatives."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from pretrain_jax.models.vit import (
    VIT_PRESETS,
    ViT,
    ViTConfig,
    patchify,
    resize_positions,
    sincos_positions,
    unpatchify,
)
from pretrain_jax.models.vit.modeling import affine, gelu

SMALL = ViTConfig(image_size=(8, 12), patch_size=4, channels=1, width=8, depth=3, heads=2)
IMAGES = np.random.default_rng(0).normal(size=(2, 8, 12, 1)).astype(np.float32)


def test_sincos_positions_entry_by_entry() -> None:
    """The official MAE code: the first half of a vector encodes the column, the second the row."""
    table = sincos_positions((2, 3), 12, class_token=True)
    assert table.shape == (7, 12)
    assert not table[0].any()
    for row in range(2):
        for column in range(3):
            for k in range(3):
                omega = 10000 ** (-k / 3)
                waves = [f(p * omega) for p in (column, row) for f in (math.sin, math.cos)]
                np.testing.assert_allclose(table[1 + 3 * row + column, k::3], waves, atol=1e-15)


def test_resized_positions_reproduce_cubics_inside() -> None:
    """a = -3/4 interpolates exactly at the nodes and keeps constants; edges repeat."""
    table = np.random.default_rng(0).normal(size=(1 + 12, 4))
    np.testing.assert_array_equal(resize_positions(table, (3, 4), (3, 4)), table)
    tripled = resize_positions(table, (3, 4), (9, 12))[1:].reshape(9, 12, 4)
    # Every third new sample lies on an old one.
    np.testing.assert_allclose(tripled[1::3, 1::3], table[1:].reshape(3, 4, 4), atol=1e-13)
    ones = resize_positions(np.ones((12, 2), np.float32), (3, 4), (5, 7))
    np.testing.assert_allclose(ones, 1, rtol=1e-6)
    assert ones.dtype == np.float32


def test_patches_go_row_by_row_and_back() -> None:
    patches = patchify(IMAGES, 4)
    np.testing.assert_array_equal(patches[1, 4], IMAGES[1, 4:8, 4:8].reshape(-1))
    np.testing.assert_array_equal(unpatchify(patches, 4, (2, 3)), IMAGES)


def test_derivatives_written_by_hand() -> None:
    """Against automatic differentiation of the same formulas, in double precision."""
    rng = np.random.default_rng(1)
    inputs, kernel, bias, slope = (
        rng.normal(size=shape) for shape in ((2, 5, 3), (3, 4), (4,), (2, 5, 4))
    )
    with jax.enable_x64(True):
        arrays = tuple(map(jnp.asarray, (inputs, kernel, bias)))
        _, pull = jax.vjp(affine, *arrays)
        _, expected = jax.vjp(lambda x, w, b: jnp.einsum("abi,io->abo", x, w) + b, *arrays)
        for ours, theirs in zip(pull(slope), expected(slope), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)
        x = jnp.linspace(-6, 6, 101)
        np.testing.assert_allclose(gelu(x), x * scipy.special.ndtr(x), atol=1e-15)
        slopes = jax.vmap(jax.grad(gelu))(x)
        expected_slopes = jax.vmap(jax.grad(lambda x: jax.nn.gelu(x, approximate=False)))(x)
        np.testing.assert_allclose(slopes, expected_slopes, atol=1e-14)


@pytest.mark.parametrize("pool", [None, "cls", "mean"])
def test_pooling(pool: str | None) -> None:
    config = ViTConfig(**(vars(SMALL) | {"pool": pool}))
    model = nnx.jit(lambda: ViT(config, rngs=nnx.Rngs(0)))()

    @nnx.jit
    def run(model: ViT) -> tuple[jax.Array, list[jax.Array]]:
        return model(IMAGES), model.hidden_states(IMAGES, (0, 2))

    output, (early, last) = run(model)
    assert early.shape == last.shape == (2, 7, 8)
    tokens = {None: last, "cls": last[:, 0], "mean": last[:, 1:].mean(1)}[pool]
    tokens = np.asarray(tokens, np.float64)
    centred = tokens - tokens.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_without_class_token_and_with_learned_positions() -> None:
    config = ViTConfig(**(vars(SMALL) | {"class_token": False, "positions": "learned"}))
    model = nnx.eval_shape(lambda: ViT(config, rngs=nnx.Rngs(0)))
    assert nnx.eval_shape(lambda m: m(IMAGES), model).shape == (2, 6, 8)
    assert isinstance(model.positions, nnx.Param)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 10}, "image_size = 10 is not divisible by patch_size = 4"),
        ({"width": 9}, "width = 9 must be divisible"),
        ({"heads": 3}, "heads = 3"),
        ({"pool": "max"}, "pool = 'max' is not one of"),
        ({"pool": "cls", "class_token": False}, "class_token = True"),
        ({"classes": 2}, "classes = 2 needs pool"),
        ({"dtype": "int8"}, "dtype = 'int8'"),
        ({"layer_norm_eps": -1.0}, "layer_norm_eps = -1"),
    ],
)
def test_bad_configurations(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViTConfig(**(vars(SMALL) | fields))


def test_presets() -> None:
    """Parameters of ViT-Ti, S, B and L without head, learned positions (arXiv:2106.10270)."""
    millions = {"vit_tiny": 5.5, "vit_small": 21.7, "vit_base": 85.8, "vit_large": 303.3}
    for name, expected in millions.items():
        config = dataclasses.replace(VIT_PRESETS[name], positions="learned")
        model = nnx.eval_shape(lambda config=config: ViT(config, rngs=nnx.Rngs(0)))
        count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
        assert count == pytest.approx(1e6 * expected, rel=0.005)
    assert set(VIT_PRESETS) == set(millions)
