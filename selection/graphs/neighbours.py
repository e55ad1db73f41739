"""Searches for nearest neighbours: exhaustive in faiss or JAX, approximate in faiss."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from selection.core.optional import require
from selection.core.progress import steps

__all__ = ["approximate_neighbours", "exact_neighbours", "true_neighbours"]

Rows = NDArray[np.float32]
Found = tuple[NDArray[np.int32], NDArray[np.float32]]

BLOCK = 1 << 16  # queries a call: what a progress bar can show
ACCELERATOR_BLOCK = 1024  # queries times n products are on the accelerator at once
TRAINING_POINTS = 64  # a cell, for its centre
FIRST_PROBES, MOST_PROBES = 4, 64


def exact_neighbours(rows: Rows, k: int, euclidean: bool, threads: int | None) -> Found:
    """The k nearest other rows of every row, by comparing it with all."""
    if jax.default_backend() != "cpu":
        return accelerator_neighbours(rows, k, euclidean)
    index = _flat(rows, euclidean)
    with _threads(threads):
        return _search_all(index, rows, k, euclidean)


def true_neighbours(
    rows: Rows, sample: NDArray[np.int64], k: int, euclidean: bool, threads: int | None
) -> Found:
    """The same for some rows only."""
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
    """Neighbours from an inverted file, and whether it looked at every cell.

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
    """The k nearest other rows of every row, on JAX's default device."""
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
    """Drop each row's own entry; the last one where duplicates have displaced it."""
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
