"""Selects by facility location, CRAIG and AdaCore.

All are greedy, either exact on points or sparse on nearest neighbours.
"""

import heapq
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from scipy.sparse import csc_array, csr_array, diags_array

from hardset.checks import check_choice, check_integer, check_range, require
from hardset.progress import steps
from selection.arrays import BLOCK_VALUES, Array, Floats, Integers, blocks, lifted
from selection.given import Given, shares
from selection.graph import knn_graph
from selection.pool import Pool
from selection.selector import Conditional, check_budget
from selection.subset import Subset
from sims.machine import one_blas_thread

TIE = 1e-12  # relative to the largest possible F
EQUAL = 8  # roundings between squares of equal distances
AT_ONCE = 16  # candidates whose gains are evaluated together
THREADS = 2  # that share them; each has half of a block


class Points:
    """Computes similarities of points where they are used.

    The similarity is s_ij = max d - d_ij of m points, where d is the Euclidean distance.

    Distances are those of the rows times a power of two, 1 unless their squares would vanish.

    Args:
        rows: shape (m, d).
        before: points that cover the others already, shape (k, d).
    """

    def __init__(self, rows: Array, before: Array | None = None) -> None:
        if before is None:
            before = rows[:0]
        _, rows, before = lifted(rows, before)
        # Rows are centred, so that the squares lose no digits to a common offset. They have one
        # layout in memory, so that sums are the same whatever layout was handed over.
        centred = np.asarray(rows, dtype=np.float64) - np.mean(rows, axis=0, dtype=np.float64)
        self.rows = np.ascontiguousarray(centred)
        self.squares = np.einsum("ij,ij->i", self.rows, self.rows)
        # Cancellation leaves this much of the squared distance between copies.
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
        """Compute the distances from some rows to all.

        The shape is (c, m).
        """
        return self._distances(self.rows[candidates], self.squares[candidates], self.rounding)

    def _distances(self, points: Floats, own: Floats, rounding: float) -> Floats:
        squares = (-2 * points) @ self.rows.T
        squares += self.squares
        squares += own[:, None]
        squares[squares <= rounding] = 0
        return np.sqrt(squares, out=squares)

    def _nearest(self, points: Floats) -> Floats:
        """Compute the distance of every row to the nearest of some centred points.

        The shape is (m,).
        """
        own = np.einsum("ij,ij->i", points, points)
        largest = max(float(np.max(own)), float(np.max(self.squares)))
        rounding = 4 * np.finfo(float).eps * largest * points.shape[1] ** 0.5
        found = np.full(len(self), np.inf)
        for part in blocks(len(points), len(self)):
            near = np.min(self._distances(points[part], own[part], rounding), axis=0)
            np.minimum(found, near, out=found)
        return found

    def gains(self, candidates: Integers, cover: Floats) -> Floats:
        """Compute the gains of some candidates.

        The gain of j is sum_i max(s_ij - cover_i, 0).
        """
        found = np.empty(len(candidates))
        for part in blocks(len(candidates), THREADS * len(self)):
            better = self.distances(candidates[part])
            np.subtract(self.largest, better, out=better)
            better -= cover
            found[part] = np.sum(np.maximum(better, 0, out=better), axis=1)
        return found

    def objective(self, chosen: Integers) -> float:
        """Compute what a set adds to the objective.

        It is F(S) = sum_i max_{j in S} s_ij, less what the points before cover alone.
        """
        nearest = self.largest - self.cover
        for part in blocks(len(chosen), len(self)):
            np.minimum(nearest, np.min(self.distances(chosen[part]), axis=0), out=nearest)
        return float(len(self) * self.largest - np.sum(nearest) - np.sum(self.cover))


