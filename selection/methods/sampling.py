"""Samples examples with unequal probabilities, and weighs them back."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from selection.arrays import Floats
from selection.pool import Pool
from selection.selector import Selector, generator
from selection.subset import Subset

CERTAIN = 1 - 1e-9  # inclusion probabilities that only rounding keeps from 1


@dataclass(frozen=True)
class ImportanceSample(Selector):
    """Draws `budget` examples with probabilities in proportion to their scores.

    Example i is kept with probability q_i = min(1, c s_i), where c makes the sum of all q_i the
    budget, and has the weight 1 / q_i. So the weighted sum of anything over the kept examples has
    the sum over the pool as its mean, and the weights add up to the size of the pool on average.
    Given examples are in neither sum.

    With the scores pi of `a-optimal` or `l-optimal` and no q_i at 1, the weight is
    1 / (budget pi_i): a weighted logistic regression on the kept examples estimates that of the
    pool. The authors of those scores draw with replacement; this draw, systematic after a
    permutation, keeps no example twice.

    Memory: 72 n + 48 budget bytes.

    Raises:
        ValueError: a score below 0, or fewer scores above 0 than the budget.

    Source: Wang, Zhu and Ma, arXiv:1702.01166, the weights; Madow, On the theory of systematic
    sampling, II, Annals of Mathematical Statistics 1949, the draw.
    """

    name: ClassVar[str] = "importance"
    needs: ClassVar[frozenset[str]] = frozenset({"scores"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        assert pool.scores is not None
        chances = inclusion_probabilities(pool.scores.values, budget)
        random = generator(seed)
        certain = np.flatnonzero(chances == 1)
        order = random.permutation(np.flatnonzero((chances > 0) & (chances < 1)))
        left = budget - len(certain)
        drawn = order[:0]
        if left:
            ends = np.cumsum(chances[order])
            ends *= left / ends[-1]
            # One point in each unit: an example, whose stretch is shorter, holds one at most.
            points = random.random() + np.arange(left)
            drawn = order[np.searchsorted(ends[:-1], points, side="right")]
        rows = np.concatenate([certain, drawn])
        return Subset.of(rows, weights=1 / chances[rows], requested=budget, certain=len(certain))

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of probabilities, their order, their sums and the points."""
        return 72 * n + 48 * budget


def inclusion_probabilities(scores: Floats, budget: int) -> Floats:
    """Find probabilities min(1, c s_i) that add up to the budget, shape (n,).

    Args:
        scores: >= 0, shape (n,).
        budget: 1 to the number of scores above 0.

    Raises:
        ValueError: a score below 0, or fewer scores above 0 than the budget.
    """
    if np.any(scores < 0):
        row = int(np.argmax(scores < 0))
        raise ValueError(
            f"scores holds {scores[row]:g} at row {row}; importance sampling needs scores >= 0"
        )
    shares = scores / max(float(scores.max()), np.finfo(np.float64).tiny)
    positive = int(np.count_nonzero(shares))
    if positive < budget:
        raise ValueError(f"{positive} scores are above 0, fewer than the budget {budget}")
    chances = np.zeros(len(scores))
    while True:
        free = chances < 1
        left = budget - np.count_nonzero(~free)
        total = shares[free].sum()
        if total == 0:
            return chances
        chances[free] = left / total * shares[free]
        full = free & (chances >= CERTAIN)
        if not np.any(full):
            return chances
        chances[full] = 1.0
