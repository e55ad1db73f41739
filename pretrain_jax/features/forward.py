"""Computes the features of batches on all devices."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.features.encoder import Encoder, features
from pretrain_jax.features.options import Tokens
from pretrain_jax.train.objectives import normalise
from pretrain_jax.train.step import batch_sharding, make_mesh, replicated

TIMED_SECONDS, TIMED_BATCHES = 0.5, 10


class Forward:
    """Computes features of batches of one size, divided among all devices.

    Args:
        encoder: what computes them.
        side: of the square images, pixels.
        tokens: "class" (class token), "mean" (mean of the patches), or "both", one after the other.
        batch_size: images at once; it is rounded up to a multiple of the number of devices.

    Attributes:
        shape: of a batch, (batch size, side, side, channels).
        width: length of a feature vector.
    """

    def __init__(self, encoder: Encoder, side: int, tokens: Tokens, batch_size: int) -> None:
        mesh = make_mesh()
        rows = -(-batch_size // mesh.size) * mesh.size
        self.shape = (rows, side, side, encoder.channels)
        self.width = feature_width(encoder, tokens)
        graph, state = nnx.split(encoder.model)
        self._state = jax.device_put(state, replicated(mesh))

        def run(state: Any, pixels: jax.Array) -> jax.Array:
            # The arrays are arguments: as constants they would be compiled into the program.
            images = normalise(pixels, encoder.mean, encoder.std, jnp.float32)
            found = features(nnx.merge(graph, state), images)
            each = {"class": found.token, "mean": found.patches.mean(axis=(1, 2))}
            chosen = each.values() if tokens == "both" else [each[tokens]]
            return jnp.concatenate(list(chosen), axis=-1).astype(jnp.float32)

        rows_on = batch_sharding(mesh)
        program = jax.jit(run, in_shardings=(replicated(mesh), rows_on), out_shardings=rows_on)
        self._compiled = program.lower(self._state, np.zeros(self.shape, np.uint8)).compile()
        self._rows_on = rows_on

    def __call__(self, pixels: NDArray[np.uint8]) -> jax.Array:
        """Begin to compute the features of pixels, shape (batch size, width), float32.

        The call does not wait for them.
        """
        return self._compiled(self._state, jax.device_put(pixels, self._rows_on))

    def rate(self) -> float:
        """Measure images in a second where none has to be decoded."""
        pixels = np.zeros(self.shape, np.uint8)
        np.asarray(self(pixels))
        started, batches, seconds = time.perf_counter(), 0, 0.0
        while batches < TIMED_BATCHES and seconds < TIMED_SECONDS:
            np.asarray(self(pixels))
            batches += 1
            seconds = time.perf_counter() - started
        return batches * self.shape[0] / seconds


def feature_width(encoder: Encoder, tokens: Tokens) -> int:
    """Return the length of a feature vector."""
    return encoder.width * (2 if tokens == "both" else 1)
