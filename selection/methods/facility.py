"""Greedy facility location: exact on points in blocks, sparse on neighbour lists."""

import heapq
from typing import Any

import numpy as np
from scipy.sparse import csc_array, csr_array

from selection.core.arrays import BLOCK_VALUES, Array, Floats, Integers, blocks
from selection.core.magnitude import lifted
from selection.core.optional import require
from selection.core.progress import steps
from selection.core.selector import check_budget

__all__ = [
    "Points",
    "assign",
    "greedy_exact",
    "greedy_sparse",
]

TIE = 1e-12  # relative to the largest possible F
EQUAL = 8  # roundings between squares of equal distances
AT_ONCE = 16  # candidates whose gains are evaluated together


class Points:
    """Similarities s_ij = max d - d_ij of m points, d Euclidean, computed where they are used.

    Distances are those of the rows times a power of two, 1 unless their squares would vanish.

    Args:
        rows: shape (m, d).
        before: points that cover the others already, shape (k, d).
    """

    def __init__(self, rows: Array, before: Array | None = None) -> None:
        if before is None:
            before = rows[:0]
        _, rows, before = lifted(rows, before)
        # Centred, so that the squares lose no digits to a common offset; in one layout, so that
        # sums are the same for all.
        centred = np.asarray(rows, dtype=np.float64) - np.mean(rows, axis=0, dtype=np.float64)
        self.rows = np.ascontiguousarray(centred)
        self.squares = np.einsum("ij,ij->i", self.rows, self.rows)
        # What cancellation leaves of the squared distance between copies.
        self.rounding = 4 * np.finfo(float).eps * float(np.max(self.squares)) * rows.shape[1] ** 0.5
        self.largest = 0.0
        sums = np.zeros(len(self.rows))
        for part in blocks(len(self.rows), len(self.rows)):
            found = self.distances(part)
            self.largest = max(self.largest, float(np.max(found)))
            sums[part] = np.sum(found, axis=1)
        self.first_gains = len(self.rows) * self.largest - sums
        self.cover = np.zeros(len(self.rows))
        if len(before):
            nearest = self._nearest(before - np.mean(rows, axis=0, dtype=np.float64))
            self.largest = max(self.largest, float(np.max(nearest)))
            self.cover = self.largest - nearest
            self.first_gains = self.gains(np.arange(len(self.rows)), self.cover)
        # Gains that differ by less are equal but for rounding, and their rows decide.
        self.quantum = TIE * len(self.rows) * self.largest

    def __len__(self) -> int:
        return len(self.rows)

    def distances(self, candidates: Any) -> Floats:
        """d from some rows to all, shape (c, m)."""
        return self._distances(self.rows[candidates], self.squares[candidates], self.rounding)

    def _distances(self, points: Floats, own: Floats, rounding: float) -> Floats:
        squares = points @ self.rows.T
        squares *= -2
        squares += self.squares
        squares += own[:, None]
        squares[squares <= rounding] = 0
        return np.sqrt(np.maximum(squares, 0, out=squares), out=squares)

    def _nearest(self, points: Floats) -> Floats:
        """The distance of every row to the nearest of some centred points, shape (m,)."""
        own = np.einsum("ij,ij->i", points, points)
        largest = max(float(np.max(own)), float(np.max(self.squares)))
        rounding = 4 * np.finfo(float).eps * largest * points.shape[1] ** 0.5
        found = np.full(len(self), np.inf)
        for part in blocks(len(points), len(self)):
            near = np.min(self._distances(points[part], own[part], rounding), axis=0)
            np.minimum(found, near, out=found)
        return found

    def gains(self, candidates: Integers, cover: Floats) -> Floats:
        """sum_i max(s_ij - cover_i, 0) of some candidates j."""
        found = np.empty(len(candidates))
        for part in blocks(len(candidates), len(self)):
            better = self.largest - self.distances(candidates[part]) - cover
            found[part] = np.sum(np.maximum(better, 0, out=better), axis=1)
        return found

    def objective(self, chosen: Integers) -> float:
        """F(S) = sum_i max_{j in S} s_ij, less what the points before cover alone."""
        nearest = self.largest - self.cover
        for part in blocks(len(chosen), len(self)):
            np.minimum(nearest, np.min(self.distances(chosen[part]), axis=0), out=nearest)
        return float(len(self) * self.largest - np.sum(nearest) - np.sum(self.cover))


