"""Nearest neighbours of every example."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from hardset.checks import check_choice, check_integer, check_range
from selection.core.arrays import (
    Array,
    Floats,
    Integers,
    blocks,
    check_squares,
    real_rows,
    unit_rows,
)
from selection.core.given import Given
from selection.core.magnitude import lift_exponent
from selection.core.optional import require
from selection.core.pool import Pool
from selection.graphs.neighbours import approximate_neighbours, exact_neighbours, true_neighbours

__all__ = ["Graph", "GraphMethod", "Metric", "Symmetry", "knn_graph", "pool_graph"]

Metric = Literal["cosine", "inner", "euclidean"]
GraphMethod = Literal["auto", "exact", "ivf"]
Symmetry = Literal["union", "mean"]

RECALL_TARGET = 0.95
EXACT_UP_TO = 100_000  # examples; "auto" approximates beyond
MATCH_TOLERANCE = 1e-5  # of a similarity in single precision, relative to the largest one


@dataclass(frozen=True, eq=False)
class Graph:
    """The k nearest neighbours of n examples, nearest first, without the example itself.

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
        """The graph of neighbour lists that were made elsewhere.

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
        """The graph among some rows, in their order; edges that leave them are dropped."""
        place = np.full(len(self) + 1, -1, dtype=np.int32)  # the last one stands for -1
        place[rows] = np.arange(len(rows), dtype=np.int32)
        neighbours = place[self.neighbours[rows]]
        kept = np.where(neighbours < 0, np.float32(0), self.similarities[rows])
        return Graph(neighbours, kept, self.metric, self.exact, self.recall)

    @property
    def squared_distances(self) -> Floats:
        """norm(x_i - x_j)^2 of all pairs, of unit vectors where the metric is the cosine.

        Raises:
            ValueError: inner products alone give no distances.
        """
        values = self.similarities.astype(np.float64)
        if self.metric == "inner":
            raise ValueError("metric = 'inner' gives no distances; use 'cosine' or 'euclidean'")
        return np.maximum(2 - 2 * values if self.metric == "cosine" else -values, 0.0)

    def symmetric(self, values: Array | None = None, symmetry: Symmetry = "union") -> csr_array:
        """The symmetric sparse matrix of values on the edges, with a zero diagonal.

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
        symmetrise = require("selection.kernels.graph").symmetrise
        start, columns, entries = symmetrise(self.neighbours, edges, symmetry == "mean")
        if start[-1] < 2**31:  # one integer type for both, and the smaller one is faster
            start = start.astype(np.int32)
        return csr_array((entries, columns, start), shape=(len(self), len(self)))

    def diagnostics(self) -> dict[str, Any]:
        """What a result reports of the graph that it was made with."""
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
    """The k examples j != i of largest similarity for every i.

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
    # Cells of unit vectors are balanced by distance, not by inner product; the order is the same.
    by_distance = metric != "inner"
    sample = np.random.default_rng(seed).choice(n, min(recall_sample, n), replace=False)
    sample.sort()
    _, truth = true_neighbours(rows, sample, k, by_distance, threads)
    slack = MATCH_TOLERANCE * max(float(np.max(np.abs(truth))), 1e-30)

    def recall(values: NDArray[np.float32]) -> float:
        # By value, so that equally near neighbours count whichever of them was found.
        return float(np.mean(values >= truth[:, -1:] - slack))

    found, values, exhaustive = approximate_neighbours(
        rows, k, by_distance, sample, recall, recall_target, seed, threads
    )
    share = recall(values[sample])
    if metric == "cosine":
        values = np.where(found < 0, np.float32(0), 1 + values / 2)  # 1 - norm(u - v)^2/2
    return Graph(found, np.ldexp(values, -2 * exponent), metric, exhaustive, share)


def pool_graph(pool: Pool, k: int, metric: Metric, seed: int, given: Given | None = None) -> Graph:
    """The pool's graph, or that of the k (at most n - 1) nearest neighbours of its features.

    Given examples from outside the pool stand behind it.

    Raises:
        ValueError: the pool has neither a graph nor features, or a graph, which cannot hold
            examples from outside.
    """
    outside = None if given is None else given.outside
    if pool.graph is not None and outside is not None:
        raise ValueError(
            "given examples from outside the pool have no place in its graph; leave the graph out "
            "and give features"
        )
    if pool.graph is not None:
        return pool.graph
    if pool.features is None:
        raise ValueError("the method needs features or a graph, and the pool has neither")
    rows = pool.features
    if outside is not None:
        if outside.features is None:
            raise ValueError("the given examples from outside the pool lack features")
        rows = np.concatenate([rows, outside.features])
    if len(rows) == 1:
        return Graph(np.full((1, 1), -1, np.int32), np.zeros((1, 1), np.float32), metric)
    return knn_graph(rows, min(k, len(rows) - 1), metric=metric, seed=seed)


def _check_finite(similarities: Array) -> None:
    finite = np.isfinite(similarities)
    if not np.all(finite):
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"similarities holds {similarities[place]} at index {place}; "
            "every one must be finite in single precision"
        )


def search_rows(features: ArrayLike, metric: Metric) -> tuple[NDArray[np.float32], int]:
    """Rows in single precision whose inner products or distances order examples as the metric does.

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
    """Mean over the views of the unit vectors: inner products are means over pairs of views."""
    unit = unit_rows("features", features)
    return unit if features.ndim == 2 else np.asarray(np.mean(unit, axis=1))
