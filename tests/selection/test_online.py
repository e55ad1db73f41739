"""Methods that select while a model trains: when they are due, what they choose, that it helps."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from selection import Pool
from selection.methods.facility import CRAIG
from selection.methods.gradients import Glister, GradMatch, LastLayer
from selection.online.crest import CREST
from selection.online.gradients import GlisterOnline, GradMatchOnline
from selection.online.rs2 import RS2
from selection.online.selector import ModelFunctions, OnlineSelector
from selection.online.ssm import SSM, zeroth_order_gradients

RNG = np.random.default_rng(0)
N, D, CLASSES = 400, 5, 3
LABELS = RNG.integers(CLASSES, size=N)
FEATURES = (RNG.standard_normal((N, D)) + 2 * np.eye(D)[LABELS]).astype(np.float32)


@jax.jit
def losses(weights: Any, rows: Any) -> Any:
    logits = jnp.asarray(FEATURES)[rows] @ weights
    return -jax.nn.log_softmax(logits)[jnp.arange(len(rows)), jnp.asarray(LABELS)[rows]]


@jax.jit
def gradients(weights: Any, rows: Any) -> Any:
    inputs = jnp.asarray(FEATURES)[rows]
    errors = jax.nn.softmax(inputs @ weights) - jax.nn.one_hot(jnp.asarray(LABELS)[rows], CLASSES)
    return (inputs[:, :, None] * errors[:, None, :]).reshape(len(rows), -1)


@jax.jit
def shifted(weights: Any, rows: Any, shift: Any) -> Any:
    return losses(weights + jnp.asarray(shift, weights.dtype).reshape(weights.shape), rows)


MODEL = ModelFunctions(
    parameters=jnp.zeros((D, CLASSES)),
    losses=losses,
    gradients=gradients,
    features=lambda weights, rows: FEATURES[rows],
    layer=lambda weights: LastLayer(np.asarray(weights, float).T, np.zeros(CLASSES)),
    validation=lambda weights: FEATURES[:50],
    targets=LABELS[:50],
    shifted_losses=shifted,
    shift_size=D * CLASSES,
)


def train(method: OnlineSelector[Any], steps: int, rate: float = 0.3) -> tuple[Any, list[int]]:
    """Gradient descent on what the method selects: the last state, steps with a selection."""
    state, model, when, batches = method.init(N, LABELS), MODEL, [], ()
    for step in range(steps):
        if state.due:
            state, batches = method.select(state, model, seed=3)
            when.append(step)
        batch = batches[step % len(batches)]
        slope = batch.weights @ gradients(model.parameters, batch.indices) / batch.weights.sum()
        model = model.at(model.parameters - rate * slope.reshape(D, CLASSES))
        state = method.update(state, model)
    final = float(np.mean(losses(model.parameters, np.arange(N))))
    # Uniform guesses have loss ln 3 = 1.1; full-batch descent reaches 0.3 in 60 such steps.
    assert final < 0.6, final
    return state, when


def test_periodic_methods_select_every_so_many_steps() -> None:
    state, when = train(GradMatchOnline(budget=40, every=20), 60)
    assert when == [0, 20, 40] and state.selections == 3 and state.step == 60
    state, when = train(RS2(budget=40, every=2), 60)
    assert when == list(range(0, 60, 2)) and state.selections == 30
    # Later on, GLISTER's gradients of the validation loss are small: it may stand still.
    _, when = train(GlisterOnline(budget=40, every=30), 60)
    assert when == [0, 30]


def test_the_first_selection_is_that_of_the_method_itself() -> None:
    everyone = np.arange(N)
    method = GradMatchOnline(budget=30)
    _, (found,) = method.select(method.init(N), MODEL, seed=0)
    pool = Pool.of(gradients=np.asarray(gradients(MODEL.parameters, everyone)))
    assert np.array_equal(found.indices, GradMatch().select(pool, 30).indices)
    online = GlisterOnline(budget=30, stochastic=False)
    _, (found,) = online.select(online.init(N, LABELS), MODEL, seed=0)
    layer = LastLayer(np.zeros((CLASSES, D)), np.zeros(CLASSES))
    static = Glister(layer, FEATURES[:50], LABELS[:50], stochastic=False)
    pool = Pool.of(features=FEATURES, labels=LABELS)
    assert np.array_equal(found.indices, static.select(pool, 30).indices)


def test_crest_keeps_its_batches_while_the_quadratic_model_holds() -> None:
    _, strict = train(CREST(batch_size=20, batches=2, random_size=80, tau=0.02), 30)
    state, loose = train(CREST(batch_size=20, batches=2, random_size=80, tau=0.5), 30)
    assert len(loose) < len(strict)
    # The model at its origin, against finite differences of the weighted loss.
    quadratic = state.quadratic
    assert quadratic is not None
    at = MODEL.at(jnp.asarray(quadratic.origin, jnp.float32).reshape(D, CLASSES))
    assert np.isclose(quadratic.true(at), quadratic.loss, rtol=1e-5)
    for entry in (0, 7):
        step = np.zeros(D * CLASSES)
        step[entry] = 1e-2
        ahead, behind = (
            quadratic.true(at.at(at.parameters + jnp.asarray(sign * step).reshape(D, CLASSES)))
            for sign in (1, -1)
        )
        # Single precision: 1e-7 over a step of 1e-2, and a cubic term of 1e-4.
        assert np.isclose((ahead - behind) / 2e-2, quadratic.slope[entry], rtol=0, atol=2e-4)


def test_the_curvature_of_crest_is_the_diagonal_of_the_hessian_on_average() -> None:
    method = CREST(batch_size=30, batches=1, random_size=60, probes=50)
    state, (batch,) = method.select(method.init(N), MODEL, seed=0)

    def mean_loss(flat: Any) -> Any:
        own = losses(flat.reshape(D, CLASSES), batch.indices)
        return jnp.mean(jnp.asarray(batch.weights, jnp.float32) * own)

    hessian = np.asarray(jax.hessian(mean_loss)(jnp.zeros(D * CLASSES)))
    assert state.quadratic is not None
    # Variance of one probe: the sum of squares off the diagonal; four standard errors.
    error = np.sqrt(np.sum(hessian**2, 1) - np.diag(hessian) ** 2) / np.sqrt(50)
    assert np.all(np.abs(state.quadratic.curvature - np.diag(hessian)) <= 4 * error + 1e-6)
    assert np.isclose(batch.weights.mean(), 1.0)


def test_crest_drops_what_was_learned_for_some_epochs() -> None:
    """An epoch is 20 steps of 20 of the 400 examples; dropping is looked at in every third one."""
    method = CREST(
        batch_size=20, batches=5, random_size=300, drop_below=0.5, watched=2, drop_every=3
    )
    trained = MODEL.at(jnp.asarray(3 * np.eye(D)[:, :CLASSES], jnp.float32))
    known = np.asarray(losses(trained.parameters, np.arange(N)))
    state = method.init(N)
    for epoch in range(4):
        for _ in range(2):  # two selections an epoch, of ten looks: counted once
            state, _ = method.select(replace(state, step=20 * epoch), trained, seed=0)
        assert state.low is not None
        assert state.low.max() == min(epoch + 1, 3)
        if epoch < 3:
            assert state.active.all()
    dropped = ~state.active
    # Of 3 epochs with 10 looks at 300 of 400 none is missed by more than one example in a million.
    assert np.array_equal(dropped, known < 0.5)


def test_a_loss_above_the_threshold_starts_the_count_again() -> None:
    method = CREST(batch_size=20, batches=1, random_size=N, drop_below=0.5)
    trained = MODEL.at(jnp.asarray(3 * np.eye(D)[:, :CLASSES], jnp.float32))
    state, _ = method.select(method.init(N), trained, seed=0)
    assert state.low is not None
    assert state.low.max() == 1
    state, _ = method.select(replace(state, step=20), MODEL, seed=0)  # every loss is log 3
    assert state.low is not None
    assert state.low.max() == 0


def test_a_crest_batch_is_craig_on_its_random_subset() -> None:
    method = CREST(batch_size=15, batches=1, random_size=N)  # the random subset is everything
    _, (batch,) = method.select(method.init(N), MODEL, seed=0)
    pool = Pool.of(gradients=np.asarray(gradients(MODEL.parameters, np.arange(N))))
    whole = CRAIG().select(pool, 15)
    assert np.array_equal(batch.indices, whole.indices)
    assert np.allclose(batch.weights, whole.weights * 15 / N)


def test_ssm_needs_forward_passes_only() -> None:
    rows = np.arange(30)
    directions = RNG.standard_normal((500, D * CLASSES))
    # z z^T is the identity on average, with a variance of 1 to 2 times norm(g)^2 an entry.
    found = zeroth_order_gradients(MODEL, rows[:3], directions, 1e-2)
    true = np.asarray(gradients(MODEL.parameters, rows[:3]))
    error = np.sqrt(2 / 500) * np.linalg.norm(true, axis=1, keepdims=True)
    assert np.all(np.abs(found - true) <= 4 * error + 1e-3)
    blind = ModelFunctions(
        parameters=MODEL.parameters, shifted_losses=shifted, shift_size=D * CLASSES
    )
    method = SSM(batch_size=10, random_size=40, coordinates=6, directions=8)
    state, (batch,) = method.select(method.init(N), blind, seed=1)
    assert len(np.unique(batch.indices)) == 10 and np.isclose(batch.weights.sum(), 10)
    assert not state.due and method.update(state, blind).due
    with pytest.raises(ValueError, match="needs the model function losses"):
        CREST(batch_size=2, random_size=9).select(
            CREST(batch_size=2, random_size=9).init(N),
            ModelFunctions(parameters=MODEL.parameters, gradients=gradients),
            seed=0,
        )
