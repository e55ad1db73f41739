"""Clusters and scores together: distance to the centroid as a score, best scores per cluster."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_integer
from selection.core.arrays import unit_rows
from selection.core.given import Given
from selection.core.labels import class_codes
from selection.core.pool import Pool
from selection.core.scores import Scores
from selection.core.selector import Conditional
from selection.core.subset import Subset
from selection.graphs.kmeans import kmeans

__all__ = ["ClusterTop", "ssp"]


def ssp(
    features: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    clusters: int | None = None,
    cosine: bool = True,
    seed: int = 0,
) -> Scores:
    """Distance to the own k-means centroid: 1 - cosine, or Euclidean. Far is hard.

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
    """The highest scores inside each k-means cluster, as equal a number of each as there are.

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
        """A copy and a sample of the features in single precision, orders and turns."""
        return 8 * n * d + 80 * n + 32 * budget
