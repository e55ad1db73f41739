"""Runs plans, one condition and seed after the other.

A part that is finished is not repeated.
"""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike, NDArray

from hardset.cli import check_output_folder
from hardset.folder import Claim
from selection.experiments.datasets import Dataset, Task, load_dataset, make_task
from selection.experiments.plans import Entry, Plan, check_plan
from selection.experiments.results import Results, Unit
from selection.files import read_npz, write_npz
from selection.methods.wrappers import Partitioned
from selection.pool import Pool, Scores
from selection.registry import arrays_of_score, parse_method, parse_score
from selection.scoring.recorder import DynamicsRecorder, TrainingDynamics, record_training
from selection.selector import Selector, budget_count
from selection.subset import Subset

PLAN = "plan.json"
BATCH = 64
OPTIMIZER = optax.adam(1e-3)

Parameters = dict[str, jax.Array]
State = tuple[Parameters, Any]


def start(key: jax.Array, inputs: int, hidden: int, classes: int) -> Parameters:
    """Draw initial parameters with He's variance.

    Biases are zero.
    """
    first, second = jax.random.split(key)
    return {
        "hidden": jax.random.normal(first, (inputs, hidden)) * np.sqrt(2 / inputs),
        "hidden_bias": jnp.zeros(hidden),
        "output": jax.random.normal(second, (hidden, classes)) * np.sqrt(1 / hidden),
        "output_bias": jnp.zeros(classes),
    }


