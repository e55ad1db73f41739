"""How good frozen features are: a linear and a k-nearest-neighbour probe."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

__all__ = ["knn_probe", "linear_probe"]

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

NEIGHBOURS = 20
TEMPERATURE = 0.07
CHUNK = 1024
ITERATIONS = 100


def linear_probe(
    features: Floats,
    labels: Integers,
    test_features: Floats,
    test_labels: Integers,
    *,
    penalty: float = 1e-3,
) -> float:
    """Test accuracy of the multinomial logistic regression on standardised features.

    Minimises mean cross entropy + penalty / 2 |W|^2 (no penalty on the offset) by L-BFGS.

    Args:
        features: (n, d), of the training images.
        labels: (n,) non-negative integers.
        test_features: (m, d).
        test_labels: (m,).
        penalty: of the squared weights.

    Returns:
        Share of test images classified correctly.
    """
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-12
    inputs = jnp.asarray((features - mean) / std, jnp.float32)
    classes = int(max(labels.max(), test_labels.max())) + 1
    weights = jnp.zeros((features.shape[1], classes)), jnp.zeros(classes)
    targets = jnp.asarray(labels)

    def loss(weights: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = inputs @ weights[0] + weights[1]
        entropy = optax.losses.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
        return entropy + penalty / 2 * jnp.sum(weights[0] ** 2)

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def iterate(carry: tuple, _: None) -> tuple[tuple, None]:
        weights, state = carry
        value, gradient = value_and_grad(weights, state=state)
        updates, state = solver.update(
            gradient, state, weights, value=value, grad=gradient, value_fn=loss
        )
        return (optax.apply_updates(weights, updates), state), None

    start = (weights, solver.init(weights))
    (weights, _), _ = jax.jit(lambda carry: jax.lax.scan(iterate, carry, None, ITERATIONS))(start)
    logits = (test_features - mean) / std @ np.asarray(weights[0]) + np.asarray(weights[1])
    return float(np.mean(np.argmax(logits, axis=1) == test_labels))


def knn_probe(
    features: Floats,
    labels: Integers,
    test_features: Floats,
    test_labels: Integers,
    *,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> float:
    """Test accuracy of the weighted vote of the nearest neighbours by cosine similarity.

    A neighbour with similarity s votes with weight exp(s / temperature) (arXiv:1805.01978).

    Args:
        features: (n, d), of the training images.
        labels: (n,) non-negative integers.
        test_features: (m, d).
        test_labels: (m,).
        neighbours: number of voters, at most n are used.
        temperature: of the votes.

    Returns:
        Share of test images classified correctly.
    """
    known, asked = _unit(features), _unit(test_features)
    classes = int(max(labels.max(), test_labels.max())) + 1
    count = min(neighbours, len(known))
    correct = 0
    for start in range(0, len(asked), CHUNK):
        similarity = asked[start : start + CHUNK] @ known.T
        nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        weights = np.exp((np.take_along_axis(similarity, nearest, axis=1) - 1) / temperature)
        votes = np.zeros((len(similarity), classes))
        np.add.at(votes, (np.arange(len(votes))[:, None], labels[nearest]), weights)
        correct += int(np.sum(np.argmax(votes, axis=1) == test_labels[start : start + CHUNK]))
    return correct / len(asked) if len(asked) else math.nan


def _unit(features: Floats) -> Floats:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(lengths, 1e-12)