def greedy_exact(
    points: Points, budget: int, allowed: Integers | None = None
) -> tuple[Integers, Floats]:
    """Greedy maximum of F(S) = sum_i max_{j in S} s_ij, and each pick's gain.

    Gains only fall (F is submodular): a candidate is evaluated again when its old gain comes to
    the top, together with the next ones. At least 1 - 1/e of the optimum. No matrix is kept:
    O(block) memory beyond the points.

    Args:
        points: the candidates, what they cover and how well it is covered already.
        budget: number of picks.
        allowed: rows that may be picked, ascending; default all.
    """
    candidates = np.arange(len(points)) if allowed is None else allowed
    check_budget(budget, len(candidates))
    cover = points.cover.copy()
    quantum = points.quantum or 1.0
    # (-gain in quanta, row, number of picks when it was evaluated, gain); the row breaks ties.
    heap = [
        (-round(gain / quantum), row, 0, gain)
        for row, gain in zip(
            candidates.tolist(), points.first_gains[candidates].tolist(), strict=True
        )
    ]
    heapq.heapify(heap)
    picks, gains = np.empty(budget, np.int64), np.empty(budget)
    work = 10 * budget * points.rows.size
    for step in steps(budget, "facility location", work):
        while heap[0][2] < step:
            old: list[int] = []
            while heap and len(old) < AT_ONCE and heap[0][2] < step:
                old.append(heapq.heappop(heap)[1])
            fresh = points.gains(np.array(old), cover)
            for row, gain in zip(old, fresh.tolist(), strict=True):
                heapq.heappush(heap, (-round(gain / quantum), row, step, gain))
        _, pick, _, gain = heapq.heappop(heap)
        picks[step], gains[step] = pick, gain
        np.maximum(cover, points.largest - points.distances([pick])[0], out=cover)
    return picks, gains


def greedy_sparse(
    similarity: csr_array | csc_array,
    budget: int,
    cover: Floats | None = None,
    allowed: Integers | None = None,
) -> tuple[Integers, Floats]:
    """The same for a sparse matrix: i is covered by j to the degree s_ij >= 0, 0 where not stored.

    Args:
        similarity: s, shape (n, n); the diagonal says how well each example covers itself.
        budget: number of picks.
        cover: how well each example is covered already, shape (n,); default not at all.
        allowed: rows that may be picked, ascending; default all.
    """
    n = similarity.shape[0]
    candidates = np.arange(n) if allowed is None else allowed
    check_budget(budget, len(candidates))
    columns = csc_array(similarity)
    if np.any(columns.data < 0):
        raise ValueError("similarity holds a negative number; facility location needs s >= 0")
    greedy = require("selection.kernels.facility").facility_greedy
    start, added = np.zeros(n), columns
    if cover is not None:
        start = cover
        more = np.maximum(columns.data - start[columns.indices], 0)
        added = csc_array((more, columns.indices, columns.indptr), shape=columns.shape)
    first = np.asarray(added.sum(axis=0), dtype=np.float64)
    order = candidates[np.argsort(-first[candidates], kind="stable")]
    found: tuple[Integers, Floats] = greedy(
        columns.indptr,
        columns.indices,
        columns.data.astype(np.float64),
        first,
        order,
        start.copy(),
        budget,
    )
    return found


def assign(rows: Array, chosen: Integers, before: Array | None = None) -> tuple[Integers, Floats]:
    """The nearest chosen row of every row (the first of equals) and its distance.

    Args:
        rows: shape (m, d).
        chosen: rows, shape (k,); each is assigned to itself.
        before: points that were there earlier, shape (j, d): what they are as near to as any
            chosen row is assigned to none, -1.
    """
    if before is None:
        before = rows[:0]
    scale, rows, before = lifted(rows, before)
    mean = np.mean(rows, axis=0, dtype=np.float64)
    points = np.asarray(rows, dtype=np.float64) - mean
    centres = np.concatenate([before - mean, points[chosen]])
    centre_squares = np.einsum("ij,ij->i", centres, centres)
    owner, nearest = np.empty(len(points), np.int64), np.empty(len(points))
    for part in blocks(len(points), len(centres)):
        squares = centre_squares - 2 * points[part] @ centres.T
        own = np.einsum("ij,ij->i", points[part], points[part])
        closest = np.argmin(squares, axis=1)
        least = np.take_along_axis(squares, closest[:, None], axis=1)[:, 0]
        # What rounding does to squares of this size, so that it does not tell equals apart.
        size = (own + centre_squares[closest]) * points.shape[1] ** 0.5
        limit = least + EQUAL * np.finfo(float).eps * size
        owner[part] = np.argmax(squares <= limit[:, None], axis=1)
        nearest[part] = np.sqrt(np.maximum(least + own, 0))
    owner = np.maximum(owner - len(before), -1)
    # Neither rounding nor a copy takes a pick's own example away from it.
    nearest[chosen] = 0.0
    owner[chosen] = np.arange(len(chosen))
    return owner, scale * nearest


def block_bytes(m: int) -> int:
    """Bytes of the similarities that are in memory at once, three arrays of one block."""
    return 24 * min(max(BLOCK_VALUES, m), m * m)
