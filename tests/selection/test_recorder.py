"""The recorder in a Flax training loop against the logits that the loop itself stored."""

import tracemalloc

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from selection.scoring.recorder import (
    DynamicsRecorder,
    TrainingDynamics,
    linen_features,
    record_training,
)
from selection.scoring.training import aum, el2n, forgetting, grand

COUNT, CLASSES, WIDTH = 90, 3, 8
random = np.random.default_rng(0)
LABELS = np.arange(COUNT) % CLASSES
INPUTS = (random.standard_normal((COUNT, 5)) + 4 * np.eye(5)[LABELS]).astype(np.float32)
WRONG = np.arange(0, COUNT, 15)
NOISY = LABELS.copy()
NOISY[WRONG] = (NOISY[WRONG] + 1) % CLASSES


class Net(nn.Module):
    """Two dense layers."""

    @nn.compact
    def __call__(self, x):
        hidden = nn.relu(nn.Dense(WIDTH)(x))
        return nn.Dense(CLASSES)(hidden)


NET, OPTIMISER = Net(), optax.adam(0.03)


def start(seed):
    variables = NET.init(jax.random.key(seed), INPUTS[:1])
    return variables, OPTIMISER.init(variables)


@jax.jit
def step(variables, moments, x, y):
    def loss(v):
        return optax.softmax_cross_entropy_with_integer_labels(NET.apply(v, x), y).mean()

    updates, moments = OPTIMISER.update(jax.grad(loss)(variables), moments)
    return optax.apply_updates(variables, updates), moments


def train_epoch(state, epoch, seed):
    order = np.random.default_rng([seed, epoch]).permutation(COUNT)
    for rows in np.split(order, 3):
        state = step(*state, INPUTS[rows], NOISY[rows])
    return state


FORWARD = jax.jit(linen_features(NET))


def predict(state, x):
    return FORWARD(state[0], x)


@pytest.fixture(scope="module")
def recorded():
    return record_training(
        start, train_epoch, predict, INPUTS, NOISY, seeds=(3, 4), epochs=6, batch=40
    )


def test_recorder_agrees_with_stored_logits(recorded) -> None:
    logits, hidden = np.empty((2, 6, COUNT, CLASSES)), np.empty((2, 6, COUNT, WIDTH))
    for number, seed in enumerate((3, 4)):
        state = start(seed)
        for epoch in range(6):
            state = train_epoch(state, epoch, seed)
            first = state[0]["params"]["Dense_0"]
            last = state[0]["params"]["Dense_1"]
            activations = jnp.maximum(INPUTS @ first["kernel"] + first["bias"], 0)
            hidden[number, epoch] = activations
            logits[number, epoch] = activations @ last["kernel"] + last["bias"]
    wanted = TrainingDynamics.of(logits, NOISY, hidden)
    found = recorded.dynamics()
    for name in (
        "losses",
        "probabilities",
        "margins",
        "error_norms",
        "gradient_norms",
        "changes",
    ):
        # Single precision, and matrix products in another order.
        np.testing.assert_allclose(
            getattr(found, name), getattr(wanted, name), rtol=2e-4, atol=2e-5, err_msg=name
        )
    np.testing.assert_array_equal(found.correct, wanted.correct)
    np.testing.assert_allclose(recorded.last_features, hidden[0, -1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(recorded.last_logits, logits[0, -1], rtol=1e-4, atol=1e-4)


def test_wrong_labels_are_hard(recorded) -> None:
    dynamics = recorded.dynamics()
    for score in (el2n, grand, aum):
        hardest = np.argsort(-score(dynamics, first=3).values)[: len(WRONG)]
        assert len(set(hardest) & set(WRONG)) >= len(WRONG) - 1
    assert np.all(np.isfinite(forgetting(dynamics).values))


def test_on_disk_as_in_memory(tmp_path, recorded) -> None:
    stored = record_training(
        start,
        train_epoch,
        predict,
        INPUTS,
        NOISY,
        seeds=(3,),
        epochs=6,
        batch=90,
        folder=tmp_path / "run",
    )
    found = stored.dynamics()
    assert isinstance(found.losses, np.memmap)
    np.testing.assert_allclose(found.losses[0], recorded.dynamics().losses[0], rtol=1e-4, atol=1e-6)
    assert found.losses.dtype == np.float32
    with pytest.raises(ValueError, match="is not empty"):
        DynamicsRecorder(NOISY, folder=tmp_path / "run")


def test_without_features() -> None:
    recorder = DynamicsRecorder([0, 1, 1], epochs=1)
    recorder.record(0, 0, [2, 0], np.eye(2))
    with pytest.raises(ValueError, match="seed 0, epoch 0 lacks 1 examples"):
        recorder.dynamics()
    recorder.record(0, 0, [1], np.eye(2)[:1])
    assert recorder.dynamics().gradient_norms is None
    with pytest.raises(ValueError, match="last_features were not recorded"):
        _ = recorder.last_features
    np.testing.assert_array_equal(recorder.last_logits, [[0, 1], [1, 0], [1, 0]])
    assert recorder.dynamics().correct[0, 0].tolist() == [False, False, False]


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ((0, 2, [0], np.eye(2)[:1]), r"epoch = 2 is outside the valid range \[0, 1\]"),
        ((1, 0, [0], np.eye(2)[:1]), r"seed = 1 is outside"),
        ((0, 0, [0, 1], np.eye(2)[:1]), r"rows has shape \(2,\) and logits \(1, 2\)"),
        ((0, 0, [3], np.eye(2)[:1]), "rows must be in 0 to 2"),
        ((0, 0, [1, 1], np.eye(2)), "an example comes twice"),
        ((0, 0, [0], [[np.nan, 0.0]]), "logits holds nan"),
    ],
)
def test_bad_batches(batch: tuple, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DynamicsRecorder([0, 1, 1], epochs=2).record(*batch)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (([0, 1], [[np.nan, 0.0], [0.0, 1.0]]), "logits holds nan for example 0, class 0"),
        (([0, 1], np.zeros((2, 1))), "logits has one class; at least two"),
        (([0, 1], np.eye(2), np.array([[0.0], [np.inf]])), "features holds inf for example 1"),
        (([0.0, 1.5], np.eye(2)), "rows holds 1.5 at index 1, not a whole number"),
    ],
)
def test_a_refused_batch_leaves_nothing_behind(broken: tuple, sentence: str) -> None:
    good = DynamicsRecorder([0, 1, 1], epochs=1)
    tried = DynamicsRecorder([0, 1, 1], epochs=1)
    hidden = None if len(broken) == 2 else np.ones((2, 1))
    with pytest.raises(ValueError, match=sentence):
        tried.record(0, 0, *broken)
    for recorder in (good, tried):
        recorder.record(0, 0, [0, 1], np.eye(2), hidden)
        recorder.record(0, 0, [2], np.eye(2)[:1], None if hidden is None else hidden[:1])
    found, wanted = tried.dynamics(), good.dynamics()
    np.testing.assert_array_equal(found.losses, wanted.losses)
    np.testing.assert_array_equal(tried.last_logits, good.last_logits)
    assert (found.gradient_norms is None) == (hidden is None)


