"""Solves max-margin problems exactly on a guessed support, in double precision.

It runs on the processor.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs, spotrf, spotrs

from sims.maxmargin.compiled import (
    BOUND_ROUNDING,
    MARGIN_ROUNDING,
    ROUNDING,
    SEPARABLE_BRACKET,
)
from sims.maxmargin.solver import MaxMarginStatus

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EXCHANGES = 10
# A row depends on those of the support if its part outside of their span, squared and relative to
# the row, is smaller than this.
DEPENDENT = 1e-10
# Residuals of margins of size 1: one that is small enough, and one that is accepted where rounding
# allows no smaller one.
REFINED, ACCEPTED = 1e-13, 1e-12
REFINEMENTS = 8


class Separator(NamedTuple):
    """The separator of one problem, on the host.

    Attributes:
        direction: unit vector w, shape (N,).
        margin: min A w.
        bracket: relative gap to the upper bound of the dual, rounding included.
        dual: multipliers of the rows with sum 1, shape (P,): those that hold w have positive ones.
        status: a `MaxMarginStatus`.
    """

    direction: Floats
    margin: float
    bracket: float
    dual: Floats
    status: int = int(MaxMarginStatus.SOLVED)


def settle(
    rows: Floats,
    norms: Floats,
    support: Integers,
    dual: Floats,
    factor: NDArray[np.float32] | None = None,
) -> Separator | None:
    """Find the separator from a guess of its support, by exchanging rows.

    The exchange ends when no multiplier is negative and no row is violated. Rows leave as in Lawson
    and Hanson's method, on the way from the last positive multipliers to those of equal margins,
    and come in by steps of Goldfarb and Idnani's: both raise the dual objective, so that no support
    comes twice.

    Args:
        rows: A, shape (P, N), entries about 1.
        norms: norm of every row.
        support: rows to start from, in increasing order.
        dual: positive guess of their multipliers, in any unit.
        factor: Cholesky factor of about their Gram matrix.

    Returns:
        The certified separator; nothing where the exchange takes too long, dependent rows meet in
        the support or rounding holds the bracket up.
    """
    dim = rows.shape[1]
    for _ in range(EXCHANGES):
        if not 0 < len(support) <= dim:
            return None
        part = rows.take(support, axis=0)
        solved = _equal_margins(part, factor)
        factor = None
        if solved is None:
            return None
        equal, weights = solved
        if np.min(equal) < 0:
            dual = dual * (np.sum(equal) / np.sum(dual))
            left = dual / np.where(equal < 0, dual - equal, 1)
            step = np.min(left[equal < 0])
            stay = (equal >= 0) | (left > step)
            support, dual = support[stay], (dual + step * (equal - dual))[stay]
            continue
        length = np.sqrt(weights @ weights)
        margins = rows @ weights
        short = 1 - margins - (ROUNDING * np.sqrt(dim) * length) * norms
        short[support] = 0
        entering = int(np.argmax(short))
        if short[entering] <= 0:
            return _certified(part, norms, support, equal, weights / length, margins / length)
        entered = _enter(rows, support, equal, weights, entering)
        if entered is None:
            return None
        support, dual = entered
    return None


def _enter(
    rows: Floats, support: Integers, dual: Floats, weights: Floats, entering: int
) -> tuple[Integers, Floats] | None:
    """Add the row `entering` to the support, and return support and multipliers.

    Rows that block its way leave the support.
    """
    row = rows[entering]
    share = 0.0
    while len(support):
        part = rows.take(support, axis=0)
        factor, failed = dpotrf((part @ part.T).T, lower=1, clean=0, overwrite_a=1)
        if failed:
            return None
        change = dpotrs(factor, part @ row, lower=1)[0]
        across = row - change @ part
        slope = across @ row
        reach = np.full(len(support), np.inf)
        np.divide(dual, change, out=reach, where=change > 0)
        blocking = int(np.argmin(reach))
        full = (1 - weights @ row) / slope if slope > DEPENDENT * (row @ row) else np.inf
        step = min(full, reach[blocking])
        if step == np.inf:
            return None
        weights = weights + step * across
        dual = dual - step * change
        share += step
        if full <= reach[blocking]:
            break
        support, dual = np.delete(support, blocking), np.delete(dual, blocking)
    place = int(np.searchsorted(support, entering))
    return np.insert(support, place, entering), np.insert(dual, place, share)


def _equal_margins(
    part: Floats, factor: NDArray[np.float32] | None
) -> tuple[Floats, Floats] | None:
    """Find z with A A^T z = 1, and w = A^T z.

    A factor in single precision is used if it suffices.
    """
    failed = 0
    if factor is None:
        single = part.astype(np.float32)
        factor, failed = spotrf((single @ single.T).T, lower=1, clean=0, overwrite_a=1)
    if not failed:
        solved = _refined(part, lambda right: spotrs(factor, right, lower=1)[0])
        if solved is not None:
            return solved
    factor, failed = dpotrf((part @ part.T).T, lower=1, clean=0, overwrite_a=1)
    if failed:
        return None
    return _refined(part, lambda right: dpotrs(factor, right, lower=1)[0], np.inf)


def _refined(
    part: Floats, solve: Callable[[Floats], NDArray], acceptable: float = ACCEPTED
) -> tuple[Floats, Floats] | None:
    """Refine the solutions of `solve` until the residual no longer falls.

    The answer is None if the residual is above `acceptable` then. w is summed up from the
    corrections, since A^T z cancels to it and would carry the rounding of its terms.
    """
    dual, weights = np.zeros(part.shape[0]), np.zeros(part.shape[1])
    residual = np.ones(part.shape[0])
    before = largest = 1.0
    for _ in range(REFINEMENTS):
        change = solve(residual)
        dual += change
        weights += change @ part
        residual = 1 - part @ weights
        before, largest = largest, np.max(np.abs(residual))
        if not REFINED < largest < 0.1 * before:
            break
    return (dual, weights) if largest <= acceptable else None


def _certified(
    part: Floats,
    norms: Floats,
    support: Integers,
    dual: Floats,
    direction: Floats,
    margins: Floats,
) -> Separator | None:
    dual = dual / np.sum(dual)
    image = dual @ part
    bound = np.sqrt(image @ image) + BOUND_ROUNDING * (dual @ norms[support])
    bracket = float(1 - np.min(margins - MARGIN_ROUNDING * norms) / bound)
    if not bracket <= SEPARABLE_BRACKET:
        return None
    whole = np.zeros(len(norms))
    whole[support] = dual
    return Separator(direction, float(np.min(margins)), max(bracket, 0.0), whole)
