"""Methods that cover the features one pick at a time: k-center and herding."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from tqdm import tqdm

from hardset.checks import check_choice
from selection.core.arrays import BLOCK_VALUES, Array, Floats, square_distances
from selection.core.given import Given
from selection.core.magnitude import lifted
from selection.core.pool import Pool
from selection.core.progress import steps
from selection.core.selector import Conditional, generator
from selection.core.subset import Subset
from selection.core.ties import first_largest, first_least

__all__ = ["Herding", "KCenter"]

First = Literal["random", "central"]


@dataclass(frozen=True)
class KCenter(Conditional):
    """Farthest-first traversal: each pick is the example farthest from those already picked.

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
        for t in _bar(self.name, budget):
            picks[t] = pick
            np.minimum(nearest, square_distances(features, features[pick]), out=nearest)
            # A copy of a pick is as near as the pick itself, and is picked last.
            nearest[pick] = -1.0
            pick = first_largest(nearest)
        radius = scale * float(np.sqrt(max(float(nearest.max()), 0.0)))
        return Subset.of(picks, requested=budget, objective=radius, nested=True)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Distances to the last pick and to the nearest one, blocks of differences."""
        return 16 * n + 32 * budget + 32 * d + 16 * min(n * d, BLOCK_VALUES)


@dataclass(frozen=True)
class Herding(Conditional):
    """Picks argmin_x norm((t + 1) mu - sum_S h - x): the mean of the picks follows the mean mu.

    The objective is norm(mean of the picks - mu). mu is the mean of the pool, given examples are
    the first t of S.

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
        for t in _bar(self.name, budget):
            picks[t] = _nearest(features, (len(given) + t + 1) * mean - total, taken)
            taken[picks[t]] = True
            total += features[picks[t]]
        gap = scale * float(np.linalg.norm(total / (len(given) + budget) - mean))
        return Subset.of(picks, requested=budget, objective=gap, nested=True)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Distances and marks, blocks of differences."""
        return 16 * n + 32 * budget + 32 * d + 16 * min(n * d, BLOCK_VALUES)


def _bar(name: str, budget: int) -> "tqdm[int]":
    """The picks, with a bar on a terminal if they take longer than two seconds."""
    return tqdm(range(budget), desc=name, unit="pick", delay=2, leave=False, disable=None)


def _nearest(features: Array, point: Floats, taken: Array | None = None) -> int:
    """The first example, none of those taken, that is nearest to a point but for rounding."""
    distances = square_distances(features, point)
    if taken is not None:
        distances[taken] = np.inf
    least = float(np.min(distances))
    # What rounding of the point, a mean or a sum, does to the square of the distance.
    size = least + float(np.sqrt(least)) * float(np.linalg.norm(point))
    return first_least(distances, size)


def _mean(features: Array) -> Floats:
    return np.mean(features, axis=0, dtype=np.float64)
