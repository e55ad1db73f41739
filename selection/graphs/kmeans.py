"""Clusters by faiss."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_integer
from selection.core.arrays import Array, Floats, Integers
from selection.core.classes import class_rows
from selection.core.magnitude import lifted
from selection.core.optional import require
from selection.graphs.graph import mean_view, search_rows

__all__ = ["Clusters", "kmeans"]

POINTS_PER_CENTROID = 256  # a sample of that size places the centroids


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of n examples.

    Attributes:
        assignments: cluster of each example, 0 ... k-1, shape (n,).
        centroids: shape (k, d), of unit norm if spherical, in single precision if that holds them.
        distances: Euclidean distance to the own centroid, or 1 - cosine if spherical, shape (n,).
    """

    assignments: Integers
    centroids: Array
    distances: Floats

    def nearest(self, rows: Array) -> Integers:
        """The cluster of the nearest centroid, for other rows, (m, d) or (m, A, d), as clustered.

        Rows are unit vectors if the clusters are spherical.
        """
        if rows.ndim == 3:
            rows = mean_view(rows)
        centres = np.asarray(self.centroids, dtype=np.float64)
        _, centres, rows = lifted(centres, np.asarray(rows, dtype=np.float64))
        half = np.einsum("ij,ij->i", centres, centres) / 2
        return np.argmax(rows @ centres.T - half, axis=1)

    def counts(self, inside: Integers, outside: Array) -> Integers:
        """How many of some examples, and of other rows, are in each cluster, shape (k,)."""
        chosen = np.concatenate([self.assignments[inside], self.nearest(outside)])
        return np.bincount(chosen, minlength=len(self.centroids))

    def members(self) -> list[Integers]:
        """Rows of every cluster, ascending, the clusters by their first row, no empty one."""
        return class_rows(self.assignments, len(self.assignments))


def kmeans(
    features: ArrayLike, k: int, *, spherical: bool = False, iterations: int = 20, seed: int = 0
) -> Clusters:
    """Lloyd's k-means, sum of squared distances to the centroids, from k random examples.

    Memory: 8 n d + 20 n bytes (a single-precision copy, a sample of 256 k examples).

    Args:
        features: shape (n, d), or (n, A, d) for A views, whose unit vectors are averaged.
        k: number of clusters, 1 to n.
        spherical: whether rows and centroids have unit norm.
        iterations: of Lloyd's algorithm.
        seed: of the first centroids and of the sample.

    Raises:
        ValueError: k outside its range; a row of norm zero if spherical; faiss missing.
    """
    rows, exponent = search_rows(features, "cosine" if spherical else "euclidean")
    n, d = rows.shape
    check_integer("k", k, 1, n)
    check_integer("iterations", iterations, 1, 10_000)
    faiss = require("faiss")
    engine = faiss.Kmeans(
        d,
        int(k),
        niter=int(iterations),
        spherical=spherical,
        seed=int(seed % (1 << 31)),
        min_points_per_centroid=1,
        max_points_per_centroid=POINTS_PER_CENTROID,
    )
    engine.train(rows)
    found, assignments = engine.index.search(rows, 1)
    # faiss returns squared distances, and inner products if spherical.
    near = found[:, 0].astype(np.float64)
    distances = 1 - near if spherical else np.sqrt(np.maximum(near, 0))
    centroids = engine.centroids
    if exponent:  # their true size is below single precision
        distances = np.ldexp(distances, -exponent)
        centroids = np.ldexp(centroids.astype(np.float64), -exponent)
    return Clusters(assignments[:, 0].astype(np.int64), centroids, distances)
