"""The contrastive loss against loops and a hand-computed case; its gradient in parts."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.simclr import (
    SimCLR,
    SimCLRConfig,
    cached_value_and_grad,
    nt_xent,
    warn_of_few_negatives,
)
from pretrain_jax.models.vit import ViTConfig


def by_loops(first: NDArray, second: NDArray, temperature: float) -> NDArray:
    """Equation 1 of arXiv:2002.05709, term by term."""
    views = [v / np.linalg.norm(v) for v in (*first, *second)]
    count = len(first)

    def loss(i: int, j: int) -> float:
        def similarity(k: int) -> float:
            return math.exp(float(views[i] @ views[k]) / temperature)

        return -math.log(similarity(j) / sum(similarity(k) for k in range(len(views)) if k != i))

    return np.array([(loss(k, k + count) + loss(k + count, k)) / 2 for k in range(count)])


def test_hand_computed() -> None:
    """Two examples, orthogonal, both views alike: each loss is log(e^(1/t) + 2) - 1/t."""
    views = 3.0 * jnp.eye(2)
    for temperature in (0.1, 0.5, 1.0):
        expected = math.log(math.exp(1 / temperature) + 2) - 1 / temperature
        losses = nt_xent(views, views, temperature)
        # Two large numbers are subtracted: 1/t * eps of float32.
        np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=2e-6)


def test_against_loops() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5, 3))
    with jax.enable_x64(True):
        losses = nt_xent(jnp.asarray(first), jnp.asarray(second), 0.2)
    np.testing.assert_allclose(losses, by_loops(first, second, 0.2), rtol=1e-12)


def test_negatives_of_all_devices() -> None:
    """Divided over a mapped axis: the losses and the gradient of the whole batch."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 8, 3)).astype(np.float32)

    def divided(first: jax.Array, second: jax.Array) -> jax.Array:
        one = jax.vmap(lambda a, b: nt_xent(a, b, 0.3, "devices"), axis_name="devices")
        return one(first.reshape(4, 2, 3), second.reshape(4, 2, 3)).reshape(-1)

    whole = nt_xent(jnp.asarray(first), jnp.asarray(second), 0.3)
    np.testing.assert_allclose(divided(first, second), whole, rtol=1e-5)
    ours = jax.grad(lambda a, b: divided(a, b).mean(), argnums=(0, 1))(first, second)
    expected = jax.grad(lambda a, b: nt_xent(a, b, 0.3).mean(), argnums=(0, 1))(first, second)
    # Rounding of float32 in sums of 14 terms.
    np.testing.assert_allclose(np.array(ours), np.array(expected), rtol=1e-4, atol=1e-6)


def test_a_projection_of_zero_has_a_finite_gradient() -> None:
    views = jnp.zeros((3, 4)).at[1].set(1.0)
    gradient = jax.grad(lambda v: nt_xent(v, views, 0.1).sum())(views)
    assert bool(jnp.isfinite(gradient).all())


def test_gradient_caching_is_the_big_batch() -> None:
    """In double precision to 1e-12; sums of the parts' own losses are far from it."""
    rng = np.random.default_rng(2)
    views = rng.normal(size=(8, 2, 6))
    params = {"hidden": rng.normal(size=(6, 5)), "out": rng.normal(size=(5, 4))}

    def embed(params: dict[str, jax.Array], pairs: jax.Array) -> jax.Array:
        return jnp.tanh(pairs @ params["hidden"]) @ params["out"]

    def loss(pairs: jax.Array) -> jax.Array:
        return nt_xent(pairs[:, 0], pairs[:, 1], 0.2).mean()

    with jax.enable_x64(True):
        whole = jax.jit(jax.value_and_grad(lambda p, x: loss(embed(p, x))))
        value, gradient = whole(params, views)
        for parts in (1, 2, 8):
            cached = jax.jit(cached_value_and_grad(embed, loss, parts))(params, views)
            np.testing.assert_allclose(cached[0], value, rtol=1e-12)
            for name, expected in gradient.items():
                np.testing.assert_allclose(cached[1][name], expected, rtol=0, atol=1e-12)
        half = whole(params, views[:4])[1]
    assert np.abs(np.asarray(half["out"] - gradient["out"])).max() > 1e-2


def test_parts_that_do_not_divide_the_batch() -> None:
    run = cached_value_and_grad(lambda p, x: p * x, jnp.sum, 3)
    with pytest.raises(ValueError, match="parts = 3 does not divide the batch of 4"):
        run(jnp.ones(()), jnp.ones((4, 2)))


def test_few_negatives_warn() -> None:
    with pytest.warns(UserWarning, match="batch_size = 16 gives each view 30 negatives"):
        warn_of_few_negatives(16)
    warn_of_few_negatives(256)
    encoder = ViTConfig(8, 4, 1, 8, 1, 1, pool="cls")
    model = nnx.eval_shape(lambda: SimCLR(SimCLRConfig(encoder, 8, 4), rngs=nnx.Rngs(0)))
    views = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    with pytest.warns(UserWarning, match="batch_size = 2 "):
        assert nnx.eval_shape(SimCLR.per_example_loss, model, views, views).shape == (2,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": 0.0}, "temperature = 0"),
        ({"projector_width": 0}, "projector_width = 0"),
        ({"encoder": ViTConfig()}, "pool = 'mean' or 'cls'"),
    ],
)
def test_bad_configurations(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimCLRConfig(**fields)
