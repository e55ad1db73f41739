"""Guesses of the support for problems with few rows: in their own space, in single precision.

min u^T G u / 2 - sum u, u >= 0, with G = A A^T: its solution is the max-margin dual up to a factor.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import spotrf, spotrs

Singles = NDArray[np.float32]

# Up to this many rows a dimension this is quicker than an interior point.
PIVOTING_PER_DIM = 1.5
# Gradient steps before the pivots, and a dimension's worth of rows more.
STEPS, STEPS_PER_DIM = 10, 20
POWER_STEPS = 6
PIVOTS = 20
# Ridges, over the mean squared norm, of the first pivots and the later ones: where more rows than
# dimensions may hold w G is singular, and without a ridge the pivots would run in circles.
RIDGES = (0.0,)
RIDGES_OF_MANY = (0.03, 0.01, 0.003, 1e-4)
ROUNDING = 1e-5


class Guess(NamedTuple):
    """Rows that may hold w, in increasing order, their multipliers, and if at hand a Cholesky
    factor of their Gram matrix."""

    support: NDArray[np.int64]
    dual: NDArray[np.float64]
    factor: Singles | None


def pivot(lanes: Sequence[Singles]) -> list[Guess | None]:
    """Guess the support of each lane from rows (P, N); nothing where the pivots do not end."""
    count, dim = lanes[0].shape
    grams = np.empty((len(lanes), count, count), np.float32)
    for rows, gram in zip(lanes, grams, strict=True):
        np.matmul(rows, rows.T, out=gram)
    duals = _descend(grams, STEPS + STEPS_PER_DIM * count // dim)
    ridges = RIDGES if count <= dim else RIDGES_OF_MANY
    return [_pivot(gram, dual, ridges) for gram, dual in zip(grams, duals, strict=True)]


def _descend(grams: Singles, steps: int) -> Singles:
    """Take accelerated projected gradient steps, with restarts where they turn uphill."""

    def times(vector: Singles) -> Singles:
        return np.matmul(grams, vector[:, :, None])[:, :, 0]

    dual = np.ones(grams.shape[:2], np.float32)
    for _ in range(POWER_STEPS):
        image = times(dual)
        largest = np.max(image, axis=1, keepdims=True)
        dual = image / largest
    step = 1 / largest
    dual = step * np.ones_like(dual)
    ahead = dual
    momentum = np.ones_like(step)
    for _ in range(steps):
        new = np.maximum(ahead + step * (1 - times(ahead)), 0)
        change = new - dual
        uphill = np.sum((ahead - new) * change, axis=1, keepdims=True) > 0
        momentum = np.where(uphill, 1, momentum)
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + ((momentum - 1) / grown) * change
        dual, momentum = new, grown
    return dual


def _pivot(gram: Singles, dual: Singles, ridges: tuple[float, ...]) -> Guess | None:
    """Solve on the rows of positive multiplier and the violated ones until both stay the same."""
    size = np.mean(gram.diagonal())
    support = np.flatnonzero(dual > 0)
    for attempt in range(PIVOTS):
        if len(support) == 0:
            return None
        chosen = gram.take(support, axis=0).take(support, axis=1)
        chosen.reshape(-1)[:: len(support) + 1] += ridges[min(attempt, len(ridges) - 1)] * size
        factor, failed = spotrf(chosen.T, lower=1, clean=0, overwrite_a=1)
        if failed:
            return None
        equal = spotrs(factor, np.ones(len(support), np.float32), lower=1)[0]
        dual = np.zeros(len(gram), np.float32)
        dual[support] = equal
        wanted = gram @ dual < 1 - ROUNDING
        wanted[support] = equal > 0
        new = np.flatnonzero(wanted)
        if attempt >= len(ridges) - 1 and np.array_equal(new, support):
            return Guess(support, equal.astype(np.float64), None if ridges[-1] else factor)
        support = new
    return None
