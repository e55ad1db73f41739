"""Methods that cover the features one pick at a time: k-center and herding."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from tqdm import tqdm

from hardset.checks import check_choice
from selection.core.arrays import BLOCK_VALUES, Array, Floats, square_distances
from selection.core.pool import Pool
from selection.core.selector import Selector, generator
from selection.core.subset import Subset

__all__ = ["Herding", "KCenter"]

First = Literal["random", "central"]


@dataclass(frozen=True)
class KCenter(Selector):
    """Farthest-first traversal: each pick is the example farthest from those already picked.

    Its radius max_i min_{j in S} norm(h_i - h_j), the objective, is at most twice the least one.

    Args:
        first: "random", or "central": the example nearest to the mean.

    Memory: 16 n + 32 budget + 32 d bytes + two blocks of at most 32 MiB; time O(n d budget).

    Source: Gonzalez 1985; Sener and Savarese, ICLR 2018.
    """

    first: First = "random"

    name: ClassVar[str] = "k-center"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __post_init__(self) -> None:
        check_choice("first", self.first, get_args(First))

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        features = pool.matrix("features")
        n = len(features)
        if self.first == "random":
            pick = int(generator(seed).integers(n))
        else:
            pick = int(np.argmin(square_distances(features, _mean(features))))
        picks = np.empty(budget, np.int64)
        nearest = np.full(n, np.inf)
        for t in _bar(self.name, budget):
            picks[t] = pick
            np.minimum(nearest, square_distances(features, features[pick]), out=nearest)
            # A copy of a pick is as near as the pick itself, and is picked last.
            nearest[pick] = -1.0
            pick = int(np.argmax(nearest))
        radius = float(np.sqrt(max(float(nearest.max()), 0.0)))
        return Subset.of(picks, requested=budget, objective=radius, nested=True)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Distances to the last pick and to the nearest one, blocks of differences."""
        return 16 * n + 32 * budget + 32 * d + 16 * min(n * d, BLOCK_VALUES)


@dataclass(frozen=True)
class Herding(Selector):
    """Picks argmin_x norm((t + 1) mu - sum_S h - x): the mean of the picks follows the mean mu.

    The objective is norm(mean of the picks - mu).

    Memory: 16 n + 32 budget + 32 d bytes + two blocks of at most 32 MiB; time O(n d budget).

    Source: Welling, Herding dynamical weights to learn, ICML 2009.
    """

    name: ClassVar[str] = "herding"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        features = pool.matrix("features")
        mean = _mean(features)
        picks = np.empty(budget, np.int64)
        taken = np.zeros(len(features), dtype=bool)
        total = np.zeros_like(mean)
        for t in _bar(self.name, budget):
            distances = square_distances(features, (t + 1) * mean - total)
            distances[taken] = np.inf
            picks[t] = np.argmin(distances)
            taken[picks[t]] = True
            total += features[picks[t]]
        gap = float(np.linalg.norm(total / budget - mean))
        return Subset.of(picks, requested=budget, objective=gap, nested=True)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Distances and marks, blocks of differences."""
        return 16 * n + 32 * budget + 32 * d + 16 * min(n * d, BLOCK_VALUES)


def _bar(name: str, budget: int) -> "tqdm[int]":
    """The picks, with a bar on a terminal if they take longer than two seconds."""
    return tqdm(range(budget), desc=name, unit="pick", delay=2, leave=False, disable=None)


def _mean(features: Array) -> Floats:
    return np.mean(features, axis=0, dtype=np.float64)
