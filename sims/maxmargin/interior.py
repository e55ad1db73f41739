"""Runs Mehrotra's interior point, with Gondzio's corrector, in batches on the processor.

It is the compiled solver's method on NumPy arrays with a leading axis of lanes, in any precision.
On a processor LAPACK is as quick when called from here, and nothing is compiled for a new shape.
Most rows do not hold the separator and cost as much as the others; here they can be left out.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs, spotrf, spotrs

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

TO_THE_BOUNDARY = 0.99
LONGER = 1.3
ITERATIONS = 60
# Complementarity that has not fallen for so many iterations has reached the rounding errors.
PATIENCE = 3
# From the second iteration on this share of the rows stays at each choice: the second one where
# there are more than the given number of rows over N.
STAYING, STAYING_OF_MANY, MANY_PER_DIM = 0.7, 0.5, 25
EARLY, CHOICE_EVERY, LAST_CHOICE = 4, 3, 12
# The least slack of a new row, over the mean slack.
NEW_SLACK = 0.1

_CHOLESKY: dict[np.dtype, tuple[Callable, Callable]] = {
    np.dtype(np.float32): (spotrf, spotrs),
    np.dtype(np.float64): (dpotrf, dpotrs),
}


class Interior(NamedTuple):
    """The interior points of B lanes on K rows each.

    Attributes:
        members: which of the lane's rows they are, shape (B, K).
        direction: w, shape (B, N).
        dual: u, shape (B, K).
        margin: kappa, shape (B,).
        slack: s, shape (B, K).
        margins: A w, shape (B, K).
        image: A^T u, shape (B, N).
    """

    members: Integers
    direction: Floats
    dual: Floats
    margin: Floats
    slack: Floats
    margins: Floats
    image: Floats

    def lanes(self, chosen: NDArray | slice) -> "Interior":
        """Return the chosen lanes."""
        return Interior(
            self.members[chosen],
            self.direction[chosen],
            self.dual[chosen],
            self.margin[chosen],
            self.slack[chosen],
            self.margins[chosen],
            self.image[chosen],
        )


def times(rows: Floats, vector: Floats) -> Floats:
    """Return A v of every lane."""
    return np.matmul(rows, vector[..., None])[..., 0]


def across(dual: Floats, rows: Floats) -> Floats:
    """Return A^T u of every lane."""
    return np.matmul(dual[:, None, :], rows)[:, 0]


def start(rows: Floats) -> Interior:
    """Return the first interior points: u = 1/P and w = A^T u.

    Their slacks have the size of the margins' spread.
    """
    lanes, count, _ = rows.shape
    dual = np.full((lanes, count), 1 / count, rows.dtype)
    direction = across(dual, rows)
    margins = times(rows, direction)
    mean = np.mean(margins, axis=1)
    spread = np.sqrt(np.mean((margins - mean[:, None]) ** 2, axis=1)) + np.abs(mean)
    spread[spread == 0] = 1
    margin = mean - spread
    slack = np.maximum(margins - margin[:, None], rows.dtype.type(0.1) * spread[:, None])
    members = np.tile(np.arange(count), (lanes, 1))
    return Interior(members, direction, dual, margin, slack, margins, direction)


def complementarity(point: Interior) -> Floats:
    """Return the complementarity u^T s of every lane.

    Over norm(A^T u)^2 it is the bracket, but for rounding in A w.
    """
    product: Floats = np.sum(point.slack * point.dual, axis=1)
    return product


def holding(point: Interior) -> tuple[Integers, NDArray[np.float64]]:
    """Return the rows of the only lane that seem to hold w, and their dual.

    They are at most N, in increasing order. Their share in the dual is larger than that in the
    slacks; both are about 1 in the centre.
    """
    (members,), (dual,), (slack,) = point.members, point.dual, point.slack
    size = np.sum(point.image**2) + slack @ dual
    share = dual * (len(dual) * size) / slack
    chosen = np.flatnonzero(share > 1)
    dim = point.direction.shape[1]
    if len(chosen) > dim:
        chosen = np.sort(chosen[np.argpartition(-share[chosen], dim)[:dim]])
    return members[chosen], dual[chosen].astype(np.float64)


def interior(rows: Floats, target: float, least: tuple[int, int]) -> list[Interior]:
    """Run every lane's interior point until its complementarity is small.

    A lane also ends when its complementarity no longer falls.

    Args:
        rows: A of every lane, shape (B, P, N), entries about 1; its type is that of the arithmetic.
        target: complementarity over norm(A^T u)^2 to reach.
        least: rows to go on with at least, those of smallest margin: in the first iterations, as
            long as they say little about the support, and in the later ones.

    Returns:
        The last finite point of each lane, of one lane each, on the rows that stayed.
    """
    whole, point = rows, start(rows)
    _, count, dim = rows.shape
    chosen = count
    found: dict[int, Interior] = {}
    running = np.arange(len(rows))
    left, stale = complementarity(point), np.zeros(len(rows), np.int64)
    for iteration in range(1, ITERATIONS + 1):
        ahead = _advance(rows, point)
        now = complementarity(ahead)
        # Not a number compares false.
        sound = (now > 0) & (now < np.inf)
        stale = np.where(now < 0.9 * left, 0, stale + 1)
        near = now <= target * np.sum(ahead.image**2, axis=1)
        done = ~sound | near | (stale == PATIENCE) | (iteration == ITERATIONS)
        for lane in np.flatnonzero(done):
            last = ahead if sound[lane] else point
            found[running[lane]] = last.lanes(slice(lane, lane + 1))
        if np.all(done):
            break
        if np.any(done):
            running, rows, now = running[~done], rows[~done], now[~done]
            left, stale, ahead = left[~done], stale[~done], ahead.lanes(~done)
        point, left = ahead, np.minimum(left, now)
        if 1 < iteration <= LAST_CHOICE:
            share = STAYING if chosen <= MANY_PER_DIM * dim else STAYING_OF_MANY
            staying = min(chosen, max(int(share * chosen), least[iteration >= EARLY]))
            if staying < chosen or (staying < count and iteration % CHOICE_EVERY == 0):
                chosen = staying
                rows, point = _choose([whole[lane] for lane in running], point, chosen)
    return [found[lane] for lane in range(len(found))]


def _choose(whole: list[Floats], point: Interior, count: int) -> tuple[Floats, Interior]:
    """Choose the `count` rows of smallest margin of each lane.

    Rows that come in start in the centre.
    """
    margins = np.stack([rows @ w for rows, w in zip(whole, point.direction, strict=True)])
    members = np.sort(np.argpartition(margins, count - 1, axis=1)[:, :count], axis=1)
    least = NEW_SLACK * np.mean(point.slack, axis=1, keepdims=True)
    centre = np.mean(point.slack * point.dual, axis=1, keepdims=True)
    slack = np.maximum(margins - point.margin[:, None], least)
    dual = centre / slack
    np.put_along_axis(slack, point.members, point.slack, axis=1)
    np.put_along_axis(dual, point.members, point.dual, axis=1)
    margins, slack, dual = (
        np.take_along_axis(leaf, members, axis=1) for leaf in (margins, slack, dual)
    )
    dual /= np.sum(dual, axis=1, keepdims=True)
    rows = np.empty((len(whole), count, whole[0].shape[1]), whole[0].dtype)
    for one, kept, out in zip(whole, members, rows, strict=True):
        np.take(one, kept, axis=0, out=out, mode="clip")
    return rows, point._replace(
        members=members, dual=dual, slack=slack, margins=margins, image=across(dual, rows)
    )


class _Factors:
    """The Cholesky factors of I + A^T diag(d) A, one for each lane."""

    def __init__(self, rows: Floats, weight: Floats) -> None:
        factorise, self._solve = _CHOLESKY[rows.dtype]
        _, count, dim = rows.shape
        # All lanes share one buffer: fresh memory from the system costs more than the products.
        scaled = np.empty((count, dim), rows.dtype)
        self._factors: list[Floats | None] = []
        for matrix, root in zip(rows, np.sqrt(weight)[:, :, None], strict=True):
            np.multiply(matrix, root, out=scaled)
            normal = scaled.T @ scaled
            normal.reshape(-1)[:: dim + 1] += 1
            # The matrix is symmetric. Transposed, it has the order that LAPACK can overwrite.
            factor, failed = factorise(normal.T, lower=1, clean=0, overwrite_a=1)
            self._factors.append(None if failed else factor)

    def solve(self, right: Floats) -> Floats:
        """Return the solutions for right-hand sides (B, ..., N)."""
        solution = np.full_like(right, np.nan)
        for lane, factor in enumerate(self._factors):
            if factor is not None:
                solution[lane] = self._solve(factor, right[lane].T, lower=1)[0].T
        return solution


class _Step(NamedTuple):
    """A step of the interior points: changes of w, u, kappa, A w and s.

    `length` is the share of it that keeps u and s positive.
    """

    direction: Floats
    dual: Floats
    margin: Floats
    margins: Floats
    slack: Floats
    length: Floats


def _advance(rows: Floats, point: Interior) -> Interior:
    """Return the next interior points, with one step length for each lane.

    A step consists of a predictor, a corrector and one corrector of Gondzio's.
    """
    dual, slack = point.dual, point.slack
    count = rows.shape[1]
    weight = dual / slack
    factors = _Factors(rows, weight)
    r1 = point.image - point.direction
    r2 = 1 - np.sum(dual, axis=1)
    r3 = slack - point.margins + point.margin[:, None]
    mu = np.sum(dual * slack, axis=1) / count

    # The steps for a unit of kappa and for kappa held fixed, solved together.
    sought = r3 - slack
    right = np.matmul(np.stack([weight, weight * sought], axis=1), rows)
    right[:, 1] += r1
    both = factors.solve(right)
    unit, fixed = both[:, 0], both[:, 1]
    unit_margins, fixed_margins = times(rows, unit), times(rows, fixed)
    unit_dual = weight * (1 - unit_margins)
    unit_total = np.sum(unit_dual, axis=1)

    def step(sought: Floats, fixed: Floats, fixed_margins: Floats) -> _Step:
        change = weight * (sought - fixed_margins)
        margin = ((r2 - np.sum(change, axis=1)) / unit_total)[:, None]
        change += margin * unit_dual
        margins = fixed_margins + margin * unit_margins
        slacks = margins - margin - r3
        shrink = -np.minimum(np.min(change / dual, axis=1), np.min(slacks / slack, axis=1))
        length = np.where(shrink > TO_THE_BOUNDARY, TO_THE_BOUNDARY / shrink, 1)[:, None]
        return _Step(
            fixed + margin * unit, change, margin, margins, slacks, length.astype(rows.dtype)
        )

    def corrected(sought: Floats) -> _Step:
        fixed = factors.solve(r1 + across(weight * sought, rows))
        return step(sought, fixed, times(rows, fixed))

    predicted = step(sought, fixed, fixed_margins)
    reached = np.sum(_products(point, predicted, predicted.length), axis=1) / count
    pull = ((reached / mu) ** 3 * mu)[:, None]
    sought = sought + (pull - predicted.slack * predicted.dual) / dual
    found = corrected(sought)
    # Gondzio's corrector aims at a longer step than is possible, and mends the products u s that
    # such a step would spoil.
    products = _products(point, found, np.minimum(1, LONGER * found.length + 0.1))
    mended = np.maximum(np.clip(products, 0.1 * pull, 10 * pull) - products, -10 * pull)
    centred = corrected(sought + mended / dual)
    longer = centred.length > 1.01 * found.length
    found = _Step(*(np.where(longer, *leaves) for leaves in zip(centred, found, strict=True)))
    dual = dual + found.length * found.dual
    return Interior(
        point.members,
        point.direction + found.length * found.direction,
        dual,
        point.margin + (found.length * found.margin)[:, 0],
        slack + found.length * found.slack,
        point.margins + found.length * found.margins,
        across(dual, rows),
    )


def _products(point: Interior, step: _Step, length: Floats) -> Floats:
    """Return u s of every row after a step of this length."""
    products: Floats = (point.dual + length * step.dual) * (point.slack + length * step.slack)
    return products