def apply(parameters: Parameters, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute logits and penultimate features."""
    features = jax.nn.relu(inputs @ parameters["hidden"] + parameters["hidden_bias"])
    return features @ parameters["output"] + parameters["output_bias"], features


def step(state: State, inputs: jax.Array, labels: jax.Array, weights: jax.Array) -> State:
    """Take one step of Adam on a weighted batch."""

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
    """Train one network in each lane.

    Batches are drawn from the lane's first `counts` rows.
    """

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
    """Train one network on each subset.

    All have the same start and the same batch positions.

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
    """Predict the classes of the test set, shape (networks, m)."""
    return np.asarray(_classes(parameters, task.test_inputs)).astype(np.uint8)


def record(task: Task, seeds: list[int], *, epochs: int, hidden: int) -> DynamicsRecorder:
    """Train networks on all examples, and record their outputs after every epoch."""
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


def run_plan(
    plan: Plan,
    folder: str | Path,
    *,
    data: Dataset | str | Path | None = None,
    advance: Callable[[str], object] = lambda text: None,
) -> Results:
    """Select, train and test as a plan says.

    Args:
        plan: what to compare.
        folder: where finished parts are kept, one file a condition and seed; a rerun does what is
            missing.
        data: folder of a data set that is not shipped, or the data set itself.
        advance: called with a word on each finished part.

    Raises:
        ValueError: a method or data set that is not there, or a folder of another plan.
        OSError: the folder cannot be written.
    """
    check_plan(plan)
    for entry in plan.entries:
        parse_method(entry.method)
    where = check_output_folder(folder)
    claim = claim_plan(where, plan.parameters())
    claim.check()
    claim.write()
    dataset = data if isinstance(data, Dataset) else None
    units = []
    for condition in plan.conditions:
        for seed in range(plan.seeds):
            path = where / f"{condition}-{seed}.npz"
            if path.exists():
                arrays = _finished(path)
            else:
                if not isinstance(data, Dataset) and dataset is None:
                    dataset = load_dataset(plan.dataset, data)
                assert dataset is not None
                arrays = _run_unit(plan, dataset, condition, seed)
                write_npz(path, arrays)
            units.append(Unit.of(condition, seed, arrays))
            advance(f"{condition}, seed {seed}")
    return Results(plan, tuple(units))


def _finished(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_npz(path)
    except ValueError as error:
        raise ValueError(f"{error}; delete it, and it is computed again") from None


def claim_plan(folder: Path, parameters: dict[str, Any]) -> Claim:
    """Describe the claim of a plan's parameters to the folder of its parts."""
    wanted = json.loads(json.dumps(parameters))  # tuples become lists

    def refuse(found: dict[str, Any]) -> str | None:
        if "fractions" in found:
            return (
                "holds results of version 0.1, whose plan says fractions where this one says "
                "keep_fraction; choose another --out"
            )
        return None if found == wanted else "holds results of another plan; choose another --out"

    def recover(trouble: ValueError | None) -> None:
        if trouble is not None:
            raise ValueError(f"{trouble}; delete it if its parts are those of this plan")

    def foreign(names: list[str]) -> str | None:
        return f"holds {PLAN}, which is no file; choose another --out" if PLAN in names else None

    return Claim(folder, PLAN, wanted, refuse, foreign, recover)


def _run_unit(plan: Plan, dataset: Dataset, condition: str, seed: int) -> dict[str, NDArray[Any]]:
    task = make_task(dataset, condition, seed, plan.train)
    pools = Pools(plan, task, seed)
    count = len(task.labels)
    shape = (len(plan.entries), len(plan.keep_fraction))
    budgets = [budget_count(fraction, count) for fraction in plan.keep_fraction]
    seconds, kept = np.zeros(shape), np.zeros((*shape, count), bool)
    subsets: list[tuple[Any, Any]] = []
    for place, entry in enumerate(plan.entries):
        selector: Selector = parse_method(entry.method)
        pool = pools.of(entry)
        if entry.parts != 1:
            selector = Partitioned(selector, entry.parts)
        chosen, seconds[place] = _select_all(selector, pool, budgets, seed)
        for column, subset in enumerate(chosen):
            kept[place, column, subset.indices] = True
            subsets.append((subset.indices, subset.weights))
    subsets.append((np.arange(count), np.ones(count)))
    networks = train_subsets(task, subsets, seed, steps=plan.steps, hidden=plan.hidden)
    predicted = predict_test(networks, task)
    return {
        "kept": np.packbits(kept, axis=-1),
        "seconds": seconds,
        "predicted": predicted[:-1].reshape(*shape, -1),
        "predicted_all": predicted[-1],
        "labels": task.test_labels,
        "origin": task.origin,
    }


def _select_all(
    selector: Selector, pool: Pool, budgets: Sequence[int], seed: int
) -> tuple[list[Subset], list[float]]:
    """Select a subset for each budget, and measure its processor time.

    Of a nested method the largest one is made, with all its time, and the others are its prefixes.
    """
    found: dict[int, tuple[Subset, float]] = {}
    largest: Subset | None = None
    spent = 0.0
    for budget in sorted(set(budgets), reverse=True):
        if largest is None or largest.weighted or not largest.nested:
            begun = time.process_time()
            largest = selector.select(pool, budget, seed)
            spent = time.process_time() - begun
            found[budget] = largest, spent
        else:
            found[budget] = largest.prefix(budget), spent
    return [found[budget][0] for budget in budgets], [found[budget][1] for budget in budgets]


class Pools:
    """Makes the pools that the entries of a plan select from.

    Networks are recorded once each.
    """

    def __init__(self, plan: Plan, task: Task, seed: int) -> None:
        self._plan, self._task, self._seed = plan, task, seed
        self._recorded: dict[int, tuple[DynamicsRecorder, TrainingDynamics]] = {}
        self._pools: dict[tuple[int, str, str], Pool] = {}

    def of(self, entry: Entry) -> Pool:
        """Return the entry's pool.

        It is made when it is first asked for.
        """
        hidden = entry.proxy or self._plan.hidden
        key = (hidden, entry.score, entry.features)
        if key not in self._pools:
            self._pools[key] = self._make(*key)
        return self._pools[key]

    def _make(self, hidden: int, score: str, features: str) -> Pool:
        recorder, dynamics = self._record(hidden)
        logits = recorder.last_logits.astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances = odds / odds.sum(axis=1, keepdims=True)
        residuals = chances - np.eye(self._task.classes)[self._task.labels]
        penultimate = np.column_stack([recorder.last_features, np.ones(len(logits))])
        gradients = residuals.astype(np.float32)[:, :, None] * penultimate[:, None, :]
        taken = recorder.last_features if features == "hidden" else self._task.inputs
        return Pool.of(
            scores=self._score(score, dynamics, logits, taken),
            features=taken,
            labels=self._task.labels,
            # They are those of the loss by the last layer's weights and biases.
            gradients=gradients.reshape(len(logits), -1).astype(np.float32),
            trajectories=dynamics.trajectories,
        )

    def _score(
        self,
        name: str,
        dynamics: TrainingDynamics,
        logits: NDArray[Any],
        features: NDArray[Any],
    ) -> Scores:
        function, options = parse_score(name)
        given = {
            "dynamics": dynamics,
            "logits": logits,
            "labels": self._task.labels,
            "features": features,
            "losses": dynamics.losses[:, -1].mean(axis=0),
        }
        return function(**{array: given[array] for array in arrays_of_score(function)}, **options)

    def _record(self, hidden: int) -> tuple[DynamicsRecorder, TrainingDynamics]:
        if hidden not in self._recorded:
            first = 1000 * (self._seed + 1)  # other networks than those that are trained
            seeds = list(range(first, first + self._plan.recorded))
            recorder = record(self._task, seeds, epochs=self._plan.epochs, hidden=hidden)
            self._recorded[hidden] = recorder, recorder.dynamics()
        return self._recorded[hidden]
