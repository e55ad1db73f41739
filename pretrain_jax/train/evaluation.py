"""Between steps: validation loss on fixed masks, probes of frozen features, pictures."""

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.mae import masking_noise
from pretrain_jax.train.config import TrainConfig
from pretrain_jax.train.objectives import MAEObjective, normalise
from pretrain_jax.train.pictures import Reconstruction, picture, reconstruct
from pretrain_jax.train.probes import knn_probe, linear_probe
from pretrain_jax.train.setup import Plan, RunData, decode_images, spread
from pretrain_jax.train.sharding import batch_sharding, global_batch, replicated
from pretrain_jax.train.step import PROGRAMS, Step, TrainState

__all__ = ["Evaluator"]

PROBE_IMAGES = 2048
PICTURE_ROWS = 6


class Evaluator:
    """Evaluates a state on a run's validation images; every number is the same at every call.

    The moving average of the parameters is what is evaluated where there is one.

    Args:
        config: of the run.
        plan: of the run.
        data: of the run.
        step: of the run.
    """

    def __init__(self, config: TrainConfig, plan: Plan, data: RunData, step: Step) -> None:
        self._config, self._plan, self._data, self._step = config, plan, data, step
        self._losses = step.compile_evaluation()
        self._features = step.compile_features()

    def validation_loss(self, state: TrainState) -> float:
        """Mean loss of the validation images; an image's mask is keyed by its place in the set."""
        held = self._data.held
        total, count = 0.0, 0
        for rows, valid in self._batches(len(held.images)):
            if self._step.objective.whole_batches and valid < len(rows) and count:
                break  # the repeated images would be among the negatives
            pixels = self._place(held.images[rows])
            numbers = self._place(held.indices[rows].astype(np.int32))
            found = self._losses(_weights(state), state.constants, pixels, numbers)
            total += float(np.sum(np.asarray(found, np.float64)[:valid]))
            count += valid
        return total / count

    def probes(self, state: TrainState) -> dict[str, float]:
        """Accuracy of the linear and the k-NN probe on the validation images' classes.

        Empty where the images have no classes.
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
        """Reconstructions of some validation images, None where the model makes none."""
        if not isinstance(self._step.objective, MAEObjective):
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
        """Places of full batches, the last image repeated at the end, and how many are valid."""
        devices = self._plan.mesh.size
        size = min(self._plan.batch_size, -(-count // devices) * devices)
        for start in range(0, count, size):
            yield np.minimum(np.arange(start, start + size), count - 1), min(size, count - start)

    def _place(self, rows: NDArray[Any]) -> jax.Array:
        """This host's share of the rows, which every host has, on the devices."""
        share = len(rows) // jax.process_count()
        first = jax.process_index() * share
        return global_batch(rows[first : first + share], self._plan.mesh)


def _weights(state: TrainState) -> Any:
    return state.params if state.ema is None else state.ema


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
