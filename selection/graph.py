"""Finds the nearest neighbours of examples, and clusters examples by k-means."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from hardset.checks import check_choice, check_integer, check_range, require
from hardset.progress import steps
from selection.arrays import (
    Array,
    Floats,
    Integers,
    blocks,
    check_squares,
    class_rows,
    lift_exponent,
    lifted,
    real_rows,
    unit_rows,
)

Rows = NDArray[np.float32]
Found = tuple[NDArray[np.int32], NDArray[np.float32]]
Metric = Literal["cosine", "inner", "euclidean"]
GraphMethod = Literal["auto", "exact", "ivf"]
Symmetry = Literal["union", "mean"]

RECALL_TARGET = 0.95
EXACT_UP_TO = 100_000  # examples; "auto" approximates beyond
MATCH_TOLERANCE = 1e-5  # of a similarity in single precision, relative to the largest one
BLOCK = 1 << 16  # queries a call: what a progress bar can show
ACCELERATOR_BLOCK = 1024  # queries times n products are on the accelerator at once
TRAINING_POINTS = 64  # a cell, for its centre
FIRST_PROBES, MOST_PROBES = 4, 64
POINTS_PER_CENTROID = 256  # a sample of that size places the centroids


@dataclass(frozen=True, eq=False)
class Graph:
    """Holds the k nearest neighbours of n examples.

    Neighbours stand nearest first. No example is a neighbour of itself.

    Attributes:
        neighbours: rows, shape (n, k), -1 where an example has fewer than k.
        similarities: shape (n, k): the cosine, the inner product, or -norm(x_i - x_j)^2, by
            `metric`; zero where `neighbours` is -1.
        metric: what the similarities are.
        exact: whether the search was exhaustive.
        recall: share of the true k nearest neighbours that the search found, measured on a sample.
    """

    neighbours: NDArray[np.int32]
    similarities: NDArray[np.float32]
    metric: Metric = "cosine"
    exact: bool = True
    recall: float = 1.0

    @classmethod
    def of(
        cls, neighbours: ArrayLike, similarities: ArrayLike, metric: Metric = "cosine"
    ) -> "Graph":
        """Make the graph of neighbour lists from elsewhere.

        Args:
            neighbours: rows 0 ... n-1, -1 for none, shape (n, k).
            similarities: shape (n, k), finite.
            metric: what they are.

        Raises:
            ValueError: shapes that differ, rows outside -1 ... n-1, an example that is its own
                neighbour, lists another one twice, or has no edge at all; similarities that are
                not finite in single precision.
        """
        check_choice("metric", metric, get_args(Metric))
        values = real_rows("similarities", similarities, ndim=(2,))
        rows = np.asarray(neighbours)
        if rows.dtype.kind not in "iu" or rows.shape != values.shape:
            raise ValueError(
                f"neighbours has shape {rows.shape} and dtype {rows.dtype}; it must hold integers "
                f"in the shape of similarities, {values.shape}"
            )
        if rows.min() < -1 or rows.max() >= len(rows):
            bad = tuple(int(i) for i in np.argwhere((rows < -1) | (rows >= len(rows)))[0])
            raise ValueError(
                f"neighbours holds {rows[bad]} at index {bad}; rows are 0 to {len(rows) - 1}, or -1"
            )
        own = np.any(rows == np.arange(len(rows))[:, None], axis=1)
        if np.any(own):
            raise ValueError(f"neighbours names row {np.argmax(own)} as its own neighbour")
        ordered = np.sort(rows, axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        if np.any(twice):
            row, column = (int(i) for i in np.argwhere(twice)[0])
            raise ValueError(f"neighbours lists row {ordered[row, column]} twice in row {row}")
        alone = np.all(rows < 0, axis=1)
        alone[rows[rows >= 0]] = False
        if np.any(alone):
            raise ValueError(
                f"the graph is disconnected: row {np.argmax(alone)} has no neighbour and is none; "
                "every example needs an edge"
            )
        with np.errstate(over="ignore"):
            kept = np.where(rows < 0, 0, values).astype(np.float32)
        _check_finite(kept)
        return cls(rows.astype(np.int32), kept, metric)

    def __len__(self) -> int:
        return len(self.neighbours)

    def take(self, rows: Integers) -> "Graph":
        """Take the graph among some rows, in their order.

        Edges that leave these rows are dropped.
        """
        place = np.full(len(self) + 1, -1, dtype=np.int32)  # the last one stands for -1
        place[rows] = np.arange(len(rows), dtype=np.int32)
        neighbours = place[self.neighbours[rows]]
        kept = np.where(neighbours < 0, np.float32(0), self.similarities[rows])
        return Graph(neighbours, kept, self.metric, self.exact, self.recall)

    @property
    def squared_distances(self) -> Floats:
        """Compute the squared distances along all edges.

        They are norm(x_i - x_j)^2, of unit vectors where the metric is the cosine.

        Raises:
            ValueError: inner products alone give no distances.
        """
        values = self.similarities.astype(np.float64)
        if self.metric == "inner":
            raise ValueError("metric = 'inner' gives no distances; use 'cosine' or 'euclidean'")
        return np.maximum(2 - 2 * values if self.metric == "cosine" else -values, 0.0)

    def symmetric(self, values: Array | None = None, symmetry: Symmetry = "union") -> csr_array:
        """Make a symmetric sparse matrix of values on the edges.

        Its diagonal is zero.

        "union": an edge counts if either end lists the other (the larger value if they differ);
        "mean": (W + W^T)/2, which halves the edges that only one end lists.

        Args:
            values: of the edges, shape (n, k); the similarities by default.
            symmetry: "union" or "mean".

        Raises:
            ValueError: similarities that are not finite.
        """
        check_choice("symmetry", symmetry, get_args(Symmetry))
        _check_finite(self.similarities)
        given = self.similarities if values is None else values
        edges = np.ascontiguousarray(given, dtype=np.float64)
        symmetrise = require("selection.kernels").symmetrise
        start, columns, entries = symmetrise(self.neighbours, edges, symmetry == "mean")
        if start[-1] < 2**31:  # one integer type for both, and the smaller one is faster
            start = start.astype(np.int32)
        return csr_array((entries, columns, start), shape=(len(self), len(self)))

    def diagnostics(self) -> dict[str, Any]:
        """List what a result reports of the graph that it was made with."""
        facts: dict[str, Any] = {
            "neighbours": int(self.neighbours.shape[1]),
            "metric": self.metric,
            "exact_neighbours": self.exact,
            "recall": self.recall,
        }
        if self.recall < RECALL_TARGET:
            facts["warning"] = (
                f"the search found {self.recall:.0%} of the nearest neighbours, for the features "
                "have no clusters; Pool.of(graph=knn_graph(features, method='exact')) has all"
            )
        return facts


def knn_graph(
    features: ArrayLike,
    k: int = 5,
    *,
    metric: Metric = "cosine",
    method: GraphMethod = "auto",
    recall_target: float = RECALL_TARGET,
    recall_sample: int = 1000,
    seed: int = 0,
    threads: int | None = None,
) -> Graph:
    """Find the k nearest neighbours of every example.

    They are the k examples j != i of largest similarity to i.

    Exhaustive search multiplies blocks of rows: on processors in faiss, on an accelerator in JAX.
    "ivf" assigns the examples to about 2 sqrt(n) cells and searches the nearest ones: their number
    doubles until `recall_target` is met on a sample, up to 64. Either way the recall is reported.
    Memory: one single-precision copy of the features in use, and another one inside faiss.

    Args:
        features: shape (n, d), or (n, A, d) for A views, whose unit vectors are averaged.
        k: number of neighbours, 1 to n - 1.
        metric: "cosine", "inner" or "euclidean".
        method: "exact", "ivf", or "auto": exact up to 100,000 examples.
        recall_target: share of the true neighbours that "ivf" aims at, (0, 1].
        recall_sample: number of examples on which "ivf" measures its recall.
        seed: of the sample and of the cells.
        threads: for faiss; all by default.

    Raises:
        ValueError: an argument outside its range, a row of norm zero under "cosine", faiss missing.
    """
    check_choice("metric", metric, get_args(Metric))
    check_choice("method", method, get_args(GraphMethod))
    check_range("recall_target", recall_target, 0, 1, open_low=True)
    check_integer("recall_sample", recall_sample, 1, 2**31)
    rows, exponent = search_rows(features, metric)
    n = len(rows)
    if n < 2:
        raise ValueError("features has one row; a graph needs at least two")
    check_integer("k", k, 1, n - 1)
    euclidean = metric == "euclidean"
    if method == "exact" or (method == "auto" and n <= EXACT_UP_TO):
        found, values = exact_neighbours(rows, k, euclidean, threads)
        return Graph(found, np.ldexp(values, -2 * exponent), metric)
    # Distance balances the cells of unit vectors, which the inner product does not. Both give the
    # same order of neighbours.
    by_distance = metric != "inner"
    sample = np.random.default_rng(seed).choice(n, min(recall_sample, n), replace=False)
    sample.sort()
    _, truth = true_neighbours(rows, sample, k, by_distance, threads)
    slack = MATCH_TOLERANCE * max(float(np.max(np.abs(truth))), 1e-30)

    def recall(values: NDArray[np.float32]) -> float:
        # Values are compared, so that of equally near neighbours any may have been found.
        return float(np.mean(values >= truth[:, -1:] - slack))

    found, values, exhaustive = approximate_neighbours(
        rows, k, by_distance, sample, recall, recall_target, seed, threads
    )
    share = recall(values[sample])
    if metric == "cosine":
        values = np.where(found < 0, np.float32(0), 1 + values / 2)  # 1 - norm(u - v)^2/2
    return Graph(found, np.ldexp(values, -2 * exponent), metric, exhaustive, share)


def exact_neighbours(rows: Rows, k: int, euclidean: bool, threads: int | None) -> Found:
    """Find the k nearest other rows of every row by exhaustive search."""
    if jax.default_backend() != "cpu":
        return accelerator_neighbours(rows, k, euclidean)
    index = _flat(rows, euclidean)
    with _threads(threads):
        return _search_all(index, rows, k, euclidean)


def true_neighbours(
    rows: Rows, sample: NDArray[np.int64], k: int, euclidean: bool, threads: int | None
) -> Found:
    """Find the k nearest other rows of some rows by exhaustive search."""
    with _threads(threads):
        # faiss.knn reads the rows where they are; an index would copy them.
        faiss = require("faiss")
        metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
        values, found = faiss.knn(rows[sample], rows, k + 1, metric=metric)
    return _without_self(found, values, sample, euclidean)


def approximate_neighbours(
    rows: Rows,
    k: int,
    euclidean: bool,
    sample: NDArray[np.int64],
    recall: Callable[[Rows], float],
    target: float,
    seed: int,
    threads: int | None,
) -> tuple[NDArray[np.int32], NDArray[np.float32], bool]:
    """Find neighbours by an inverted file.

    The answer says also whether the search looked at every cell.

    Args:
        rows: shape (n, d).
        k: number of neighbours.
        euclidean: whether distances count, otherwise inner products.
        sample: rows on which `recall` judges.
        recall: of the sample's values, shape (len(sample), k).
        target: recall that is enough.
        seed: of the cells' centres.
        threads: for faiss.
    """
    faiss = require("faiss")
    n, d = rows.shape
    cells = max(1, min(1 << round(np.log2(2 * np.sqrt(n))), n // 4))
    metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
    quantiser = (faiss.IndexFlatL2 if euclidean else faiss.IndexFlatIP)(d)
    index = faiss.IndexIVFFlat(quantiser, d, cells, metric)
    index.cp.seed, index.cp.min_points_per_centroid = seed % (1 << 31), 1
    index.cp.max_points_per_centroid = TRAINING_POINTS
    with _threads(threads):
        index.train(rows)
        index.add(rows)
        probes = min(FIRST_PROBES, cells)
        while True:
            index.nprobe = probes
            values, found = index.search(rows[sample], k + 1)
            kept = _without_self(found, values, sample, euclidean)[1]
            if recall(kept) >= target or probes >= min(MOST_PROBES, cells):
                break
            probes = min(2 * probes, cells)
        found, values = _search_all(index, rows, k, euclidean)
    return found, values, probes == cells


def accelerator_neighbours(rows: Rows, k: int, euclidean: bool) -> Found:
    """Find the k nearest other rows of every row, on JAX's default device."""
    everyone = jnp.asarray(rows)
    norms = jnp.sum(everyone**2, axis=1)

    @jax.jit
    def nearest(queries: Any, own: Any) -> Any:
        products = jnp.matmul(queries, everyone.T, precision=jax.lax.Precision.HIGHEST)
        if euclidean:
            products = 2 * products - norms - jnp.sum(queries**2, axis=1)[:, None]
        products = products.at[jnp.arange(len(own)), own].set(-jnp.inf)
        return jax.lax.top_k(products, k)

    n = len(rows)
    block = min(ACCELERATOR_BLOCK, n)
    found = np.empty((n, k), dtype=np.int32)
    values = np.empty((n, k), dtype=np.float32)
    for start in steps(n, "neighbours", n * rows.size, stride=block):
        own = np.arange(start, start + block) % n  # the last block wraps around: one shape
        best, at = nearest(rows[own], own)
        count = min(block, n - start)
        values[start : start + count] = best[:count]
        found[start : start + count] = at[:count]
    return found, values