def greedy_exact(
    points: Points, budget: int, allowed: Integers | None = None
) -> tuple[Integers, Floats]:
    """Maximise the facility location of points greedily.

    It is F(S) = sum_i max_{j in S} s_ij. The gain of each pick is returned too.

    Gains only fall (F is submodular): a candidate is evaluated again when its old gain comes to the
    top, together with the next ones. F reaches at least 1 - 1/e of the optimum. No matrix is kept:
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
    # BLAS's own threads spin between such small products, which costs ten times the arithmetic.
    with one_blas_thread(), ThreadPoolExecutor(THREADS) as side:
        for step in steps(budget, "facility location", work):
            while heap[0][2] < step:
                old: list[int] = []
                while heap and len(old) < AT_ONCE and heap[0][2] < step:
                    old.append(heapq.heappop(heap)[1])
                halves = np.array_split(np.array(old), THREADS)
                found = side.map(points.gains, halves, THREADS * [cover])
                for row, gain in zip(old, np.concatenate(list(found)).tolist(), strict=True):
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
    """Maximise the facility location of a sparse matrix greedily.

    F is that of `greedy_exact` with a matrix s >= 0, which is 0 where nothing is stored.

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
    greedy = require("selection.kernels").facility_greedy
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
    """Find the nearest chosen row of every row, and its distance.

    Of equally near rows it is the first.

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
    """Count the bytes of similarities that are in memory at once.

    They are three arrays of one block.
    """
    return 24 * min(max(BLOCK_VALUES, m), m * m)


Mode = Literal["auto", "exact", "sparse"]
EXACT_UP_TO = 20_000  # examples of one class, in "auto" and for the sparse mode's loss


@dataclass(frozen=True)
class FacilityLocation(Conditional):
    """Covers all examples by near picks: greedy facility location.

    It maximises F(S) = sum_i max_{j in S} (max d - d_ij), d Euclidean on the features.

    Weights are cluster sizes: a pick counts for itself, every other example for the pick nearest to
    it, the earliest of equals. Given examples are in S from the start: gains and the objective are
    what the picks add, and who is as near to a given example as to any pick counts for no pick.

    Args:
        mode: "exact" recomputes blocks of similarities; "sparse" knows those of the k nearest
            neighbours only (0 elsewhere, max d the largest of them); "auto": exact up to 20,000
            examples a class. Sparse answers report `sparse_loss`, what they lose of the exact
            greedy F, relative, where a class has at most 20,000 examples.
        neighbours: k of the sparse mode.
        per_class: whether each label has its own F and a part of the budget: given examples and
            picks together are in proportion to its size (largest remainder).

    Memory: 16 m d + 200 m + 64 budget bytes and three blocks of 32 MiB for a class of m examples,
    and 72 m k bytes more in the sparse mode.

    Source: Mirzasoleiman et al., CRAIG, ICML 2020, arXiv:1906.01827; lazy greedy, Minoux 1978.
    """

    mode: Mode = "auto"
    neighbours: int = 20
    per_class: bool = False

    name: ClassVar[str] = "facility-location"
    optional: ClassVar[frozenset[str]] = frozenset({"features", "labels"})

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(Mode))
        check_integer("neighbours", self.neighbours, 1, 2**31)

    def _rows(self, pool: Pool, given: Given) -> tuple[float, Array, Array]:
        """Scale the rows of the pool and of the given examples.

        The factor that distances are multiplied by comes first.
        """
        return lifted(pool.matrix("features"), given.values(pool, "features"))

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        scale, rows, before = self._rows(pool, given)
        outside = before[len(given.rows) :]
        classes = given.class_parts(pool, self.per_class)
        counts = shares(classes, budget)
        used = [(one, count) for one, count in zip(classes, counts, strict=True) if count]
        parts = [
            self._one_class(
                rows if len(classes) == 1 else rows[one.rows],
                count,
                seed,
                one.inside,
                outside[one.outside],
            )
            for one, count in used
        ]
        details: dict[str, Any] = {"mode": [part.diagnostics["mode"] for part in parts]}
        losses = [p.diagnostics["loss"] for p in parts if "loss" in p.diagnostics]
        if losses:
            details["sparse_loss"] = losses
        return Subset.of(
            np.concatenate(
                [one.rows[part.indices] for (one, _), part in zip(used, parts, strict=True)]
            ),
            weights=np.concatenate([part.weights for part in parts]),
            gains=scale * np.concatenate([part.gains for part in parts if part.gains is not None]),
            objective=scale * sum(part.objective or 0.0 for part in parts),
            requested=budget,
            nested=len(classes) == 1,
            mean_distance=scale
            * float(
                sum(part.diagnostics["distances"] for part in parts)
                / sum(len(one.rows) for one, _ in used)
            ),
            **details,
        )

    def _one_class(
        self, rows: Array, budget: int, seed: int, inside: Integers, outside: Array
    ) -> Subset:
        """Pick from one class.

        Some of its rows are given, and others may be given from outside.
        """
        m = len(rows)
        exact = self.mode == "exact" or (self.mode == "auto" and m <= EXACT_UP_TO) or m == 1
        details: dict[str, Any] = {"mode": "exact" if exact else "sparse"}
        before = np.concatenate([rows[inside], outside])
        allowed = Given(inside).rest(m)
        points = Points(rows, before) if exact or m <= EXACT_UP_TO else None
        if exact and points is not None:
            picks, gains = greedy_exact(points, budget, allowed)
        else:
            everyone = np.concatenate([rows, outside]) if len(outside) else rows
            k = min(self.neighbours, len(everyone) - 1)
            matrix = neighbour_similarity(everyone, k, seed)
            cover = None
            if len(before):
                there = np.concatenate([inside, np.arange(m, len(everyone))])
                cover = matrix[:m, there].max(axis=1).toarray()
                matrix = matrix[:m, :m]
            picks, gains = greedy_sparse(matrix, budget, cover, allowed)
            if points is not None:
                best = float(np.sum(greedy_exact(points, budget, allowed)[1]))
                lost = best - points.objective(picks)
                details["loss"] = lost / best if best > 0 else 0.0
        owner, nearest = assign(rows, picks, before)
        return Subset.of(
            picks,
            requested=budget,
            weights=np.bincount(owner[owner >= 0], minlength=budget),
            gains=gains,
            objective=float(np.sum(gains)),
            distances=float(np.sum(nearest)),
            **details,
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of exact classes, or of sparse ones.

        Exact classes hold points and blocks, sparse ones a graph.
        """
        m = -(-n // classes) if self.per_class else n
        picks = 64 * budget + block_bytes(m)
        if self.mode == "exact" or (self.mode == "auto" and m <= EXACT_UP_TO):
            return 16 * m * d + 200 * m + picks
        return 16 * m * d + 72 * m * self.neighbours + 200 * m + picks


def neighbour_similarity(rows: Array, k: int, seed: int) -> csr_array:
    """Compute the similarities of nearest neighbours.

    They are max d - d_ij where j is among the k nearest neighbours of i or i among those of j, else
    0.

    The diagonal is max d.
    """
    graph = knn_graph(rows, k, metric="euclidean", seed=seed)
    distances = np.sqrt(graph.squared_distances)
    largest = float(np.max(distances))
    # Rounding in single precision leaves exact copies at small distances: largest > 0 is enough.
    near = graph.symmetric(largest - distances)
    return csr_array(near + diags_array(np.full(len(rows), largest)))


def gradients_or_features(pool: Pool, given: Given) -> tuple[Array, Array]:
    """Take last-layer gradients of the pool and the given examples.

    Without gradients their features are taken.

    Features stand for gradients in convex models.

    Raises:
        ValueError: the pool has neither, or given examples from outside lack what it has.
    """
    if pool.gradients is not None:
        return pool.gradients, given.values(pool, "gradients")
    if pool.features is None:
        raise ValueError("the method needs gradients or features, and the pool has neither")
    return pool.matrix("features"), given.values(pool, "features")


@dataclass(frozen=True)
class CRAIG(FacilityLocation):
    """Applies facility location to last-layer gradients, class by class.

    Weights are cluster sizes.

    sum_i min_{j in S} norm(g_i - g_j) bounds the error of the weighted gradient; features stand
    for gradients in a pool without them (convex models).

    Args:
        mode: "exact", "sparse" or "auto", as for facility location.
        neighbours: k of the sparse mode.
        per_class: whether labels, where the pool has them, are treated one by one.

    Memory: that of facility location.

    Source: Mirzasoleiman et al., ICML 2020, arXiv:1906.01827.
    """

    per_class: bool = True

    name: ClassVar[str] = "craig"
    optional: ClassVar[frozenset[str]] = frozenset({"gradients", "features", "labels"})

    def _rows(self, pool: Pool, given: Given) -> tuple[float, Array, Array]:
        return lifted(*gradients_or_features(pool, given))


@dataclass(frozen=True)
class AdaCore(CRAIG):
    """Applies CRAIG to preconditioned gradients.

    The diagonal of the Hessian preconditions them: g / (abs(h) + damping).

    Args:
        mode: "exact", "sparse" or "auto", as for facility location.
        neighbours: k of the sparse mode.
        per_class: whether labels, where the pool has them, are treated one by one.
        damping: added to abs(h), as a fraction of its mean, > 0.
        curvature: h, shape (g,), for instance Hutchinson's estimate; by default the mean square of
            the gradients, the empirical Fisher information.

    Memory: that of facility location + 8 n d bytes.

    Source: Pooladzandi et al., AdaCore, ICML 2022, arXiv:2207.13887.
    """

    damping: float = 0.01
    curvature: Floats | None = None

    name: ClassVar[str] = "adacore"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("damping", self.damping, 0, np.inf, open_low=True, open_high=True)

    def _rows(self, pool: Pool, given: Given) -> tuple[float, Array, Array]:
        scale, gradients, before = lifted(*gradients_or_features(pool, given))
        if self.curvature is None:
            scale = 1 / scale  # the curvature is quadratic in the gradients
            curvature = np.einsum("ij,ij->j", gradients, gradients, dtype=np.float64)
            curvature /= len(gradients)
        else:
            curvature = np.abs(np.asarray(self.curvature, dtype=np.float64))
            if curvature.shape != gradients.shape[1:]:
                raise ValueError(
                    f"curvature has shape {curvature.shape}; the gradients need "
                    f"{gradients.shape[1:]}"
                )
        floor = self.damping * float(np.mean(curvature))
        curvature += floor if floor > 0 else 1.0
        return scale, np.asarray(gradients / curvature), np.asarray(before / curvature)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of CRAIG and of the preconditioned gradients."""
        return super().memory_bytes(n, d, budget, classes) + 8 * n * d
