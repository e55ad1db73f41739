"""Selects examples that spread out.

The methods are k-center, herding, coding rate, volume and dispersion.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np

from hardset.checks import check_choice, check_range
from hardset.progress import steps
from selection.arrays import (
    BLOCK_VALUES,
    Array,
    Floats,
    Integers,
    lifted,
    square_distances,
    unit_rows,
)
from selection.given import Given
from selection.graph import mean_view
from selection.pool import Pool, first_largest, first_least
from selection.selector import Conditional, generator
from selection.subset import Subset

First = Literal["random", "central"]


@dataclass(frozen=True)
class KCenter(Conditional):
    """Picks the example farthest from those already picked, again and again.

    Its radius max_i min_{j in S} norm(h_i - h_j), the objective, is at most twice the least one;
    given examples are in S from the start.

    Args:
        first: "random", or "central": the example nearest to the mean; where examples are given,
            the first pick is the one farthest from them.

    Memory: 16 n + 32 budget + 32 d bytes + two blocks of at most 32 MiB; time O(n d budget).

    Source: Gonzalez 1985; Sener and Savarese, ICLR 2018.
    """

    first: First = "random"

    name: ClassVar[str] = "k-center"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_choice("first", self.first, get_args(First))

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        scale, features, before = lifted(pool.matrix("features"), given.values(pool, "features"))
        n = len(features)
        nearest = np.full(n, np.inf)
        for at in steps(len(before), "given", before.shape[0] * features.size):
            np.minimum(nearest, square_distances(features, before[at]), out=nearest)
        nearest[given.rows] = -1.0
        if len(given):
            pick = first_largest(nearest)
        elif self.first == "random":
            pick = int(generator(seed).integers(n))
        else:
            pick = _nearest(features, _mean(features))
        picks = np.empty(budget, np.int64)
        for t in steps(budget, self.name, float(budget) * features.size):
            picks[t] = pick
            np.minimum(nearest, square_distances(features, features[pick]), out=nearest)
            # A copy of a pick is as near as the pick itself, and is picked last.
            nearest[pick] = -1.0
            pick = first_largest(nearest)
        radius = scale * float(np.sqrt(max(float(nearest.max()), 0.0)))
        return Subset.of(picks, requested=budget, objective=radius, nested=True)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of distances and blocks of differences.

        The distances are those to the last pick and to the nearest one.
        """
        return 16 * n + 32 * budget + 32 * d + 16 * min(n * d, BLOCK_VALUES)


