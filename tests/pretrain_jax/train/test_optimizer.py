"""Schedule and AdamW against torch-free references written out by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pretrain_jax import OptimizerOptions
from pretrain_jax.train.step import make_optimizer, peak_learning_rate, schedule


def test_linear_scaling_of_the_base_rate() -> None:
    based = OptimizerOptions(learning_rate=None, base_learning_rate=1.5e-4)
    assert peak_learning_rate(based, 4096) == pytest.approx(2.4e-3)  # arXiv:2111.06377, table 8
    assert peak_learning_rate(OptimizerOptions(learning_rate=1e-3), 4096) == 1e-3


def test_warmup_then_half_a_cosine() -> None:
    options = OptimizerOptions(learning_rate=2.0, warmup_share=0.1, final_share=0.25)
    rate = schedule(options, steps=100, batch_size=1)
    found = [float(rate(step)) for step in range(100)]
    expected = [2.0 * (step + 1) / 10 for step in range(10)]
    expected += [
        0.5 + 1.5 * (1 + math.cos(math.pi * (step - 10) / 90)) / 2 for step in range(10, 100)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.999])
def test_short_runs_have_finite_rates(warmup: float) -> None:
    options = OptimizerOptions(learning_rate=1.0, warmup_share=warmup)
    for steps in (1, 2, 3, 11):
        rate = schedule(options, steps, 1)
        found = [float(rate(step)) for step in range(steps)]
        assert all(0 < each <= 1 for each in found), (steps, found)


def test_adamw_by_hand_with_decay_on_matrices_only() -> None:
    """Three steps of decoupled AdamW (arXiv:1711.05101) in NumPy."""
    options = OptimizerOptions(learning_rate=0.1, weight_decay=0.5, warmup_share=0.0, clip_norm=0.7)
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}
    gradients = [{k: rng.normal(size=v.shape) for k, v in params.items()} for _ in range(3)]
    optimizer = make_optimizer(options, 3, 1)
    ours = jax.tree.map(jnp.float32, params)
    state = optimizer.init(ours)
    first = {k: np.zeros_like(v) for k, v in params.items()}
    second = {k: np.zeros_like(v) for k, v in params.items()}
    for step, gradient in enumerate(gradients):
        updates, state = optimizer.update(jax.tree.map(jnp.float32, gradient), state, ours)
        ours = jax.tree.map(jnp.add, ours, updates)
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradient.values()))
        rate = 0.1 * (1 + math.cos(math.pi * step / 3)) / 2
        for name, value in params.items():
            g = gradient[name] * min(1.0, 0.7 / norm)
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.95 * second[name] + 0.05 * g**2
            m, v = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.95 ** (step + 1))
            decay = 0.5 * value if name == "kernel" else 0.0
            params[name] = value - rate * (m / (np.sqrt(v) + 1e-8) + decay)
    for name, value in params.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5)
