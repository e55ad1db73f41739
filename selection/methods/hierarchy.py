"""Selects evenly over a hierarchy of k-means clusters."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hardset.checks import check_integer
from selection.arrays import BLOCK_VALUES, Array, Integers, blocks, class_rows, lifted
from selection.given import Given
from selection.graph import Clusters, kmeans, mean_view
from selection.methods.clusters import equal_shares
from selection.pool import Pool
from selection.selector import Conditional, generator
from selection.subset import Subset

FEWER = 10  # clusters of a level for one of the level above


@dataclass(frozen=True)
class HierarchicalKMeans(Conditional):
    """Draws evenly over the features' space, by k-means on the centroids of k-means.

    Level 1 has `clusters` clusters of the examples, and every further level clusters the centroids
    of the one below, a tenth as many. From the top on, clusters share the budget as equally as they
    have examples for, and each one's part is shared likewise among those inside it. In level 1
    examples are drawn uniformly. Given examples count in the shares of the clusters that they are
    in, or from outside are nearest to.

    k-means puts more centroids where there are more examples. So each level is clustered again,
    `resamples` times, on the rows nearest to each centroid, half as many as a cluster has on
    average. That brings the centroids closer to a uniform density.

    Args:
        clusters: of level 1, at most n are used.
        levels: number of levels, 1 to 10; those that would have one cluster only are left out.
        resamples: how often each level is clustered again; 0 is plain hierarchical k-means.

    Memory: 16 n d + 100 n + 32 budget bytes and six blocks of 32 MiB.

    Source: Vo et al., Automatic data curation for self-supervised learning: a clustering-based
    approach, arXiv:2405.15613, and its program. That gives what rounding leaves over to clusters
    at random, and this to the largest ones.
    """

    clusters: int = 100
    levels: int = 2
    resamples: int = 10

    name: ClassVar[str] = "hierarchical-k-means"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_integer("clusters", self.clusters, 1, 2**31)
        check_integer("levels", self.levels, 1, 10)
        check_integer("resamples", self.resamples, 0, 10**6)

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        assert pool.features is not None
        outside = given.values(pool, "features")[len(given.rows) :]
        base, parents = self._hierarchy(pool.features, seed)
        rest = given.rest(len(pool))
        free = [np.bincount(base.assignments[rest], minlength=len(base.centroids))]
        held = [base.counts(given.rows, outside)]
        for above in parents:
            for counts in (free, held):
                counts.append(np.bincount(above, weights=counts[-1]).astype(np.int64))
        quotas = _shares(free[-1], held[-1], budget)
        for level in reversed(range(len(parents))):
            inside = np.zeros(len(free[level]), np.int64)
            for rows in class_rows(parents[level], len(parents[level])):
                part = int(quotas[parents[level][rows[0]]])
                inside[rows] = _shares(free[level][rows], held[level][rows], part)
            quotas = inside
        # Examples have ranks, and every cluster gives those of its first ranks.
        order = generator(seed).permutation(rest)
        own = base.assignments[order]
        grouped = np.argsort(own, kind="stable")
        turn = np.empty(len(order), np.int64)
        turn[grouped] = np.arange(len(order)) - np.repeat(np.cumsum(free[0]) - free[0], free[0])
        return Subset.of(
            order[turn < quotas[own]], requested=budget, clusters=[len(one) for one in free]
        )

    def _hierarchy(self, features: Array, seed: int) -> tuple[Clusters, list[Integers]]:
        """Cluster the examples, and then the centroids of each level.

        The clusters of level 1 come with the cluster of each cluster in the level above it.
        """
        base = found = resampled_kmeans(
            features, min(self.clusters, len(features)), self.resamples, seed
        )
        parents: list[Integers] = []
        while len(parents) + 1 < self.levels and len(found.centroids) >= 2 * FEWER:
            count = len(found.centroids) // FEWER
            found = resampled_kmeans(found.centroids, count, self.resamples, seed)
            parents.append(found.assignments)
        return base, parents

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of k-means on all rows, one on the nearest half, and blocks."""
        return 16 * n * d + 100 * n + 32 * budget + 48 * BLOCK_VALUES


def resampled_kmeans(features: Array, k: int, resamples: int, seed: int) -> Clusters:
    """Cluster rows again and again, on the rows nearest to each centroid.

    Args:
        features: shape (n, d), or (n, A, d) for A views, whose unit vectors are averaged.
        k: number of clusters, 1 to n.
        resamples: how often, after the first time; each takes the floor(n / (2 k)) nearest rows of
            every cluster, and there is nothing to resample where that is 1 or less.
        seed: of every k-means.

    Returns:
        All n rows at their nearest centroids; where clusters were empty, fewer than k of them.
    """
    found = kmeans(features, k, seed=seed)
    nearest = len(features) // (2 * k)
    for _ in range(resamples if nearest > 1 else 0):
        kept = [
            rows[np.argsort(found.distances[rows], kind="stable")[:nearest]]
            for rows in found.members()
        ]
        sample = np.sort(np.concatenate(kept))
        again = kmeans(features[sample], min(k, len(sample)), seed=seed)
        found = _assigned(again, features)
    used, assignments = np.unique(found.assignments, return_inverse=True)
    return Clusters(assignments, found.centroids[used], found.distances)


def _assigned(clusters: Clusters, features: Array) -> Clusters:
    """Assign rows to the nearest of the clusters' centroids."""
    assignments, distances = np.empty(len(features), np.int64), np.empty(len(features))
    centres = np.asarray(clusters.centroids, np.float64)
    for part in blocks(len(features), max(len(centres), features[0].size)):
        rows = mean_view(features[part]) if features.ndim == 3 else features[part]
        assignments[part] = clusters.nearest(rows)
        own = centres[assignments[part]]
        scale, rows, own = lifted(np.asarray(rows, np.float64), own)
        distances[part] = scale * np.linalg.norm(rows - own, axis=1)
    return Clusters(assignments, clusters.centroids, distances)


def _shares(free: Integers, held: Integers, budget: int) -> Integers:
    """Share new picks among clusters, in any order of their sizes."""
    order = np.argsort(free + held, kind="stable")
    quotas = np.zeros(len(free), np.int64)
    if budget:
        quotas[order] = equal_shares(free[order].tolist(), held[order].tolist(), budget)
    return quotas
