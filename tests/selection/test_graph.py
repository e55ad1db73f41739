"""Nearest neighbours against scikit-learn, the symmetric matrix against SciPy, measured recall."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.neighbors import NearestNeighbors

from selection import Pool
from selection import graph as neighbours
from selection.graph import Graph, knn_graph
from selection.methods.graph import InfoMax

RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((300, 12))
# Single precision, 12 terms of size one.
SINGLE = 1e-5


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_exact_neighbours_are_those_of_scikit_learn(metric: str) -> None:
    graph = knn_graph(POINTS, 4, metric=metric)
    distances, rows = NearestNeighbors(n_neighbors=5, metric=metric).fit(POINTS).kneighbors(POINTS)
    assert np.array_equal(graph.neighbours, rows[:, 1:])
    own = 1 - distances if metric == "cosine" else -(distances**2)
    assert np.allclose(graph.similarities, own[:, 1:], rtol=SINGLE, atol=SINGLE)
    assert graph.exact and graph.recall == 1.0


def test_inner_products_are_searched_without_normalisation() -> None:
    graph = knn_graph(POINTS, 3, metric="inner")
    products = POINTS @ POINTS.T
    np.fill_diagonal(products, -np.inf)
    assert np.array_equal(graph.neighbours, np.argsort(-products, axis=1)[:, :3])
    with pytest.raises(ValueError, match="gives no distances"):
        _ = graph.squared_distances


@pytest.mark.parametrize("euclidean", [False, True])
def test_the_accelerator_search_agrees_with_faiss(euclidean: bool) -> None:
    rows = POINTS.astype(np.float32)
    found, values = neighbours.accelerator_neighbours(rows, 4, euclidean)
    expected = knn_graph(rows, 4, metric="euclidean" if euclidean else "inner")
    assert np.array_equal(found, expected.neighbours)
    # d^2 is a difference of squares of size 40 here.
    assert np.allclose(values, expected.similarities, rtol=SINGLE, atol=40 * SINGLE)


def test_the_inverted_file_reports_the_recall_that_it_has() -> None:
    centres = 3 * RNG.standard_normal((20, 8))
    points = centres[RNG.integers(20, size=4000)] + RNG.standard_normal((4000, 8))
    graph = knn_graph(points, 5, method="ivf", recall_target=0.5, recall_sample=4000)
    truth = knn_graph(points, 5, method="exact")
    pairs = zip(graph.neighbours, truth.neighbours, strict=True)
    hits = np.mean([len(np.intersect1d(one, other)) for one, other in pairs]) / 5
    # By value instead of by name: equal similarities may count twice.
    assert abs(graph.recall - hits) < 1e-3
    assert 0.5 <= graph.recall < 1 and not graph.exact
    better = knn_graph(points, 5, method="ivf", recall_target=1.0)
    assert better.recall > graph.recall
    assert "warning" not in better.diagnostics()
    without_clusters = RNG.standard_normal((4000, 16))
    poor = knn_graph(without_clusters, 5, method="ivf", recall_target=0.1)
    assert poor.recall < 0.9
    assert f"found {poor.recall:.0%} of" in poor.diagnostics()["warning"]


def test_duplicates_are_neighbours_and_none_is_its_own() -> None:
    points = np.repeat(POINTS[:30], 8, axis=0)
    graph = knn_graph(points, 5)
    assert not np.any(graph.neighbours == np.arange(240)[:, None])
    assert np.array_equal(graph.neighbours // 8, np.repeat(np.arange(30), 8)[:, None].repeat(5, 1))
    assert np.allclose(graph.similarities, 1, rtol=0, atol=SINGLE)


def test_views_are_averaged_as_unit_vectors() -> None:
    views = np.stack([POINTS, RNG.standard_normal(POINTS.shape)], axis=1)
    unit = views / np.linalg.norm(views, axis=2, keepdims=True)
    assert np.array_equal(knn_graph(views, 3).neighbours, knn_graph(unit.mean(1), 3).neighbours)


@pytest.mark.parametrize("symmetry", ["union", "mean"])
def test_the_symmetric_matrix_is_that_of_scipy(symmetry: str) -> None:
    graph = knn_graph(POINTS, 4)
    starts = np.arange(0, 1201, 4)
    values = graph.similarities.ravel().astype(float)
    directed = csr_array((values, graph.neighbours.ravel(), starts), shape=(300, 300))
    both = directed.maximum(directed.T) if symmetry == "union" else (directed + directed.T) / 2
    found = graph.symmetric(symmetry=symmetry)
    # faiss may round s_ij and s_ji differently.
    assert abs(found - both).max() <= (1e-7 if symmetry == "mean" else 0)
    assert abs(found - found.T).max() == 0
    assert np.all(found.diagonal() == 0)


def test_taking_rows_drops_edges_that_leave() -> None:
    graph = knn_graph(POINTS, 4)
    rows = np.array([7, 3, 200, 150, 9])
    whole = graph.symmetric().toarray()[np.ix_(rows, rows)]
    assert np.array_equal(graph.take(rows).symmetric().toarray(), whole)


def test_bad_graphs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"norm zero at row 2"):
        knn_graph(np.where(np.arange(300)[:, None] == 2, 0, POINTS), 3)
    with pytest.raises(ValueError, match=r"k = 300 is outside the valid range \[1, 299\]"):
        knn_graph(POINTS, 300)
    with pytest.raises(ValueError, match=r"features holds nan at index \(4, 1\)"):
        knn_graph(np.where(np.arange(3600).reshape(300, 12) == 49, np.nan, POINTS), 3)
    with pytest.raises(ValueError, match="disconnected: row 2 has no neighbour and is none"):
        Graph.of([[1], [0], [-1]], [[0.5]] * 3)
    assert Graph.of([[1], [-1]], [[0.5], [0.5]]).symmetric().nnz == 2  # row 0 lists row 1
    with pytest.raises(ValueError, match="neighbours lists row 1 twice in row 0"):
        Graph.of([[1, 1], [0, -1]], [[0.5, 0.2], [0.5, 0]])
    with pytest.raises(ValueError, match=r"similarities holds inf at index \(0, 0\)"):
        Graph.of([[1], [0]], [[np.inf], [0.5]])
    with pytest.raises(ValueError, match="row 1 as its own neighbour"):
        Graph.of([[1], [1]], [[0.5], [0.5]])
    with pytest.raises(ValueError, match="metric = 'dot' is not one of cosine, inner, euclidean"):
        knn_graph(POINTS, 3, metric="dot")  # type: ignore[arg-type]


def test_numbers_too_large_for_similarities_are_refused() -> None:
    """What overflows in the precision of the search, wherever it comes from."""
    for scale, kind in ((1e151, np.float64), (1e30, np.float32)):
        with pytest.raises(ValueError, match="overflow, scale them down"):
            knn_graph((POINTS * scale).astype(kind), 3)
        with pytest.raises(ValueError, match=r"features holds .* at index \(\d+, \d+\)"):
            Pool.of(features=(POINTS * scale).astype(kind))
    with pytest.raises(ValueError, match="squares of float32 numbers"):
        knn_graph(POINTS * 1e30, 3, metric="inner")
    # Directions of large doubles are as good as any.
    large, usual = knn_graph(POINTS * 1e100, 3), knn_graph(POINTS, 3)
    assert np.array_equal(large.neighbours, usual.neighbours)
    with pytest.raises(ValueError, match=r"holds inf at index \(1, 0\).*single precision"):
        Graph.of([[1], [0]], [[0.5], [1e300]])
    broken = Graph(np.array([[1], [0]], np.int32), np.full((2, 1), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"similarities holds nan at index \(0, 0\)"):
        InfoMax().select(Pool.of(scores=[0.0, 1.0], graph=broken), 1)
