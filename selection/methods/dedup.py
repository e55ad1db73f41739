"""Selects by dropping near-duplicates.

The methods are SemDeDup, MedDEL, and D4, which builds on SemDeDup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from hardset.checks import check_choice, check_integer, check_range
from selection.arrays import BLOCK_VALUES, Array, Floats, Integers, unit_rows
from selection.given import Given
from selection.graph import Clusters, kmeans, mean_view
from selection.pool import Pool
from selection.selector import Conditional
from selection.subset import Subset

EXAMPLES_PER_CLUSTER = 1000  # where the number of clusters is not given


def nearest_earlier(unit: Floats, groups: Sequence[Integers], rank: Floats) -> Floats:
    """Find the largest cosine with an earlier example of the group.

    It is -1 for the first example.

    Args:
        unit: rows of norm 1, shape (n, d).
        groups: rows of each group.
        rank: examples of a group stand by ascending rank, equal ones by row.
    """
    found = np.full(len(unit), -1.0)
    for rows in groups:
        ordered = rows[np.argsort(rank[rows], kind="stable")]
        own = unit[ordered]
        step = max(1, BLOCK_VALUES // max(len(own), 1))
        for start in range(0, len(own), step):
            part = own[start : start + step]
            cosines = part @ own[: start + len(part)].T
            later = np.arange(cosines.shape[1]) >= start + np.arange(len(part))[:, None]
            cosines[later] = -1.0
            found[ordered[start : start + step]] = np.max(cosines, axis=1)
    return found


def nearest_before(
    unit: Floats,
    found: Clusters,
    groups: Sequence[Integers],
    rank: Floats,
    given: Given,
    outside: Floats,
) -> Floats:
    """Find the largest cosine with given and earlier examples.

    It is `nearest_earlier`, with the cluster's given examples before all others.

    Args:
        unit: rows of norm 1 of the pool, shape (n, d).
        found: its clusters.
        groups: the rows that are compared, one group a cluster.
        rank: of the pool's rows.
        given: the existing set.
        outside: rows of norm 1 of its examples from outside, shape (k, d).
    """
    if not len(given):
        return nearest_earlier(unit, groups, rank)
    n = len(unit)
    order = np.concatenate([rank, np.full(len(outside), -np.inf)])
    order[given.rows] = -np.inf
    homes = found.nearest(outside)
    joined = [
        np.concatenate([rows, n + np.flatnonzero(homes == found.assignments[rows[0]])])
        for rows in groups
        if len(rows)
    ]
    return nearest_earlier(np.concatenate([unit, outside]), joined, order)[:n]


def unit_vectors(pool: Pool, given: Given) -> tuple[Floats, Floats]:
    """Normalise the features of the pool and of the given examples from outside."""
    assert pool.features is not None
    outside = given.values(pool, "features")[len(given.rows) :]
    own, others = (
        np.asarray(unit_rows("features", mean_view(rows)), dtype=np.float64)
        for rows in (pool.features, outside)
    )
    return own, others


def cluster_count(given: int | None, n: int) -> int:
    """Return the number of clusters.

    By default there is one for a thousand examples.
    """
    return min(n, max(1, n // EXAMPLES_PER_CLUSTER) if given is None else given)


def kept_below(values: Floats, threshold: float, budget: int, exact: bool) -> tuple[Integers, Any]:
    """Find the rows whose values are at most a threshold, ascending.

    With `exact` the threshold moves, so that exactly `budget` rows are kept.

    The threshold that keeps exactly `budget` lies between two of the sorted values.
    """
    order = np.argsort(values, kind="stable")
    kept = int(np.searchsorted(values[order], threshold, side="right"))
    details = {"threshold": threshold, "kept_at_threshold": kept}
    if exact:
        details["exact_threshold"] = float(values[order[budget - 1]])
        return order[:budget], details
    return order[:kept], details


@dataclass(frozen=True)
class SemDeDup(Conditional):
    """Drops examples that are too similar to one before them.

    It drops j if the largest cosine with an example before it in its cluster exceeds 1 - epsilon.

    Clusters are those of spherical k-means; inside one given examples stand first, then the others
    hard first, far from the centroid. How many stay follows from epsilon: the budget counts only
    with `exact`, which moves epsilon.

    Args:
        epsilon: in [0, 2].
        clusters: number of clusters, default one for a thousand examples.
        exact: whether epsilon is moved until exactly the budget remains.

    Memory: 40 n d + 80 n bytes and a block of 64 MiB.

    Source: Abbas et al., SemDeDup, arXiv:2303.09540.
    """

    epsilon: float = 0.05
    clusters: int | None = None
    exact: bool = False

    name: ClassVar[str] = "semdedup"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_range("epsilon", self.epsilon, 0, 2)
        if self.clusters is not None:
            check_integer("clusters", self.clusters, 1, 2**31)

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        rows, details = self.survivors(pool, budget, seed, given)
        return Subset.of(rows, requested=budget, nested=self.exact, **details)

    def survivors(
        self, pool: Pool, budget: int, seed: int, given: Given
    ) -> tuple[Integers, dict[str, Any]]:
        """Find the rows that stay, least similar first.

        A report of what happened comes with them.
        """
        unit, outside = unit_vectors(pool, given)
        count = cluster_count(self.clusters, len(pool))
        found = kmeans(unit, count, spherical=True, seed=seed)
        # Distances to the centroid have double precision: equal examples must be equally far.
        centres = found.centroids[found.assignments].astype(np.float64)
        nearness = np.einsum("ij,ij->i", unit, centres)
        cosines = nearest_before(unit, found, found.members(), nearness, given, outside)
        rest = given.rest(len(pool))
        rows, details = kept_below(cosines[rest], 1 - self.epsilon, budget, self.exact)
        return rest[rows], {"clusters": count, **details}

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of unit vectors, centroids, copies and one block.

        Each unit vector has a centroid of its own beside it. The copies have single precision.
        """
        return 40 * n * d + 80 * n + 16 * max(BLOCK_VALUES, n)