def _flat(rows: Rows, euclidean: bool) -> Any:
    faiss = require("faiss")
    index = (faiss.IndexFlatL2 if euclidean else faiss.IndexFlatIP)(rows.shape[1])
    index.add(rows)
    return index


def _search_all(index: Any, rows: Rows, k: int, euclidean: bool) -> Found:
    n = len(rows)
    found = np.empty((n, k), dtype=np.int32)
    values = np.empty((n, k), dtype=np.float32)
    for start in steps(n, "neighbours", n * rows.size, stride=BLOCK):
        own = np.arange(start, min(start + BLOCK, n))
        near, at = index.search(rows[own[0] : own[-1] + 1], k + 1)
        found[own], values[own] = _without_self(at, near, own, euclidean)
    return found, values


def _without_self(found: Any, values: Any, own: Any, euclidean: bool) -> Found:
    """Drop each row's own entry.

    Where duplicates have displaced it, the last entry is dropped.
    """
    keep = found != own[:, None]
    keep[np.all(keep, axis=1), -1] = False
    shape = (len(own), found.shape[1] - 1)
    kept = found[keep].reshape(shape).astype(np.int32)
    near = values[keep].reshape(shape)
    missing = kept < 0  # fewer than k in the cells that were searched
    return kept, np.where(missing, np.float32(0), -near if euclidean else near)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    faiss = require("faiss")
    before = faiss.omp_get_max_threads()
    if count is not None:
        faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _check_finite(similarities: Array) -> None:
    finite = np.isfinite(similarities)
    if not np.all(finite):
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"similarities holds {similarities[place]} at index {place}; "
            "every one must be finite in single precision"
        )


