"""GradMatch against SciPy's NNLS and enumeration; GLISTER against JAX's gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from selection import Pool
from selection.methods.gradients import (
    Glister,
    GradMatch,
    LastLayer,
    greedy_validation,
    matching_pursuit,
)
from selection.selector import generator

RNG = np.random.default_rng(0)


def best_weights(rows: np.ndarray, target: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Non-negative ridge weights and their objective, by SciPy."""
    system = np.vstack([rows.T, np.sqrt(penalty) * np.eye(len(rows))])
    weights, error = nnls(system, np.concatenate([target, np.zeros(len(rows))]))
    return weights, float(error**2)


@pytest.mark.parametrize("penalty", [0.0, 0.5])
@pytest.mark.parametrize("shape", [(40, 10), (15, 30), (120, 20)])
def test_run_to_the_end_it_solves_nnls(shape: tuple[int, int], penalty: float) -> None:
    rows = RNG.standard_normal(shape) + 0.2
    target = rows.sum(0)
    picks, weights, error = matching_pursuit(rows, target, len(rows), penalty, 0.0)
    value = error**2 + penalty * weights @ weights
    expected, best = best_weights(rows, target, penalty)
    # Both solve normal equations; the target's square is the scale.
    assert np.isclose(value, best, rtol=1e-10, atol=1e-14 * target @ target)
    if penalty or shape[1] > shape[0]:  # otherwise the optimum is not unique
        found = np.zeros(len(rows))
        found[picks] = weights
        assert np.allclose(found, expected, rtol=0, atol=1e-10)


def test_weights_are_optimal_for_the_picks_and_never_beat_enumeration() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((9, 4)) + 0.3
        target = rows.sum(0)
        picks, weights, error = matching_pursuit(rows, target, 3, 0.5, 0.0)
        expected, value = best_weights(rows[picks], target, 0.5)
        assert np.allclose(weights, expected, rtol=0, atol=1e-12)
        assert np.isclose(error**2 + 0.5 * weights @ weights, value, rtol=1e-12)
        best = min(
            best_weights(rows[list(s)], target, 0.5)[1] for s in itertools.combinations(range(9), 3)
        )
        nothing = target @ target
        # Each pick lowers the objective; enumeration is never worse than greedy.
        assert best - 1e-12 <= value < nothing
        first = matching_pursuit(rows, target, 1, 0.5, 0.0)[0]
        assert first[0] == np.argmax(rows @ target)


def test_the_pursuit_stops_where_nothing_helps_and_says_so() -> None:
    # Three directions match the sum exactly; a published implementation fills up at random.
    rows = np.repeat(np.eye(3), 5, axis=0)
    pool = Pool.of(gradients=rows)
    found = GradMatch(penalty=0.0).select(pool, 10)
    assert found.achieved == 3 and found.requested == 10
    assert found.diagnostics["filled"] == 0
    assert np.allclose(found.weights, 5)
    whole = GradMatch(penalty=0.0, exact=True).select(pool, 10)
    assert whole.achieved == 10 and whole.diagnostics["filled"] == 7
    assert np.allclose(whole.weights[3:], 0)
    assert len(np.unique(whole.indices)) == 10


def test_classes_are_matched_one_by_one() -> None:
    labels = np.repeat([1, 0], [30, 20])
    gradients = RNG.standard_normal((50, 5)) + 0.5
    found = GradMatch(per_class=True).select(Pool.of(gradients=gradients, labels=labels), 10)
    for number, one in enumerate((1, 0)):
        inside = labels[found.indices] == one
        own = found.weights[inside] @ gradients[found.indices[inside]]
        error = np.linalg.norm(own - gradients[labels == one].sum(0))
        assert np.isclose(found.diagnostics["gradient_error"][number], error, rtol=1e-9)
        assert inside.sum() == (6 if one else 4)


