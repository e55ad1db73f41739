"""Selects by drawing from clusters or by distance.

The methods are cluster-top, S2L and BADGE, and the score is SSP.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_integer
from hardset.progress import steps
from selection.arrays import (
    BLOCK_VALUES,
    Array,
    Floats,
    Integers,
    blocks,
    class_codes,
    lifted,
    unit_rows,
)
from selection.given import Given
from selection.graph import kmeans
from selection.methods.facility import gradients_or_features
from selection.pool import Pool, Scores, first_largest
from selection.selector import Conditional, generator
from selection.subset import Subset


def ssp(
    features: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    clusters: int | None = None,
    cosine: bool = True,
    seed: int = 0,
) -> Scores:
    """Score by the distance to the own k-means centroid.

    The distance is 1 - cosine or Euclidean. An example far from its centroid is hard.

    Args:
        features: shape (n, d), as a rule of a self-supervised model.
        labels: of the same examples, shape (n,); only the number of classes counts.
        clusters: number of clusters; default that of the classes, as its authors take it, and 10
            without labels.
        cosine: whether rows and centroids are unit vectors.
        seed: of k-means.

    Raises:
        ValueError: more clusters than examples, NaN or infinity, a row of norm zero under the
            cosine, faiss missing.

    Source: Sorscher et al., Beyond neural scaling laws, arXiv:2206.14486.
    """
    if clusters is None:
        clusters = 10 if labels is None else len(np.unique(class_codes("labels", labels)[0]))
    found = kmeans(features, clusters, spherical=cosine, seed=seed)
    return Scores.of(found.distances, name="ssp", clusters=clusters, cosine=cosine, seed=seed)


@dataclass(frozen=True)
class ClusterTop(Conditional):
    """Keeps the highest scores of each k-means cluster.

    Each cluster gives as equal a number as there are examples for.

    Clusters take turns, the one with the highest score first; each gives the highest score it has
    left. Given examples are turns that their clusters, or the nearest ones, have had.

    Args:
        clusters: number of clusters, at most n are used.
        cosine: whether rows and centroids are unit vectors.

    Memory: 8 n d + 80 n + 32 budget bytes.
    """

    clusters: int = 100
    cosine: bool = False

    name: ClassVar[str] = "cluster-top"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "scores"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_integer("clusters", self.clusters, 1, 2**31)

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        assert pool.scores is not None and pool.features is not None
        count = min(self.clusters, len(pool))
        clusters = kmeans(pool.features, count, spherical=self.cosine, seed=seed)
        outside = given.values(pool, "features")[len(given.rows) :]
        if self.cosine:
            outside = unit_rows("features", outside)
        before = clusters.counts(given.rows, outside)
        rest = given.rest(len(pool))
        values, found = pool.scores.values[rest], clusters.assignments[rest]
        turn = np.empty(len(rest), np.int64)
        order = np.lexsort((-values, found))
        sizes = np.bincount(found, minlength=count)
        turn[order] = np.arange(len(rest)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        chosen = np.lexsort((-values, turn + before[found]))[:budget]
        return Subset.of(
            rest[chosen], requested=budget, gains=values[chosen], nested=True, clusters=count
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of the features' single-precision copies, orders and turns.

        The features are copied once as a whole and once as a sample.
        """
        return 8 * n * d + 80 * n + 32 * budget


NEAR = 0.01  # of two rows' squared norms; nearer than this, their difference is squared


