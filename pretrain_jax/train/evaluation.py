"""Evaluates a run between its steps.

It measures the loss on fixed masks, probes features, and draws pictures.
"""

import math
from collections.abc import Iterator
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.mae import masking_noise
from pretrain_jax.pictures import Reconstruction, picture, reconstruct, write_png
from pretrain_jax.train.config import TrainConfig
from pretrain_jax.train.logging import RunLog
from pretrain_jax.train.objectives import ImageObjective, MAEObjective, normalise
from pretrain_jax.train.setup import Plan, RunData, decode_images, spread
from pretrain_jax.train.step import (
    PROGRAMS,
    Step,
    TrainState,
    batch_sharding,
    global_batch,
    replicated,
)

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

# Neighbours and temperature of the k-NN probe, the rows whose similarities it holds at a time, and
# the iterations of the linear probe.
NEIGHBOURS, TEMPERATURE = 20, 0.07
CHUNK = 1024
ITERATIONS = 100
# Training images that probes are fitted on, and validation images of a picture.
PROBE_IMAGES = 2048
PICTURE_ROWS = 6


def linear_probe(
    features: Floats,
    labels: Integers,
    test_features: Floats,
    test_labels: Integers,
    *,
    penalty: float = 1e-3,
) -> float:
    """Measure the test accuracy of a logistic regression on standardised features.

    The regression is multinomial.

    It minimises mean cross entropy + penalty / 2 |W|^2 (no penalty on the offset) by L-BFGS.

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
    """Measure the test accuracy of a vote of the nearest neighbours.

    Neighbours are those by cosine similarity, and their votes are weighted.

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


