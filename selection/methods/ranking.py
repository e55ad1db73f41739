"""Selects by ranking the examples.

The methods are hard, easy, random, moderate, CCS and the theory's window.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hardset.checks import check_integer, check_range
from selection.arrays import BLOCK_VALUES, Floats, Integers, blocks, lifted
from selection.pool import Pool, levels
from selection.selector import Selector, generator
from selection.subset import Subset

# At these pruned shares CCS drops these shares of the hardest examples (its authors, CIFAR-10).
PRUNED = (0.0, 0.5, 0.7, 0.8, 0.9)
DROPPED = (0.0, 0.0, 0.1, 0.1, 0.3)


def hardest_first(pool: Pool) -> Integers:
    """Order rows by descending score.

    Rows of equal score keep their order.
    """
    assert pool.scores is not None
    return np.argsort(-pool.scores.values, kind="stable")


def _ranked(order: Integers, budget: int, values: Floats, sign: float) -> Subset:
    rows = order[:budget]
    gains = sign * values[rows]
    return Subset.of(rows, requested=budget, gains=gains, objective=float(gains.sum()), nested=True)


@dataclass(frozen=True)
class HardestFirst(Selector):
    """Keeps the `budget` examples of highest score.

    So it maximises the sum of the scores.

    Memory: 24 n + 32 budget bytes.
    """

    name: ClassVar[str] = "hard"
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        assert pool.scores is not None
        return _ranked(hardest_first(pool), budget, pool.scores.values, 1.0)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of negated scores, their order and room to sort."""
        return 24 * n + 32 * budget


@dataclass(frozen=True)
class EasiestFirst(Selector):
    """Keeps the `budget` examples of lowest score.

    So it maximises the sum of the negated scores.

    Memory: 16 n + 32 budget bytes.
    """

    name: ClassVar[str] = "easy"
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        assert pool.scores is not None
        order = np.argsort(pool.scores.values, kind="stable")
        return _ranked(order, budget, pool.scores.values, -1.0)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of the order and of room to sort."""
        return 16 * n + 32 * budget


@dataclass(frozen=True)
class RandomSample(Selector):
    """Keeps `budget` examples uniformly at random, without replacement.

    Memory: 8 n + 32 budget bytes.
    """

    name: ClassVar[str] = "random"
    optional: ClassVar[frozenset[str]] = frozenset()

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        rows = generator(seed).permutation(len(pool))[:budget]
        return Subset.of(rows, requested=budget, nested=True)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of a permutation."""
        return 8 * n + 32 * budget


