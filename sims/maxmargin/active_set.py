"""Finds max-margin separators in few dimensions by DAQP from a good start.

DAQP is a dual active-set method in C. It lets rows in and out one by one and looks at all of them
each time. Two least-squares fits of many problems at once tell most of the rows that hold the
separator, and which of many rows DAQP need not see.
"""

import daqp
import numpy as np
from numpy.typing import NDArray

from sims.maxmargin.compiled import BOUND_ROUNDING, MARGIN_ROUNDING
from sims.maxmargin.exact import Separator, settle

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Integers = NDArray[np.int64]

# Rows over N from which on the fits cost less time than they save.
FITS_PER_DIM = 3.5
# The second fit weighs a row by how far its margin is below this multiple of the mean margin.
LACKING = 1.2
# Ridge over the mean squared row. Without it a fit of rows that do not span the space is singular.
RIDGE = 1e-5
# Rows over N that DAQP sees, those of smallest margin, and violated rows over N that are added.
SEEN_PER_DIM, ENTER_PER_DIM = 5, 1
ROUNDS = 8
# The violation that DAQP may leave, over the margin, and the bracket that needs no refinement.
VIOLATION, TIGHT = 1e-11, 1e-11
ITERATIONS = 1000
# DAQP's code of an optimal answer, and its mark of a lower bound that is active at the start.
OPTIMAL, HOLDING = 1, 1 + 2
NO_BOUND = 1e30


def by_active_set(rows: Floats, norms: Floats) -> list[Separator | None]:
    """Find the separator of every lane by DAQP.

    Args:
        rows: A of every lane, shape (B, P, N), entries about 1.
        norms: norm of every row, shape (B, P).

    Returns:
        Certified separators; nothing for rows that DAQP calls inseparable or gives up.
    """
    lanes, count, dim = rows.shape
    singles = rows.astype(np.float32)
    fitting = count > FITS_PER_DIM * dim
    margins = fitted_margins(singles) if fitting else _times(singles, np.sum(singles, axis=1))
    held = min(dim - 1 if fitting else dim // 2, count - 1)
    marks = np.zeros((lanes, count), np.int32)
    np.put_along_axis(marks, np.argpartition(margins, held, axis=1)[:, :held], HOLDING, axis=1)

    weights, dual = np.empty((lanes, dim)), np.empty((lanes, count))
    ended = np.empty(lanes, np.int64)
    seen = SEEN_PER_DIM * dim
    if seen >= count:
        bounds = _bounds(count)
        for lane in range(lanes):
            weights[lane], dual[lane], ended[lane] = _solve(rows[lane], bounds, marks[lane])
    else:
        near = np.argpartition(margins, seen, axis=1)[:, :seen]
        for lane in range(lanes):
            weights[lane], dual[lane], ended[lane] = _by_rounds(rows[lane], near[lane], marks[lane])

    dual = np.maximum(-dual, 0)
    dual /= _column(np.sum(dual, axis=1))
    weights /= _column(np.sqrt(np.sum(weights**2, axis=1)))
    true_margins = _times(rows, weights)
    image = np.matmul(dual[:, None, :], rows)[:, 0]
    bound = np.sqrt(np.sum(image**2, axis=1)) + BOUND_ROUNDING * np.sum(dual * norms, axis=1)
    smallest = np.min(true_margins, axis=1)
    bracket = 1 - np.min(true_margins - MARGIN_ROUNDING * norms, axis=1) / bound
    found: list[Separator | None] = [None] * lanes
    gaps = np.where(ended == OPTIMAL, bracket, np.nan).tolist()
    for lane, (margin, gap) in enumerate(zip(smallest.tolist(), gaps, strict=True)):
        if gap <= TIGHT:
            found[lane] = Separator(weights[lane], margin, max(gap, 0.0), dual[lane])
        elif gap > TIGHT:
            support = np.flatnonzero(dual[lane])
            found[lane] = settle(rows[lane], norms[lane], support, dual[lane, support])
    return found


def fitted_margins(rows: Singles) -> Singles:
    """Return the margins of the second of two least-squares fits of A w = 1.

    Their shape is (B, P). The second fit is to the rows of small margin in the first.
    """
    everywhere = np.ones((len(rows), 1, rows.shape[1]), np.float32)
    margins = _fit(rows, rows, everywhere)
    margins *= -1 / (LACKING * _column(np.mean(margins, axis=1)))
    lacking = np.maximum(margins + 1, 0)
    return _fit(rows, rows * lacking[:, :, None], lacking[:, None, :])


def _fit(rows: Singles, weighted: Singles, weight: Singles) -> Singles:
    lanes, _, dim = rows.shape
    normal = np.matmul(weighted.transpose(0, 2, 1), rows)
    diagonal = normal.reshape(lanes, -1)[:, :: dim + 1]
    diagonal += RIDGE * _column(np.mean(diagonal, axis=1))
    right = np.matmul(weight, rows)
    return _times(rows, np.linalg.solve(normal, right.transpose(0, 2, 1))[:, :, 0])


def _by_rounds(rows: Floats, members: Integers, marks: NDArray[np.int32]) -> tuple:
    """Solve on the rows `members`, and add violated rows until none is left."""
    count, dim = rows.shape
    dual = np.zeros(count)
    for _ in range(ROUNDS):
        weights, some, ended = _solve(
            rows.take(members, axis=0), _bounds(len(members)), marks.take(members)
        )
        margins = rows @ weights
        violated = np.flatnonzero(margins < 1 - 10 * VIOLATION)
        if ended != OPTIMAL or not len(violated):
            break
        marks = np.zeros_like(marks)
        marks[members[some < 0]] = HOLDING
        most = min(ENTER_PER_DIM * dim, len(violated) - 1)
        worst = violated[np.argpartition(margins[violated], most)[: most + 1]]
        members = np.union1d(members, worst)
    dual[members] = some
    return weights, dual, ended


def _bounds(count: int) -> tuple[Floats, Floats]:
    """Return DAQP's upper and lower bounds of the margins."""
    return np.full(count, NO_BOUND), np.ones(count)


def _solve(rows: Floats, bounds: tuple[Floats, Floats], marks: NDArray[np.int32]) -> tuple:
    """Find the w of smallest norm with A w >= 1 by DAQP.

    Its multipliers times -1 and DAQP's exit code are returned with it.
    """
    weights, _, ended, more = daqp.solve(
        None, None, rows, *bounds, marks, primal_tol=VIOLATION, iter_limit=ITERATIONS
    )
    return weights, more["lam"], ended


def _times(rows: NDArray, vector: NDArray) -> NDArray:
    """Return A v of every lane."""
    return np.matmul(rows, vector[:, :, None])[:, :, 0]


def _column(values: NDArray) -> NDArray:
    return values[:, None]