def test_a_refused_batch_closes_no_epoch() -> None:
    recorder = DynamicsRecorder([0, 1], epochs=2)
    recorder.record(0, 0, [0], np.eye(2)[:1])
    with pytest.raises(ValueError, match="logits holds nan"):
        recorder.record(0, 1, [0], [[np.nan, 0.0]])
    recorder.record(0, 0, [1], np.eye(2)[:1])
    with pytest.raises(ValueError, match="seed 0, epoch 1 lacks 2 examples"):
        recorder.dynamics()


def test_names_are_the_logits_classes_in_sorted_order() -> None:
    logits = np.array([[2.0, 0.0, 1.0], [3.0, 1.0, 0.0], [1.0, 0.0, 4.0]])
    names = ["pear", "apple", "fig"]
    recorder = DynamicsRecorder(names, epochs=1)
    recorder.record(0, 0, [0, 1, 2], logits)
    wanted = TrainingDynamics.of(logits, [2, 0, 1])
    for found in (recorder.dynamics(), TrainingDynamics.of(logits, names)):
        np.testing.assert_allclose(found.losses, wanted.losses, rtol=1e-6)
    sentence = "labels has 2 names, logits 3 classes; names stand for the classes in sorted order"
    with pytest.raises(ValueError, match=sentence):
        TrainingDynamics.of(logits, ["pear", "apple", "apple"])
    with pytest.raises(ValueError, match=sentence):
        DynamicsRecorder(["b", "a", "a"], epochs=1).record(0, 0, [0, 1, 2], logits)
    with pytest.raises(ValueError, match=r"labels holds 0.5 at index 0, not a whole number"):
        DynamicsRecorder([0.5, 1])


def test_ten_seeds_unless_told_otherwise() -> None:
    recorder = record_training(
        lambda seed: seed,
        lambda state, epoch, seed: state,
        lambda state, x: np.eye(2) * state,
        np.zeros((2, 1)),
        [0, 1],
        epochs=1,
    )
    margins = recorder.dynamics().margins
    assert margins.shape == (10, 1, 2)
    assert margins[:, 0, 0].tolist() == list(range(10))


def test_an_epoch_is_recorded_once() -> None:
    recorder = DynamicsRecorder([0, 1], epochs=2)
    recorder.record(0, 0, [0], np.eye(2)[:1])
    recorder.record(0, 1, [0], np.eye(2)[:1])
    with pytest.raises(ValueError, match="was recorded before another one"):
        recorder.record(0, 0, [1], np.eye(2)[:1])
    with pytest.raises(ValueError, match="features were not recorded from the first batch on"):
        recorder.record(0, 1, [1], np.eye(2)[:1], np.eye(2)[:1])


def test_changes_need_epochs_in_order() -> None:
    recorder = DynamicsRecorder([0, 1], epochs=3)
    for epoch in (0, 2, 1):
        recorder.record(0, epoch, [0, 1], (1 + epoch) * np.eye(2))
    assert recorder.dynamics().changes is None
    again = DynamicsRecorder([0, 1], seeds=2, epochs=2)
    for seed, epoch in np.ndindex(2, 2):
        again.record(seed, epoch, [1, 0], (1 + seed + epoch) * np.eye(2)[::-1])
    stored = np.array([[(1 + s + t) * np.eye(2) for t in range(2)] for s in range(2)])
    wanted = TrainingDynamics.of(stored, [0, 1]).changes
    np.testing.assert_allclose(again.dynamics().changes, wanted, rtol=1e-6)


def test_on_disk_one_batch_is_in_memory(tmp_path) -> None:
    count, epochs, size = 100_000, 4, 1000
    labels = np.zeros(count, np.int64)
    tracemalloc.start()
    recorder = DynamicsRecorder(labels, epochs=epochs, folder=tmp_path / "run")
    for epoch in range(epochs):
        for first in range(0, count, size):
            rows = np.arange(first, first + size)
            recorder.record(0, epoch, rows, np.ones((size, 3)), np.ones((size, 5)))
    recorder.dynamics()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Marks of the examples, a batch of logits and features with its temporaries, Python's objects.
    assert peak < count + 40 * 8 * size + 500_000
    assert 21 * count * epochs > 5 * peak