@dataclass(frozen=True)
class MedDEL(Conditional):
    """Drops examples far from their centroid, then one of each close pair.

    Far is what is farther than epsilon from its k-means centroid.

    A pair of a cluster is close if its cosine exceeds eta; `keep` says which one stays, and of a
    pair with a given example the other one is dropped. How many stay follows from epsilon and eta:
    the budget counts only with `exact`, which moves eta.

    Args:
        epsilon: largest distance 1 - cosine to the centroid.
        eta: cosine of a close pair.
        clusters: number of clusters, default one for a thousand examples.
        keep: of a close pair, the one "nearer" to the centroid or "farther" from it.
        exact: whether eta is moved until exactly the budget remains.

    Memory: that of SemDeDup.

    Source: Yang et al., data-effective learning (DataDEL, MedDEL), arXiv:2401.17542. The value of
    eta is not in the paper.
    """

    epsilon: float = 0.9
    eta: float = 0.95
    clusters: int | None = None
    keep: Literal["nearer", "farther"] = "nearer"
    exact: bool = False

    name: ClassVar[str] = "meddel"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check_range("epsilon", self.epsilon, 0, 2)
        check_range("eta", self.eta, -1, 1)
        check_choice("keep", self.keep, ("nearer", "farther"))
        if self.clusters is not None:
            check_integer("clusters", self.clusters, 1, 2**31)

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        unit, outside = unit_vectors(pool, given)
        count = cluster_count(self.clusters, len(pool))
        found = kmeans(unit, count, spherical=True, seed=seed)
        centres = found.centroids[found.assignments].astype(np.float64)
        distances = 1 - np.einsum("ij,ij->i", unit, centres)
        rest = given.rest(len(pool))
        inside = distances <= self.epsilon
        left = int(np.sum(inside[rest]))
        if self.exact and left < budget:
            raise ValueError(
                f"epsilon = {self.epsilon:g} leaves {left} of {len(rest)} examples, fewer than the "
                f"budget {budget}"
            )
        inside[given.rows] = True
        rank = distances if self.keep == "nearer" else -distances
        groups = [rows[inside[rows]] for rows in found.members()]
        cosines = nearest_before(unit, found, groups, rank, given, outside)
        cosines[~inside] = np.inf
        rows, details = kept_below(cosines[rest], self.eta, budget, self.exact)
        return Subset.of(
            rest[rows],
            requested=budget,
            nested=self.exact,
            clusters=count,
            dropped_far=len(rest) - left,
            **details,
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes, which are those of SemDeDup."""
        return 40 * n * d + 80 * n + 16 * max(BLOCK_VALUES, n)


@dataclass(frozen=True)
class D4(Conditional):
    """Keeps what is farthest from new centroids, after SemDeDup.

    The new centroids are those of clusters that are made of what SemDeDup leaves.

    The second step (SSP, by cosine) keeps the budget exactly, unless SemDeDup leaves fewer: then
    they are the answer, or with `exact` SemDeDup's threshold moves until it leaves the budget.
    Given examples have their part in the first step, and none in the second.

    Args:
        epsilon: of SemDeDup.
        clusters: number of clusters in both steps, default one for a thousand examples.
        exact: whether epsilon is moved where fewer than the budget would remain.

    Memory: that of SemDeDup + 16 n d bytes.

    Source: Tirumala et al., D4, NeurIPS 2023, arXiv:2308.12284; SSP: Sorscher et al. 2022.
    """

    epsilon: float = 0.05
    clusters: int | None = None
    exact: bool = False

    name: ClassVar[str] = "d4"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    optional: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        SemDeDup(self.epsilon, self.clusters)

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        first = SemDeDup(self.epsilon, self.clusters)
        left, details = first.survivors(pool, budget, seed, given)
        if self.exact and len(left) < budget:
            moved = SemDeDup(self.epsilon, self.clusters, exact=True)
            left, details = moved.survivors(pool, budget, seed, given)
        left = np.sort(left)
        assert pool.features is not None
        features: Array = pool.features[left]
        count = cluster_count(self.clusters, len(left))
        distances = kmeans(features, count, spherical=True, seed=seed).distances
        order = np.argsort(-distances, kind="stable")[:budget]
        return Subset.of(
            left[order],
            requested=budget,
            gains=distances[order],
            objective=float(np.sum(distances[order])),
            nested=True,
            left_by_semdedup=len(left),
            semdedup=details,
        )

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of SemDeDup and of the features that are left."""
        return 56 * n * d + 80 * n + 16 * max(BLOCK_VALUES, n)