@dataclass(frozen=True)
class Herding(Conditional):
    """Picks examples whose mean follows the mean of the pool.

    With mu the mean of the pool, it picks argmin_x norm((t + 1) mu - sum_S h - x).

    The objective is norm(mean of the picks - mu). Given examples are the first t of S.

    Memory: 16 n + 32 budget + 32 d bytes + two blocks of at most 32 MiB; time O(n d budget).

    Source: Welling, Herding dynamical weights to learn, ICML 2009.
    """

    name: ClassVar[str] = "herding"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        scale, features, before = lifted(pool.matrix("features"), given.values(pool, "features"))
        mean = _mean(features)
        picks = np.empty(budget, np.int64)
        taken = np.zeros(len(features), dtype=bool)
        taken[given.rows] = True
        total = np.sum(before, axis=0, dtype=np.float64)
        for t in steps(budget, self.name, float(budget) * features.size):
            picks[t] = _nearest(features, (len(given) + t + 1) * mean - total, taken)
            taken[picks[t]] = True
            total += features[picks[t]]
        gap = scale * float(np.linalg.norm(total / (len(given) + budget) - mean))
        return Subset.of(picks, requested=budget, objective=gap, nested=True)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of distances, marks and blocks of differences."""
        return 16 * n + 32 * budget + 32 * d + 16 * min(n * d, BLOCK_VALUES)


def _nearest(features: Array, point: Floats, taken: Array | None = None) -> int:
    """Find the first example that is nearest to a point but for rounding.

    Examples that are taken are left out.
    """
    distances = square_distances(features, point)
    if taken is not None:
        distances[taken] = np.inf
    least = float(np.min(distances))
    # The point is a mean or a sum. Its rounding changes the squared distance by this much.
    size = least + float(np.sqrt(least)) * float(np.linalg.norm(point))
    return first_least(distances, size)


def _mean(features: Array) -> Floats:
    return np.mean(features, axis=0, dtype=np.float64)


FLAT = 1e-12  # of the largest squared distance: nothing is beside a span
TIE = 1e-9  # relative difference of gains that counts as none


def greedy_log_det(
    rows: Floats,
    budget: int,
    strength: float,
    before: Floats | None = None,
    taken: Integers | None = None,
) -> tuple[Integers, Floats]:
    """Maximise log det(I + a Z_S^T Z_S) greedily.

    The gain of each pick is returned too.

    The gain of i is log(1 + a z_i^T M^-1 z_i), M = I + a Z_S^T Z_S, by rank-one updates: O(n d)
    a pick, no n x n matrix.

    Args:
        rows: Z, shape (n, d).
        budget: number of picks.
        strength: a > 0.
        before: rows that are in S from the start, shape (k, d).
        taken: rows of Z that cannot be picked.
    """
    n, d = rows.shape
    inverse: Floats = np.eye(d)
    leverage = np.einsum("ij,ij->i", rows, rows)
    if before is not None and len(before):
        inverse = np.asarray(np.linalg.inv(inverse + strength * before.T @ before), np.float64)
        leverage = np.einsum("ij,ij->i", rows @ inverse, rows)
    picks, gains = np.empty(budget, np.int64), np.empty(budget)
    out = np.zeros(n, dtype=bool)
    out[[] if taken is None else taken] = True
    for step in steps(budget, "coding rate", budget * rows.size):
        left = np.where(out, -np.inf, leverage)
        # Rows of one norm start as equals. The first is picked, not the one that rounding favours.
        pick = int(np.argmax(left >= np.max(left) * (1 - TIE)))
        own = float(rows[pick] @ inverse @ rows[pick])
        picks[step], gains[step] = pick, np.log1p(strength * own)
        out[pick] = True
        direction = inverse @ rows[pick]
        scale = strength / (1 + strength * own)
        inverse -= scale * np.outer(direction, direction)
        leverage -= scale * (rows @ direction) ** 2
    return picks, gains


@dataclass(frozen=True)
class CodingRate(Conditional):
    """Maximises the coding rate greedily.

    The coding rate is log det(I + d/(p eps^2) Z_S^T Z_S) / 2, rows of unit norm.

    p is the budget, so that the picks for one budget are no prefix of those for another. Given
    examples are in S from the start and count in p; gains are what the picks add.

    Args:
        precision: eps > 0, the distortion up to which features are coded.

    Memory: 24 n d + 48 n + 32 d^2 bytes; time O(n d budget).

    Source: Yu et al., maximal coding rate reduction, NeurIPS 2020, arXiv:2006.08558.
    """

    precision: float = 0.5

    name: ClassVar[str] = "coding-rate"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_range("precision", self.precision, 0, np.inf, open_low=True, open_high=True)

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        assert pool.features is not None
        unit, before = (
            unit_rows("features", np.asarray(mean_view(views), dtype=np.float64))
            for views in (pool.features, given.values(pool, "features"))
        )
        strength = unit.shape[1] / ((len(given) + budget) * self.precision**2)
        picks, gains = greedy_log_det(unit, budget, strength, before, given.rows)
        return Subset.of(
            picks, requested=budget, gains=gains / 2, objective=float(np.sum(gains)) / 2
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of unit vectors, leverages and the inverse."""
        return 24 * n * d + 48 * n + 32 * d * d


