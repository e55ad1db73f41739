"""Max-margin solves in fixed shapes: a sweep compiles few of them, padding changes no digit."""

import threading
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from sims.maxmargin import MaxMarginStatus, max_margin
from theory._float64 import float64

__all__ = [
    "MAX_LANES",
    "Separator",
    "compile_shape",
    "empty_separator",
    "lane_count",
    "padded_rows",
    "solve_lanes",
]

Floats = NDArray[np.float64]

SMALLEST = 16
MAX_LANES = 5
LANE_ENTRIES = 2**22  # matrix entries that one call carries at most, unless one lane needs more


class Separator(NamedTuple):
    """One solved lane on the host; `dual` has one entry a row."""

    direction: Floats
    margin: float
    bracket: float
    dual: Floats
    status: int


def padded_rows(count: int, dim: int) -> int:
    """Smallest power of two that holds `count` rows, and at least 16 and dim / 4."""
    # Few rows are cheap beside compiling another shape for them.
    least = max(count, SMALLEST, dim // 4)
    return 1 << (least - 1).bit_length()


def lane_count(padded: int, dim: int) -> int:
    """Lanes of one compiled call: a function of the lane's shape only."""
    return int(np.clip(LANE_ENTRIES // (padded * dim), 1, MAX_LANES))


def _solve(matrices: Array, counts: Array) -> tuple[Array, ...]:
    def lane(problem: tuple[Array, Array]) -> tuple[Array, ...]:
        matrix, count = problem
        found = max_margin(matrix, jnp.arange(matrix.shape[0]) < count)
        return found.direction, found.margin, found.bracket, found.dual, found.status

    # A loop, not vmap: on a CPU no lane waits for the slowest, and a lane's digits cannot
    # depend on its neighbours.
    return jax.lax.map(lane, (matrices, counts))


class _Executables:
    """Compiled calls by shape; threads that need the same one wait for one compilation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shape_locks: dict[tuple[int, int], threading.Lock] = {}
        self._compiled: dict[tuple[int, int], jax.stages.Compiled] = {}

    def get(self, padded: int, dim: int) -> jax.stages.Compiled:
        key = (padded, dim)
        with self._lock:
            shape_lock = self._shape_locks.setdefault(key, threading.Lock())
        with shape_lock:
            if key not in self._compiled:
                lanes = lane_count(padded, dim)
                matrices = jax.ShapeDtypeStruct((lanes, padded, dim), jnp.float64)  # type: ignore[no-untyped-call]
                counts = jax.ShapeDtypeStruct((lanes,), jnp.int64)  # type: ignore[no-untyped-call]
                self._compiled[key] = jax.jit(_solve).lower(matrices, counts).compile()
            return self._compiled[key]


_EXECUTABLES = _Executables()


@float64
def compile_shape(shape: tuple[int, int]) -> None:
    """Compile the call for `shape` = (padded rows, N), once a process."""
    _EXECUTABLES.get(*shape)


@float64
def solve_lanes(
    problems: Sequence[tuple[Floats, NDArray[np.int64]]],
) -> list[Separator]:
    """Max-margin separators of several row subsets.

    Args:
        problems: pairs (rows, index): the matrix rows[index] of label-signed rows, same N for
            all. At most `lane_count` problems, all of the same `padded_rows(len(index), N)`.

    Returns:
        One separator a problem, in order; a problem's digits do not depend on the others.
    """
    dim = problems[0][0].shape[1]
    padded = padded_rows(len(problems[0][1]), dim)
    lanes = lane_count(padded, dim)
    matrices = np.zeros((lanes, padded, dim))
    counts = np.zeros(lanes, np.int64)
    for lane, (rows, index) in enumerate(problems):
        np.take(rows, index, axis=0, out=matrices[lane, : len(index)], mode="clip")
        counts[lane] = len(index)
    outputs = _EXECUTABLES.get(padded, dim)(matrices, counts)
    direction, margin, bracket, dual, status = (np.asarray(output) for output in outputs)
    return [
        Separator(
            direction[lane],
            float(margin[lane]),
            float(bracket[lane]),
            dual[lane, : counts[lane]],
            int(status[lane]),
        )
        for lane in range(len(problems))
    ]


def empty_separator(dim: int) -> Separator:
    """The result for no row at all."""
    return Separator(np.zeros(dim), np.nan, np.nan, np.empty(0), int(MaxMarginStatus.EMPTY))