class Evaluator:
    """Evaluates a state on a run's validation images.

    Every number is the same at every call.

    Where there is a moving average of the parameters, it is evaluated.

    Args:
        config: of the run.
        folder: of the run, for pictures.
        plan: of the run.
        data: of the run.
        objective: of the run.
        step: of the run.

    Attributes:
        losses: (step, validation loss) of every look, in order.
        accuracies: of the last probes by name, empty without classes.
        shown: file with the last reconstructions, or None.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        plan: Plan,
        data: RunData,
        objective: ImageObjective,
        step: Step,
    ) -> None:
        self._config, self._folder, self._plan, self._data = config, folder, plan, data
        self._objective, self._step = objective, step
        self._losses = partial(_losses(objective, step.program()), np.uint32(step.seed))
        self._features = _features(objective, step.program())
        self.losses: list[tuple[int, float]] = []
        self.accuracies: dict[str, float] = {}
        self.shown: Path | None = None

    def due(self, step: int, *, last: bool) -> bool:
        """Say whether there is anything to evaluate after a step."""
        return self._validates(step, last) or self._probes(step, last)

    def look(self, state: TrainState, log: RunLog, *, last: bool) -> None:
        """Evaluate what is due after the state's step, and log it."""
        step = int(state.step)
        if self._validates(step, last):
            self.losses.append((step, self.validation_loss(state)))
            log.scalars(step, {"validation_loss": self.losses[-1][1]})
            pixels = self.picture(state)
            if pixels is not None and jax.process_index() == 0:
                self.shown = self._folder / "pictures" / f"step-{step:07d}.png"
                write_png(self.shown, pixels)
                log.picture(step, "reconstructions", pixels)
        if self._probes(step, last) and (found := self.probes(state)):
            self.accuracies = found
            log.scalars(step, dict(found))

    def _validates(self, step: int, last: bool) -> bool:
        every = self._config.validate_every
        return last or step == 0 or (every > 0 and step % every == 0)

    def _probes(self, step: int, last: bool) -> bool:
        every = self._config.probe_every
        return every > 0 and step > 0 and (last or step % every == 0)

    def validation_loss(self, state: TrainState) -> float:
        """Compute the mean loss of the validation images.

        An image's mask is keyed by its place in the set.
        """
        held = self._data.held
        total, count = 0.0, 0
        for rows, valid in self._batches(len(held.images)):
            if self._objective.whole_batches and valid < len(rows) and count:
                break  # the repeated images would be among the negatives
            pixels = self._place(held.images[rows])
            numbers = self._place(held.indices[rows].astype(np.int32))
            found = self._losses(_weights(state), state.constants, pixels, numbers)
            total += float(np.sum(np.asarray(found, np.float64)[:valid]))
            count += valid
        return total / count

    def probes(self, state: TrainState) -> dict[str, float]:
        """Measure the accuracy of the linear and the k-NN probe.

        It is that on the validation images' classes.

        The answer is empty where the images have no classes.
        """
        held = self._data.held
        test_labels = self._data.validation.labels[held.indices]
        if not self._data.training.classes or (test_labels < 0).any():
            return {}
        sample, labels = self._probe_images
        features = self._all_features(state, sample)
        test_features = self._all_features(state, held.images)
        return {
            "linear_probe": linear_probe(features, labels, test_features, test_labels),
            "knn_probe": knn_probe(features, labels, test_features, test_labels),
        }

    def picture(self, state: TrainState) -> NDArray[np.uint8] | None:
        """Draw reconstructions of some validation images.

        It is None where the model makes none.
        """
        if not isinstance(self._objective, MAEObjective):
            return None
        held = self._data.held.images
        count = min(PICTURE_ROWS, len(held))
        chosen = held[np.linspace(0, len(held) - 1, count).round().astype(int)]
        rows = next(self._batches(count))[0]
        run = _reconstruction(self._step.program())
        seed, pixels = np.uint32(self._step.seed), self._place(chosen[rows])
        found = run(seed, _weights(state), state.constants, pixels)
        return picture(Reconstruction(*(np.asarray(part)[:count] for part in found)))

    @cached_property
    def _probe_images(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        images = spread(self._data.training, PROBE_IMAGES)
        decoded, _ = decode_images(self._config, images)
        return decoded.images, images.labels[decoded.indices]

    def _all_features(self, state: TrainState, pixels: NDArray[Any]) -> NDArray[np.float64]:
        found = [
            np.asarray(
                self._features(_weights(state), state.constants, self._place(pixels[rows])),
                np.float64,
            )[:valid]
            for rows, valid in self._batches(len(pixels))
        ]
        return np.concatenate(found)

    def _batches(self, count: int) -> Iterator[tuple[NDArray[np.int64], int]]:
        """Return the places of full batches, and how many are valid.

        At the end the last image is repeated.
        """
        devices = self._plan.mesh.size
        size = min(self._plan.batch_size, -(-count // devices) * devices)
        for start in range(0, count, size):
            yield np.minimum(np.arange(start, start + size), count - 1), min(size, count - start)

    def _place(self, rows: NDArray[Any]) -> jax.Array:
        """Put this host's share of the rows on the devices.

        Every host has all of the rows.
        """
        share = len(rows) // jax.process_count()
        first = jax.process_index() * share
        return global_batch(rows[first : first + share], self._plan.mesh)


def _weights(state: TrainState) -> Any:
    return state.params if state.ema is None else state.ema


@lru_cache(PROGRAMS)
def _losses(objective: ImageObjective, step: Step) -> Any:
    """Return the compiled loss of each example.

    Its arguments are (seed, params, constants, pixels, numbers).

    Masks depend on seed and number alone: the same ones at every call.
    """
    graph = step.graph()

    def losses(
        seed: jax.Array, params: Any, constants: Any, pixels: jax.Array, numbers: jax.Array
    ) -> jax.Array:
        model: Any = nnx.merge(graph, params, constants)
        key = jax.random.fold_in(jax.random.key(seed), 2**32 - 1)
        return objective.per_example(model, pixels, key, numbers)

    rows = batch_sharding(step.mesh)
    return jax.jit(
        losses, in_shardings=(None, None, None, rows, rows), out_shardings=replicated(step.mesh)
    )


@lru_cache(PROGRAMS)
def _features(objective: ImageObjective, step: Step) -> Any:
    """Return the compiled features of each image.

    Its arguments are (params, constants, pixels).
    """
    graph = step.graph()

    def features(params: Any, constants: Any, pixels: jax.Array) -> jax.Array:
        model: Any = nnx.merge(graph, params, constants)
        return objective.features(model, pixels)

    return jax.jit(
        features,
        in_shardings=(None, None, batch_sharding(step.mesh)),
        out_shardings=replicated(step.mesh),
    )


@lru_cache(PROGRAMS)
def _reconstruction(step: Step) -> Any:
    graph, objective = step.graph(), step.objective
    assert isinstance(objective, MAEObjective)
    mean, std = objective.mean, objective.std

    def run(seed: jax.Array, params: Any, constants: Any, pixels: jax.Array) -> Reconstruction:
        model = nnx.merge(graph, params, constants)
        images = normalise(pixels, mean, std, model.config.encoder.param_dtype)
        numbers = jnp.arange(len(pixels))
        noise = masking_noise(jax.random.key(seed), numbers, model.config.encoder.patches)
        return reconstruct(model, images, noise, mean, std)

    return jax.jit(
        run,
        in_shardings=(None, None, None, batch_sharding(step.mesh)),
        out_shardings=replicated(step.mesh),
    )