@dataclass(frozen=True)
class HullVolume(Conditional):
    """Picks the examples that span most.

    That is the volume of a simplex, or the sum of distances.

    "volume": the pick farthest from the affine span of the picks so far, which multiplies the
    simplex volume by distance/size; when the span is full (after d + 1 picks), a new simplex is
    begun among the rest. "dispersion": the pick with the largest sum of distances to all picks, at
    least half the largest sum of pairwise distances. Both begin farthest from the mean.

    Given examples are picks before the first one: the volume grows from their affine span, or from
    their mean where that span is full already, and their distances count in the sums.

    Args:
        measure: "volume" or "dispersion".

    Memory: 32 n d + 64 n bytes and two blocks of 32 MiB; time O(n d budget).

    Source: Yu et al., 2022 (dispersion and convex hull volume); Ravi, Rosenkrantz and Tayi 1994.
    """

    measure: Literal["volume", "dispersion"] = "volume"

    name: ClassVar[str] = "hull-volume"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_choice("measure", self.measure, ("volume", "dispersion"))

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        scale, features, before = lifted(pool.matrix("features"), given.values(pool, "features"))
        taken = np.zeros(len(pool), dtype=bool)
        taken[given.rows] = True
        if self.measure == "volume":
            rows, before = np.asarray(features, np.float64), np.asarray(before, np.float64)
            picks, gains = _simplices(rows, budget, before, taken)
            return Subset.of(picks, requested=budget, gains=scale * gains, nested=True)
        picks, gains = _dispersed(features, budget, before, taken)
        gains = scale * gains
        return Subset.of(
            picks, requested=budget, gains=gains, objective=float(np.sum(gains)), nested=True
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of all residuals, or of blocks of differences."""
        return 32 * n * d + 64 * n + 16 * min(n * d, BLOCK_VALUES)


def _simplices(rows: Floats, budget: int, before: Floats, taken: Array) -> tuple[Integers, Floats]:
    """Pick by Gram-Schmidt, simplex after simplex.

    The distances of the picks to the span of their own simplex are returned too.

    Args:
        rows: shape (n, d).
        budget: number of picks.
        before: the first vertices, shape (k, d).
        taken: rows that cannot be picked, shape (n,).
    """
    mean = np.mean(rows, axis=0)
    centred = rows - mean
    distances = np.einsum("ij,ij->i", centred, centred)
    scale = float(np.max(distances))
    # A mean is right up to its own rounding, and so are distances from it.
    offset = float(np.linalg.norm(mean))
    taken = taken.copy()
    picks, gains = np.empty(budget, np.int64), np.empty(budget)
    residual, squares, first = centred, np.zeros(len(rows)), True
    if len(before):
        residual = _beside(rows, before, taken, FLAT * scale)
        squares, first = np.einsum("ij,ij->i", residual, residual), False
    for step in steps(budget, "hull volume", budget * rows.size):
        if not first:
            pick = _farthest(squares, taken, np.sqrt(scale))
            if squares[pick] <= FLAT * scale:  # flat up to rounding: begin anew
                first = True
        if first:
            pick = _farthest(distances, taken, offset)
            gains[step] = np.sqrt(distances[pick])
            residual = centred - centred[pick]
            first = False
        else:
            gains[step] = np.sqrt(squares[pick])
            direction = residual[pick] / gains[step]
            residual -= np.outer(residual @ direction, direction)
        picks[step] = pick
        taken[pick] = True
        squares = np.einsum("ij,ij->i", residual, residual)
    return picks, gains


def _beside(rows: Floats, before: Floats, taken: Array, flat: float) -> Floats:
    """Return rows relative to the affine span of other rows.

    They are relative to the others' mean where nothing lies beside the span.
    """
    centre = np.mean(before, axis=0)
    shifted = rows - centre
    _, sizes, axes = np.linalg.svd(before - centre, full_matrices=False)
    axes = axes[sizes**2 > flat]
    beside = shifted - (shifted @ axes.T) @ axes
    left = np.einsum("ij,ij->i", beside, beside)[~taken]
    return beside if np.max(left) > flat else shifted


def _farthest(squares: Floats, taken: Array, size: float) -> int:
    """Find the first farthest row that is not taken.

    Rows are farthest but for rounding of points of some size.
    """
    left = np.where(taken, -1.0, squares)
    top = max(float(np.max(left)), 0.0)
    return first_largest(left, top + float(np.sqrt(top)) * size)


def _dispersed(rows: Array, budget: int, before: Array, taken: Array) -> tuple[Integers, Floats]:
    """Pick by the sum of distances to the picks before.

    The first of these are the given ones.
    """
    sums = np.zeros(len(rows))
    for at in steps(len(before), "given", before.shape[0] * rows.size):
        sums += np.sqrt(square_distances(rows, before[at]))
    taken = taken.copy()
    picks, gains = np.empty(budget, np.int64), np.empty(budget)
    for step in steps(budget, "dispersion", budget * rows.size):
        if step == 0 and not len(before):
            mean: Floats = np.asarray(np.mean(rows, axis=0, dtype=np.float64))
            offset = float(np.linalg.norm(mean))
            pick = _farthest(square_distances(rows, mean), taken, offset)
        else:
            pick = first_largest(np.where(taken, -1.0, sums))
        picks[step], gains[step] = pick, sums[pick]
        taken[pick] = True
        sums += np.sqrt(square_distances(rows, rows[pick]))
    return picks, gains