def test_glister_follows_the_validation_gradient() -> None:
    # The gradient is taken again after each pick; a published implementation never updates it.
    n, v, d, classes, eta = 12, 7, 4, 3, 0.5
    features, outside = RNG.standard_normal((n, d)), RNG.standard_normal((v, d))
    labels, targets = RNG.integers(classes, size=n), RNG.integers(classes, size=v)
    layer = LastLayer(RNG.standard_normal((classes, d)), RNG.standard_normal(classes))

    def loss(weights: jax.Array, rows: jax.Array, wanted: jax.Array) -> jax.Array:
        """Mean cross entropy of a last layer with its bias as the last column."""
        logits = jnp.append(rows, jnp.ones((len(rows), 1)), axis=1) @ weights.T
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(wanted)), wanted])

    with jax.enable_x64(True):
        theta = np.column_stack([layer.weights, layer.bias])
        slope_of = jax.jit(jax.grad(loss))
        own = [
            np.asarray(slope_of(jnp.asarray(theta), features[[i]], labels[[i]])) for i in range(n)
        ]
        picks, gains = greedy_validation(
            features,
            layer.errors(features, labels),
            outside,
            targets,
            layer.logits(outside),
            6,
            eta,
            None,
        )
        current, free = theta, np.ones(n, dtype=bool)
        for pick, gain in zip(picks, gains, strict=True):
            slope = np.asarray(slope_of(jnp.asarray(current), outside, targets))
            products = np.array([np.sum(slope * one) for one in own])
            assert pick == np.argmax(np.where(free, products, -np.inf))
            assert np.isclose(gain, products[pick], rtol=1e-10)
            free[pick] = False
            current = current - eta * own[pick]


def test_glister_draws_a_validation_set_from_the_pool() -> None:
    labels = RNG.integers(3, size=120)
    pool = Pool.of(features=RNG.standard_normal((120, 4)), labels=labels)
    found = Glister(validation_size=30, stochastic=False).select(pool, 8, seed=5)
    # The drawn examples, handed over as a validation set. At zero weights every error is 1/3 less
    # the class, so the order of the classes has no part in the picks.
    rows = np.sort(generator(5, 1).choice(120, 30, replace=False))
    assert pool.features is not None
    outside = {"validation": pool.features[rows].astype(float), "targets": labels[rows]}
    given = Glister(**outside, stochastic=False).select(pool, 8, seed=5)
    assert np.array_equal(found.indices, given.indices)
    everything = Glister(stochastic=False).select(pool, 8, seed=5)
    whole = Glister(validation_size=120, stochastic=False).select(pool, 8, seed=5)
    assert np.array_equal(everything.indices, whole.indices)


def test_glister_avoids_wrong_labels() -> None:
    labels = RNG.integers(3, size=300)
    features = RNG.standard_normal((300, 5)) + 2 * np.eye(5)[labels]
    noisy = np.where(np.arange(300) < 90, (labels + 1) % 3, labels)
    pool = Pool.of(features=features[:200], labels=noisy[:200])
    outside = {"validation": features[200:], "targets": labels[200:]}
    # 45% of the pool is mislabelled: random picks would be 9 of 20, standard error 2.2.
    first = Glister(**outside, stochastic=False).select(pool, 20)
    assert np.sum(first.indices < 90) <= 2
    method = Glister(**outside)
    found = method.select(pool, 60, seed=1)
    assert len(np.unique(found.indices)) == 60
    again = method.select(pool, 60, seed=1)
    assert np.array_equal(found.indices, again.indices)
    assert not np.array_equal(found.indices, method.select(pool, 60, seed=2).indices)
    with pytest.raises(ValueError, match="give both or neither"):
        Glister(validation=features)
    with pytest.raises(ValueError, match="exclude each other"):
        Glister(**outside, validation_size=10)
    with pytest.raises(ValueError, match=r"validation_size = 201 is outside \[1, 200\]"):
        Glister(validation_size=201).select(pool, 5)
    with pytest.raises(ValueError, match="the last layer knows classes 0 to 1"):
        Glister(layer=LastLayer(np.zeros((2, 5)), np.zeros(2))).select(pool, 5)