@dataclass(frozen=True)
class S2L(Conditional):
    """Draws evenly from k-means clusters of loss trajectories.

    Each cluster gives as equal a number of examples as can be.

    Clusters by ascending size give floor(left/clusters left) each.

    Examples are drawn uniformly inside a cluster; one that is smaller than its quota is taken
    whole, and the larger ones share the rest. Given examples count in the shares of the clusters
    that they are in, or from outside are nearest to.

    Args:
        clusters: K; at most n are used.

    Memory: 16 n T + 80 n bytes.

    Source: Yang et al., S2L, arXiv:2403.07384.
    """

    clusters: int = 100

    name: ClassVar[str] = "s2l"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectories"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_integer("clusters", self.clusters, 1, 2**31)

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        assert pool.trajectories is not None
        before = given.values(pool, "trajectories")
        found = kmeans(pool.trajectories, min(self.clusters, len(pool)), seed=seed)
        rng = generator(seed, 1)
        left = np.ones(len(pool), dtype=bool)
        left[given.rows] = False
        there = found.counts(given.rows, before[len(given.rows) :])
        groups = [
            (rows[left[rows]], int(there[found.assignments[rows[0]]])) for rows in found.members()
        ]
        groups.sort(key=lambda group: len(group[0]) + group[1])
        free = [rows for rows, _ in groups]
        quotas = equal_shares([len(rows) for rows in free], [held for _, held in groups], budget)
        picks = [rng.permutation(rows)[:quota] for rows, quota in zip(free, quotas, strict=True)]
        return Subset.of(
            np.concatenate(picks),
            requested=budget,
            clusters=len(groups),
            taken_whole=int(sum(len(p) == len(g) for p, g in zip(picks, free, strict=True))),
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of trajectories, a sample of them and assignments.

        Trajectories have single precision.
        """
        return 16 * n * d + 80 * n


def equal_shares(free: list[int], held: list[int], budget: int) -> list[int]:
    """Share new picks among clusters so that they keep equal numbers.

    What is kept of each, picks held already included, is as equal as can be.

    Args:
        free: how many each cluster has to give.
        held: how many of each are kept already; free + held ascends.
        budget: sum of the answer.
    """
    short = [True] * len(free)
    while True:
        left = budget + sum(there for there, open_ in zip(held, short, strict=True) if open_)
        quotas = [0] * len(free)
        clusters = sum(short)
        for number, (own, there, open_) in enumerate(zip(free, held, short, strict=True)):
            if open_:
                share = min(own + there, left // clusters)
                quotas[number] = share - there
                left, clusters = left - share, clusters - 1
        if min(quotas) >= 0:
            return quotas
        short = [open_ and quota >= 0 for open_, quota in zip(short, quotas, strict=True)]


def plus_plus(
    rows: Array,
    budget: int,
    rng: np.random.Generator,
    before: Array | None = None,
    given: Integers | None = None,
) -> tuple[Integers, Floats]:
    """Seed as k-means++ does, from the longest row on.

    Each further row is drawn with a chance in proportion to min_{j in S} d_ij^2.

    Where all rows left are copies of picks, the draw among them is uniform.

    Args:
        rows: shape (n, d).
        budget: number of picks.
        rng: of the draws.
        before: points that are in S from the start, shape (k, d); the first pick is drawn, too.
        given: rows that cannot be picked.

    Returns:
        The picks, and each one's squared distance to the earlier ones (the first: its norm).
    """
    n = len(rows)
    squares = np.empty(n)
    for part in blocks(n, rows.shape[1]):
        squares[part] = np.einsum("ij,ij->i", rows[part], rows[part], dtype=np.float64)
    picks, gains = np.empty(budget, np.int64), np.empty(budget)
    taken = np.zeros(n, dtype=bool)
    taken[[] if given is None else given] = True
    nearest = squares
    first = before is None or not len(before)
    if before is not None and not first:
        nearest = np.full(n, np.inf)
        for at in steps(len(before), "given", before.shape[0] * rows.size):
            own = float(np.einsum("j,j->", before[at], before[at], dtype=np.float64))
            found = _squared_distances(rows, squares, before[at], own)
            np.minimum(nearest, found, out=nearest)
    pick = first_largest(squares)
    for step in steps(budget, "k-means++", budget * rows.size):
        if step or not first:
            chances = np.where(taken, 0.0, nearest)
            total = np.cumsum(chances)
            if total[-1] <= 0:
                total = np.cumsum(~taken)
            pick = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
        picks[step], gains[step] = pick, nearest[pick]
        taken[pick] = True
        distances = _squared_distances(rows, squares, rows[pick], float(squares[pick]))
        nearest = distances if first and step == 0 else np.minimum(nearest, distances)
    return picks, gains


def _squared_distances(rows: Array, squares: Floats, point: Array, own: float) -> Floats:
    """Compute squared distances to a point by products of rows.

    They are norm(x_i - point)^2. Where the products would cancel, they come from differences.

    In single precision the products are right to 1e-6 of norm(x_i)^2 + norm(point)^2; beyond
    NEAR of it distances keep four digits, and copies are at 0 exactly.
    """
    found = np.empty(len(rows))
    for part in blocks(len(rows), rows.shape[1]):
        found[part] = rows[part] @ point
    scale = squares + own
    found *= -2
    found += scale
    near = np.flatnonzero(found < NEAR * scale)
    for part in blocks(len(near), rows.shape[1]):
        difference = rows[near[part]] - point
        found[near[part]] = np.einsum("ij,ij->i", difference, difference, dtype=np.float64)
    return found


@dataclass(frozen=True)
class BADGE(Conditional):
    """Seeds k-means++ on the gradients of the last layer.

    The first pick is the longest gradient, and the others are drawn by distance^2.

    Features stand for gradients in a pool without them. Where examples are given, the first pick is
    drawn by its distance to them.

    Memory: 50 n + 16 budget bytes and two blocks of 32 MiB; time O(n g budget).

    Source: Ash et al., BADGE, ICLR 2020, arXiv:1906.03671.
    """

    name: ClassVar[str] = "badge"
    optional: ClassVar[frozenset[str]] = frozenset({"gradients", "features"})

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        scale, rows, before = lifted(*gradients_or_features(pool, given))
        picks, gains = plus_plus(rows, budget, generator(seed), before, given.rows)
        return Subset.of(picks, requested=budget, gains=scale**2 * gains, nested=True)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of distances, chances, their sums and blocks of differences."""
        return 50 * n + 16 * budget + 16 * min(n * d, BLOCK_VALUES)
