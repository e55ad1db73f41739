"""The probe: a network with one hidden layer, many of them trained side by side under vmap."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray

from selection.experiments.tasks import Task
from selection.scoring.recorder import DynamicsRecorder, record_training

__all__ = ["predict_test", "record", "train_subsets"]

BATCH = 64
OPTIMIZER = optax.adam(1e-3)

Parameters = dict[str, jax.Array]
State = tuple[Parameters, Any]


def start(key: jax.Array, inputs: int, hidden: int, classes: int) -> Parameters:
    """Parameters of He's variance, zero biases."""
    first, second = jax.random.split(key)
    return {
        "hidden": jax.random.normal(first, (inputs, hidden)) * np.sqrt(2 / inputs),
        "hidden_bias": jnp.zeros(hidden),
        "output": jax.random.normal(second, (hidden, classes)) * np.sqrt(1 / hidden),
        "output_bias": jnp.zeros(classes),
    }


def apply(parameters: Parameters, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Logits and penultimate features."""
    features = jax.nn.relu(inputs @ parameters["hidden"] + parameters["hidden_bias"])
    return features @ parameters["output"] + parameters["output_bias"], features


def step(state: State, inputs: jax.Array, labels: jax.Array, weights: jax.Array) -> State:
    """One step of Adam on a weighted batch."""

    def loss(parameters: Parameters) -> jax.Array:
        logits, _ = apply(parameters, inputs)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(weights * losses)

    parameters, moments = state
    updates, moments = OPTIMIZER.update(jax.grad(loss)(parameters), moments, parameters)
    return optax.apply_updates(parameters, updates), moments


@partial(jax.jit, static_argnames=("steps", "hidden", "classes"))
def _train(
    key: jax.Array,
    inputs: jax.Array,
    labels: jax.Array,
    rows: jax.Array,
    weights: jax.Array,
    counts: jax.Array,
    steps: int,
    hidden: int,
    classes: int,
) -> Parameters:
    """One network a lane; batches are drawn from the lane's first `counts` rows."""

    def lane(rows: jax.Array, weights: jax.Array, count: jax.Array) -> Parameters:
        first, order = jax.random.split(key)
        parameters = start(first, inputs.shape[1], hidden, classes)

        def advance(state: State, number: jax.Array) -> tuple[State, None]:
            chance = jax.random.uniform(jax.random.fold_in(order, number), (BATCH,))
            place = (chance * count).astype(jnp.int32)
            chosen = rows[place]
            return step(state, inputs[chosen], labels[chosen], weights[place]), None

        state = (parameters, OPTIMIZER.init(parameters))
        return jax.lax.scan(advance, state, jnp.arange(steps))[0][0]

    return jax.vmap(lane)(rows, weights, counts)


def train_subsets(
    task: Task,
    subsets: list[tuple[ArrayLike, ArrayLike]],
    seed: int,
    *,
    steps: int,
    hidden: int,
) -> Parameters:
    """Train one network a subset, all from the same start with the same batch positions.

    Args:
        task: what the subsets are of.
        subsets: pairs (rows, weights); weights are scaled to mean 1.
        seed: of the start and the batches.
        steps: of Adam, of 64 examples, whatever the subset's size.
        hidden: units.

    Returns:
        Parameters with a leading axis of the subsets' length.
    """
    width = len(task.labels)
    rows = np.zeros((len(subsets), width), np.int32)
    weights = np.zeros((len(subsets), width), np.float32)
    for lane, (kept, weight) in enumerate(subsets):
        count = len(np.asarray(kept))
        rows[lane, :count] = kept
        weights[lane, :count] = np.asarray(weight) / np.mean(np.asarray(weight))
    counts = np.array([len(np.asarray(kept)) for kept, _ in subsets], np.float32)
    key = jax.random.key(seed)
    return _train(key, task.inputs, task.labels, rows, weights, counts, steps, hidden, task.classes)


@jax.jit
def _classes(parameters: Parameters, inputs: jax.Array) -> jax.Array:
    return jax.vmap(lambda one: jnp.argmax(apply(one, inputs)[0], axis=1))(parameters)


def predict_test(parameters: Parameters, task: Task) -> NDArray[np.uint8]:
    """Predicted classes of the test set, shape (networks, m)."""
    return np.asarray(_classes(parameters, task.test_inputs)).astype(np.uint8)


def record(task: Task, seeds: list[int], *, epochs: int, hidden: int) -> DynamicsRecorder:
    """Train networks on all examples and record what they say of each after every epoch."""
    count = len(task.labels)
    inputs, labels = jnp.asarray(task.inputs), jnp.asarray(task.labels)

    def begin(seed: int) -> State:
        parameters = start(jax.random.key(seed), inputs.shape[1], hidden, task.classes)
        return parameters, OPTIMIZER.init(parameters)

    @jax.jit
    def epoch_of(state: State, key: jax.Array) -> State:
        batches = jax.random.permutation(key, count)[: count - count % BATCH].reshape(-1, BATCH)
        ones = jnp.ones(BATCH)

        def advance(state: State, rows: jax.Array) -> tuple[State, None]:
            return step(state, inputs[rows], labels[rows], ones), None

        return jax.lax.scan(advance, state, batches)[0]

    def train_epoch(state: State, epoch: int, seed: int) -> State:
        return epoch_of(state, jax.random.fold_in(jax.random.key(seed), epoch))

    predict = jax.jit(lambda state, examples: apply(state[0], examples))
    return record_training(
        begin,
        train_epoch,
        predict,
        task.inputs,
        task.labels,
        seeds=seeds,
        epochs=epochs,
        batch=count,
    )