def search_rows(features: ArrayLike, metric: Metric) -> tuple[NDArray[np.float32], int]:
    """Make single-precision rows for a search.

    Their products or distances order as the metric does.

    Returns:
        The rows, and the exponent of the power of two that they were multiplied with, 0 unless
        their squares would vanish.
    """
    array = real_rows("features", features, ndim=(2, 3))
    if array.ndim == 3:
        array = mean_view(array)
    check_squares("features", array)
    if metric == "cosine":
        rows = np.empty(array.shape, np.float32)
        for part in blocks(*array.shape):  # norms in the given precision, which may be larger
            rows[part] = unit_rows("features", array[part], part.start)
        return rows, 0
    exponent = lift_exponent(array, single=True)
    if exponent:
        array = np.ldexp(array, exponent)
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(array, dtype=np.float32)
    check_squares("features", rows)
    return rows, exponent


def mean_view(features: Array) -> Array:
    """Average the unit vectors of the views.

    Products of the averages are means over pairs of views.
    """
    unit = unit_rows("features", features)
    return unit if features.ndim == 2 else np.asarray(np.mean(unit, axis=1))


@dataclass(frozen=True, eq=False)
class Clusters:
    """Holds a partition of n examples.

    Attributes:
        assignments: cluster of each example, 0 ... k-1, shape (n,).
        centroids: shape (k, d), of unit norm if spherical, in single precision if that holds them.
        distances: Euclidean distance to the own centroid, or 1 - cosine if spherical, shape (n,).
    """

    assignments: Integers
    centroids: Array
    distances: Floats

    def nearest(self, rows: Array) -> Integers:
        """Find the nearest centroid of other rows.

        Rows have the shape (m, d) or (m, A, d), as those that were clustered.

        Rows are unit vectors if the clusters are spherical.
        """
        if rows.ndim == 3:
            rows = mean_view(rows)
        centres = np.asarray(self.centroids, dtype=np.float64)
        _, centres, rows = lifted(centres, np.asarray(rows, dtype=np.float64))
        half = np.einsum("ij,ij->i", centres, centres) / 2
        return np.argmax(rows @ centres.T - half, axis=1)

    def counts(self, inside: Integers, outside: Array) -> Integers:
        """Count some examples, and other rows, in each of the k clusters."""
        chosen = np.concatenate([self.assignments[inside], self.nearest(outside)])
        return np.bincount(chosen, minlength=len(self.centroids))

    def members(self) -> list[Integers]:
        """List the rows of every cluster, ascending.

        The clusters stand in the order of their first rows.
        """
        return class_rows(self.assignments, len(self.assignments))


def kmeans(
    features: ArrayLike, k: int, *, spherical: bool = False, iterations: int = 20, seed: int = 0
) -> Clusters:
    """Cluster by Lloyd's k-means, from k random examples.

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
