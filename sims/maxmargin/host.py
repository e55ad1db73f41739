"""Finds certified max-margin separators of a batch of problems on the processor.

Several methods guess the rows that hold a separator, and which one is quickest depends on the
shape. All end with the same proof. A problem that one method leaves open goes to the next one. A
problem without a certified separator has no answer here.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import spotrf, spotrs

from sims.maxmargin.active_set import by_active_set
from sims.maxmargin.compiled import ROUNDING
from sims.maxmargin.exact import Separator, settle
from sims.maxmargin.interior import Interior, holding, interior

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Integers = NDArray[np.int64]

# A method takes the rows of every lane (B, P, N), with entries about 1, and their norms (B, P). It
# returns certified separators, whose digits do not depend on the other lanes, or None.
Method = Callable[[Floats, Floats], list[Separator | None]]

# The C library keeps freed blocks up to the largest size that was freed before. This block of 31
# MiB raises that size, since blocks fresh from the system cost more than the arithmetic on them.
np.empty(31 * 2**20, np.uint8)

# Dimensions up to which DAQP is the quickest method.
ACTIVE_SET_DIM = 64
# Rows over N up to which pivoting is quicker than an interior point.
PIVOTING_PER_DIM = 1.5
# Matrix entries, and rows over N, from which on working sets are quicker than an interior point.
SETS_ENTRIES, SETS_PER_DIM = 4_000_000, 40
# For norms between this and its inverse, even their fourth powers fit single precision.
TINY = 1e-6

# Entries of the Gram matrices that are worked on together: they should stay in the cache.
PIVOTING_ENTRIES = 2**19
# Gradient steps before the pivots: a constant number, and further ones for each row over N.
STEPS, STEPS_PER_DIM = 10, 20
POWER_STEPS = 6
PIVOTS = 20
# Ridges over the mean squared norm, from the first pivots to the later ones. Where more rows than
# dimensions may hold w, the Gram matrix is singular, and without a ridge the pivots would cycle.
RIDGES = (0.0,)
RIDGES_OF_MANY = (0.03, 0.01, 0.003, 1e-4)
DUAL_ROUNDING = 1e-5

# Rows over N of the first working set; in later sets, rows over N that stay and that come in.
FIRST, STAY, ENTER = 5, 3, 2
ROUNDS = 40

# Matrix entries that are worked on together.
INTERIOR_ENTRIES = 2**21
# Gaps at which the support is known, in single and in double precision.
FIRST_TARGET, SECOND_TARGET = 1e-4, 1e-7
# Rows over N that are not left out: in single precision early and late, and in double precision.
EARLY_PER_DIM, LATE_PER_DIM, SECOND_PER_DIM = 5, 2, 20
# Bracket of a point that is worth settling.
NEAR = 0.1


def methods_for(count: int, dim: int) -> tuple[Method, ...]:
    """Return the methods for `count` rows in `dim` dimensions, the quickest first."""
    if dim <= ACTIVE_SET_DIM:
        return by_active_set, by_interior_points
    if count <= PIVOTING_PER_DIM * dim:
        return by_pivoting, by_interior_points
    if count >= SETS_PER_DIM * dim and count * dim >= SETS_ENTRIES:
        return by_working_sets, by_interior_points
    return (by_interior_points,)


# An overflow or a division by zero ends without an answer.
@np.errstate(all="ignore")
def solve_on_host(rows: Floats, methods: Sequence[Method] | None = None) -> list[Separator | None]:
    """Find the certified separator of every lane on the processor.

    Args:
        rows: A of every lane, shape (B, P, N).
        methods: in the order in which they are tried; default those of `methods_for`.

    Returns:
        Separators in the units of the rows, whose digits do not depend on the other lanes; nothing
        for rows that are not separable, not finite, dependent or at the limits of double precision:
        those need the compiled solver.
    """
    _, count, dim = rows.shape
    found: list[Separator | None] = [None] * len(rows)
    norms = _norms(rows)
    exponents = np.zeros(len(rows), np.int64)
    largest = np.max(norms, axis=1)
    for lane in np.flatnonzero(~((largest > TINY) & (largest < 1 / TINY))):
        exponents[lane] = np.frexp(np.max(np.abs(rows[lane])))[1]
    if np.any(exponents):
        rows = np.ldexp(rows, -exponents[:, None, None])
        norms = _norms(rows)
    # Rows that vanish or are not finite are left out, as NaN compares false.
    left = np.flatnonzero((np.min(norms, axis=1) > 0) & (np.max(norms, axis=1) < np.inf))
    for method in methods_for(count, dim) if methods is None else methods:
        if not len(left):
            break
        whole = len(left) == len(rows)
        solved = method(rows if whole else rows[left], norms if whole else norms[left])
        for lane, one in zip(left, solved, strict=True):
            found[lane] = one
        left = np.array([lane for lane in left if found[lane] is None], np.int64)
    for lane in np.flatnonzero(exponents):
        one = found[lane]
        if one is not None:
            found[lane] = one._replace(margin=float(np.ldexp(one.margin, exponents[lane])))
    return found


def _norms(rows: Floats) -> Floats:
    norms: Floats = np.sqrt(np.einsum("bij,bij->bi", rows, rows))
    return norms


def _batches(lanes: int, entries: int, room: int) -> list[slice]:
    """Return slices of as many lanes as have room together, at least one."""
    size = max(1, room // entries)
    return [slice(first, first + size) for first in range(0, lanes, size)]


class Guess(NamedTuple):
    """A guess of the rows that hold w, in increasing order, and of their multipliers.

    A Cholesky factor of their Gram matrix comes with it if it is at hand.
    """

    support: Integers
    dual: Floats
    factor: Singles | None


def by_pivoting(rows: Floats, norms: Floats) -> list[Separator | None]:
    """Find separators of few rows by gradient steps on the dual and pivots."""
    lanes, count, dim = rows.shape
    found: list[Separator | None] = []
    for part in _batches(lanes, count * max(count, dim), PIVOTING_ENTRIES):
        for guess, own, sizes in zip(pivot(rows[part]), rows[part], norms[part], strict=True):
            found.append(None if guess is None else settle(own, sizes, *guess))
    return found


def pivot(rows: Floats) -> list[Guess | None]:
    """Guess the support of each lane from rows (B, P, N).

    The guess is None where the pivots do not end.
    """
    lanes, count, dim = rows.shape
    grams = np.empty((lanes, count, count), np.float32)
    for one, gram in zip(rows.astype(np.float32), grams, strict=True):
        np.matmul(one, one.T, out=gram)
    duals = _descend(grams, STEPS + STEPS_PER_DIM * count // dim)
    ridges = RIDGES if count <= dim else RIDGES_OF_MANY
    return [_pivot(gram, dual, ridges) for gram, dual in zip(grams, duals, strict=True)]


def _descend(grams: Singles, steps: int) -> Singles:
    """Take accelerated projected gradient steps, and restart where they go uphill."""

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
    """Guess one lane's support by pivots, starting from a dual.

    Each pivot solves on the rows of positive multiplier and the violated ones, until both stay the
    same.
    """
    size = np.mean(gram.diagonal())
    ones = np.ones(len(gram), np.float32)
    held = dual > 0
    for attempt in range(PIVOTS):
        support = np.flatnonzero(held)
        if len(support) == 0:
            return None
        chosen = gram.take(support, axis=0).take(support, axis=1)
        ridge = ridges[min(attempt, len(ridges) - 1)]
        if ridge:
            chosen.reshape(-1)[:: len(support) + 1] += ridge * size
        factor, failed = spotrf(chosen.T, lower=1, clean=0, overwrite_a=1)
        if failed:
            return None
        equal = spotrs(factor, ones[: len(support)], lower=1)[0]
        dual = np.zeros(len(gram), np.float32)
        dual[support] = equal
        wanted = gram @ dual < 1 - DUAL_ROUNDING
        wanted[support] = equal > 0
        if attempt >= len(ridges) - 1 and wanted.tobytes() == held.tobytes():
            return Guess(support, equal.astype(np.float64), None if ridge else factor)
        held = wanted
    return None


def by_working_sets(rows: Floats, norms: Floats) -> list[Separator | None]:
    """Find separators of very many rows through small working sets.

    A set keeps the rows that hold the separator and exchanges others for violated ones.
    """
    return [_by_sets(*lane) for lane in zip(rows, norms, strict=True)]


def _by_sets(rows: Floats, norms: Floats) -> Separator | None:
    dim = rows.shape[1]
    working = _smallest(rows @ np.mean(rows, axis=0), FIRST * dim)
    tolerance = ROUNDING * np.sqrt(dim) * norms
    for _ in range(ROUNDS):
        (found,) = solve_on_host(rows[None, working])
        if found is None:
            return None
        margins = rows @ found.direction
        violated = np.flatnonzero(margins < found.margin - tolerance)
        if not len(violated):
            support = np.flatnonzero(found.dual)
            return settle(rows, norms, working[support], found.dual[support])
        stay = working[_smallest(margins[working], STAY * dim)]
        enter = violated[_smallest(margins[violated], ENTER * dim)]
        working = np.union1d(stay, enter)
    return None


def _smallest(values: Floats, count: int) -> Integers:
    """Return the places of the `count` smallest values."""
    if count >= len(values):
        return np.arange(len(values))
    return np.argpartition(values, count)[:count]


def by_interior_points(
    rows: Floats, norms: Floats, first_target: float = FIRST_TARGET, near: float = NEAR
) -> list[Separator | None]:
    """Find separators of any number of rows by interior points.

    They are in single precision, and in double precision where that fails.

    Args:
        rows, norms: see `Method`.
        first_target: gap at which single precision stops.
        near: bracket at which its point is good enough.
    """
    lanes, count, dim = rows.shape
    few = EARLY_PER_DIM * dim, LATE_PER_DIM * dim
    found: list[Separator | None] = []
    for part in _batches(lanes, count * dim, INTERIOR_ENTRIES):
        points = interior(rows[part].astype(np.float32), first_target, few)
        for point, own, sizes in zip(points, rows[part], norms[part], strict=True):
            good = _bracket_below(near, own, point)
            found.append(settle(own, sizes, *holding(point)) if good else None)
    for least in sorted({min(SECOND_PER_DIM * dim, count), count}):
        left = np.array([lane for lane, one in enumerate(found) if one is None], np.int64)
        for part in _batches(len(left), count * dim, INTERIOR_ENTRIES):
            points = interior(rows[left[part]], SECOND_TARGET, (least, least))
            for lane, point in zip(left[part], points, strict=True):
                found[lane] = settle(rows[lane], norms[lane], *holding(point))
    return found


def _bracket_below(near: float, rows: Floats, point: Interior) -> bool:
    """Tell whether a point of single precision is near the separator.

    It is checked on all rows in double precision: at small margins the rounding of the point hides
    which rows are violated.
    """
    direction = point.direction[0].astype(np.float64)
    image = point.dual[0].astype(np.float64) @ rows.take(point.members[0], axis=0)
    best = np.sum(point.dual) * np.min(rows @ direction)
    return bool(best > (1 - near) * np.sqrt((direction @ direction) * (image @ image)))