@dataclass(frozen=True)
class ModerateCoreset(Selector):
    """Keeps the middle of the distances to the class median.

    Kept are the rank quantiles [.5 - r/2, .5 + r/2], r = budget / n, of norm(h_i - m), nearest to
    the middle rank first; m is the coordinatewise median of the features of the example's class.
    A pool without labels is one class.

    Memory: 40 n + 24 d n / classes + 32 budget bytes + two blocks of 32 MiB.

    Source: Xia et al., Moderate coreset, ICLR 2023.
    """

    name: ClassVar[str] = "moderate"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    optional: ClassVar[frozenset[str]] = frozenset({"labels"})

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        n = len(pool)
        order = np.argsort(levels(median_distances(pool)), kind="stable")
        first = (n - budget) // 2
        middle = np.argsort(np.abs(np.arange(budget) - (budget - 1) / 2), kind="stable")
        return Subset.of(order[first : first + budget][middle], requested=budget)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of distances, their order, one class and blocks.

        A class has its features and their median. The blocks hold differences.
        """
        return 40 * n + 24 * d * -(-n // classes) + 32 * budget + 16 * BLOCK_VALUES


def median_distances(pool: Pool) -> Floats:
    """Measure each example's distance to the median of its class.

    The median is coordinatewise. The shape is (n,).
    """
    features = pool.matrix("features")
    scale, features, _ = lifted(features, features[:0])
    labels = np.zeros(len(pool), np.int64) if pool.labels is None else pool.labels
    distances = np.empty(len(pool))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        median = np.median(features[rows], axis=0).astype(np.float64)
        for block in blocks(len(rows), features.shape[1]):
            distances[rows[block]] = np.linalg.norm(features[rows[block]] - median, axis=1)
    return scale * distances


@dataclass(frozen=True)
class CCS(Selector):
    """Keeps as equal a share as possible of every stratum of the scores.

    This is coverage-centric selection.

    The floor(cutoff * n) hardest examples are dropped. The others fall into `bins` bins of equal
    width; bins are visited by ascending size, each gives min(size, floor(left / bins left))
    examples, chosen at random.

    Args:
        cutoff: share of the hardest that is dropped, in [0, 1); default: interpolated between the
            values for CIFAR-10 at pruned shares of .5, .7, .8, .9, which are 0, .1, .1, .3.
        bins: number of strata, >= 1.

    Memory: 64 n + 32 budget bytes.

    Source: Zheng et al., Coverage-centric coreset selection, ICLR 2023.
    """

    cutoff: float | None = None
    bins: int = 50

    name: ClassVar[str] = "ccs"
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if self.cutoff is not None:
            check_range("cutoff", self.cutoff, 0.0, 1.0, open_high=True)
        check_integer("bins", self.bins, 1, 10**9)

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        assert pool.scores is not None
        n = len(pool)
        cutoff = self.cutoff
        if cutoff is None:
            cutoff = float(np.interp(1 - budget / n, PRUNED, DROPPED))
        dropped = int(np.floor(cutoff * n))
        if n - dropped < budget:
            raise ValueError(
                f"cutoff = {cutoff:g} drops {dropped} of {n} examples and leaves {n - dropped}, "
                f"fewer than the budget {budget}; it must be at most {1 - budget / n:.4g}"
            )
        rows = np.sort(hardest_first(pool)[dropped:])
        strata = _strata(pool.scores.values[rows], self.bins)
        chosen = []
        left = budget
        random = generator(seed)
        for visited, members in enumerate(sorted(strata, key=len)):
            share = min(len(members), left // (self.bins - visited))
            chosen.append(rows[random.permutation(members)[:share]])
            left -= share
        return Subset.of(np.concatenate(chosen), requested=budget, cutoff=cutoff, dropped=dropped)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of scores, their order, remaining rows and strata."""
        return 64 * n + 32 * budget


def _strata(values: Floats, bins: int) -> list[Integers]:
    """Group positions by bins of equal width.

    The bins lie between the least and the largest value.
    """
    low, high = float(values.min()), float(values.max())
    if high > low:
        position = np.minimum((values - low) / (high - low) * bins, bins - 1).astype(np.int64)
    else:
        position = np.zeros(len(values), np.int64)
    order = np.argsort(position, kind="stable")
    return np.split(order, np.cumsum(np.bincount(position, minlength=bins))[:-1])


@dataclass(frozen=True)
class TheoryWindow(Selector):
    """Keeps the window of ranks whose error in the theory is least.

    The hardest example has rank 0.

    The kept fraction is budget / n.

    The window starts at rank lo n, with lo from `replica.optimal_window(alpha_total, f, theta)`;
    `recommend` estimates both arguments from data. Hardest first.

    Args:
        alpha_total: examples over the effective dimension of the features, > 0.
        theta_deg: angle between the probe that gave the scores and the target, 0 to 90 degrees.

    Memory: 24 n + 32 budget bytes.
    """

    alpha_total: float
    theta_deg: float = 0.0

    name: ClassVar[str] = "optimal-window"
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_range("alpha_total", self.alpha_total, 0.0, np.inf, open_low=True)
        check_range("theta_deg", self.theta_deg, 0.0, 90.0, unit="degrees")

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        from replica import SearchStatus, optimal_window  # seconds that wrong options need not pay

        n = len(pool)
        best = optimal_window(self.alpha_total, budget / n, np.deg2rad(self.theta_deg))
        lo, error, hard, random = (
            float(np.asarray(value))
            for value in (best.lo, best.error, best.hard_error, best.random_error)
        )
        if np.asarray(best.status) != SearchStatus.FOUND:
            raise ValueError(
                f"the theory has no certified window at alpha_total = {self.alpha_total:g}, "
                f"theta_deg = {self.theta_deg:g}, keep_fraction = {budget / n:g}"
            )
        first = min(int(np.floor(lo * n + 0.5)), n - budget)
        return Subset.of(
            hardest_first(pool)[first : first + budget],
            requested=budget,
            lo=lo,
            theory_error=error,
            theory_error_hard=hard,
            theory_error_random=random,
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of negated scores, their order and room to sort."""
        return 24 * n + 32 * budget
