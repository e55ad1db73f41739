"""Methods that draw from clusters: S2L on loss trajectories, BADGE on gradients."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hardset.checks import check_integer
from selection.core.arrays import BLOCK_VALUES, Floats, Integers, blocks
from selection.core.pool import Pool
from selection.core.progress import steps
from selection.core.selector import Selector, generator
from selection.core.subset import Subset
from selection.graphs.kmeans import kmeans
from selection.methods.craig import gradients_or_features

__all__ = ["BADGE", "S2L", "plus_plus"]

NEAR = 0.01  # of two rows' squared norms; nearer than this, their difference is squared


@dataclass(frozen=True)
class S2L(Selector):
    """k-means on loss trajectories; clusters by ascending size give floor(left/clusters left) each.

    Examples are drawn uniformly inside a cluster; one that is smaller than its quota is taken
    whole, and the larger ones share the rest.

    Args:
        clusters: K; at most n are used.

    Memory: 16 n T + 80 n bytes.

    Source: Yang et al., S2L, arXiv:2403.07384.
    """

    clusters: int = 100

    name: ClassVar[str] = "s2l"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectories"})

    def __post_init__(self) -> None:
        check_integer("clusters", self.clusters, 1, 2**31)

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        assert pool.trajectories is not None
        found = kmeans(pool.trajectories, min(self.clusters, len(pool)), seed=seed)
        rng = generator(seed, 1)
        groups = sorted(found.members(), key=len)
        picks: list[Integers] = []
        left = budget
        for number, rows in enumerate(groups):
            quota = min(len(rows), left // (len(groups) - number))
            picks.append(rng.permutation(rows)[:quota])
            left -= quota
        return Subset.of(
            np.concatenate(picks),
            requested=budget,
            clusters=len(groups),
            taken_whole=int(sum(len(p) == len(g) for p, g in zip(picks, groups, strict=True))),
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Trajectories in single precision, a sample of them, assignments."""
        return 16 * n * d + 80 * n


def plus_plus(rows: Floats, budget: int, rng: np.random.Generator) -> tuple[Integers, Floats]:
    """k-means++ seeding: the longest row, then draws with probability ~ min_{j in S} d_ij^2.

    Where all rows left are copies of picks, the draw among them is uniform.

    Args:
        rows: shape (n, d).
        budget: number of picks.
        rng: of the draws.

    Returns:
        The picks, and each one's squared distance to the earlier ones (the first: its norm).
    """
    n = len(rows)
    squares = np.empty(n)
    for part in blocks(n, rows.shape[1]):
        squares[part] = np.einsum("ij,ij->i", rows[part], rows[part], dtype=np.float64)
    picks, gains = np.empty(budget, np.int64), np.empty(budget)
    taken = np.zeros(n, dtype=bool)
    nearest = squares
    pick = int(np.argmax(squares))
    for step in steps(budget, "k-means++", budget * rows.size):
        if step:
            chances = np.where(taken, 0.0, nearest)
            total = np.cumsum(chances)
            if total[-1] <= 0:
                total = np.cumsum(~taken)
            pick = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
        picks[step], gains[step] = pick, nearest[pick]
        taken[pick] = True
        distances = _squared_distances(rows, squares, pick)
        nearest = distances if step == 0 else np.minimum(nearest, distances)
    return picks, gains


def _squared_distances(rows: Floats, squares: Floats, pick: int) -> Floats:
    """norm(x_i - x_pick)^2 by the products of rows, and by differences where those would cancel.

    In single precision the products are right to 1e-6 of norm(x_i)^2 + norm(x_pick)^2; beyond
    NEAR of it distances keep four digits, and copies are at 0 exactly.
    """
    found = np.empty(len(rows))
    for part in blocks(len(rows), rows.shape[1]):
        found[part] = rows[part] @ rows[pick]
    scale = squares + squares[pick]
    found *= -2
    found += scale
    near = np.flatnonzero(found < NEAR * scale)
    for part in blocks(len(near), rows.shape[1]):
        difference = rows[near[part]] - rows[pick]
        found[near[part]] = np.einsum("ij,ij->i", difference, difference, dtype=np.float64)
    return found


@dataclass(frozen=True)
class BADGE(Selector):
    """k-means++ seeding on last-layer gradients: the longest gradient, then draws by distance^2.

    Features stand for gradients in a pool without them.

    Memory: 50 n + 16 budget bytes and two blocks of 32 MiB; time O(n g budget).

    Source: Ash et al., BADGE, ICLR 2020, arXiv:1906.03671.
    """

    name: ClassVar[str] = "badge"

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        picks, gains = plus_plus(gradients_or_features(pool), budget, generator(seed))
        return Subset.of(picks, requested=budget, gains=gains, nested=True)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Distances, chances and their sums, blocks of differences."""
        return 50 * n + 16 * budget + 16 * min(n * d, BLOCK_VALUES)
