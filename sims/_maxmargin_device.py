"""Batches of the compiled max-margin solver, in few shapes."""

import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from sims.maxmargin import MaxMarginResult, max_margin
from theory._float64 import float64

Floats = NDArray[np.float64]

SMALLEST = 16

Key = tuple[str, int, int, int]


def shape_of(count: int, dim: int) -> int:
    """Smallest power of two that holds `count` rows, and at least 16 and dim / 4."""
    # Few rows are cheap beside compiling another shape for them.
    least = max(count, SMALLEST, dim // 4)
    return 1 << (least - 1).bit_length()


def default_device() -> Any:
    """This thread's default device, None if JAX is to choose."""
    return jax.config.jax_default_device  # type: ignore[attr-defined]


def _one_lane(matrices: Array, masks: Array) -> MaxMarginResult:
    found: MaxMarginResult = jax.tree.map(
        lambda leaf: leaf[None], max_margin(matrices[0], masks[0])
    )
    return found


class _Executables:
    """Compiled calls by shape; threads that need the same one wait for one compilation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shape_locks: dict[Key, threading.Lock] = {}
        self._compiled: dict[Key, jax.stages.Compiled] = {}

    def get(self, lanes: int, padded: int, dim: int) -> jax.stages.Compiled:
        shape = (lanes, padded, dim)
        # What is compiled stays on the device that was the thread's default then.
        key = (str(default_device()), *shape)
        with self._lock:
            shape_lock = self._shape_locks.setdefault(key, threading.Lock())
        with shape_lock:
            if key not in self._compiled:
                matrices = jax.ShapeDtypeStruct(shape, jnp.float64)  # type: ignore[no-untyped-call]
                masks = jax.ShapeDtypeStruct(shape[:2], bool)  # type: ignore[no-untyped-call]
                # Under vmap a branch that no lane takes is computed all the same.
                solve = jax.vmap(max_margin) if lanes > 1 else _one_lane
                self._compiled[key] = jax.jit(solve).lower(matrices, masks).compile()
            return self._compiled[key]


_EXECUTABLES = _Executables()


@float64
def compile_on_device(lanes: int, padded: int, dim: int) -> None:
    """Compile the call for `lanes` problems of `padded` rows, once a process."""
    _EXECUTABLES.get(lanes, padded, dim)


@float64
def solve_on_device(matrices: list[Floats], lanes: int) -> MaxMarginResult:
    """Solve for the rows of at most `lanes` matrices (P, N) whose `shape_of` is one.

    Returns:
        The results, with a leading axis of lanes; `dual` and `support` are padded.
    """
    count, dim = matrices[0].shape
    padded = shape_of(count, dim)
    batch = np.zeros((lanes, padded, dim))
    mask = np.zeros((lanes, padded), bool)
    for lane, matrix in enumerate(matrices):
        batch[lane, : len(matrix)] = matrix
        mask[lane, : len(matrix)] = True
    found: MaxMarginResult = _EXECUTABLES.get(lanes, padded, dim)(batch, mask)
    return found
