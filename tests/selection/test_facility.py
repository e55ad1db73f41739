"""Facility location and CRAIG against enumeration, apricot and plain definitions; D2."""

import itertools

import numpy as np
import pytest
from scipy.sparse import csr_array

from selection import Pool
from selection.graph import Graph, knn_graph
from selection.methods.facility import (
    CRAIG,
    AdaCore,
    FacilityLocation,
    Points,
    assign,
    greedy_exact,
    greedy_sparse,
    neighbour_similarity,
)
from selection.methods.graph import D2, edge_weights, message_passing, reverse_picks

RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((400, 6))


def distances(rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows[:, None] - rows[None], axis=2)


def test_blocks_are_the_distances_themselves() -> None:
    points = Points(POINTS + 1e3)
    plain = distances(POINTS)
    # Squares lose digits to each other: sqrt(eps) of the largest, near zero.
    assert np.allclose(points.distances(np.arange(400)), plain, rtol=0, atol=1e-6)
    assert np.isclose(points.largest, plain.max(), rtol=1e-12)
    assert np.allclose(points.first_gains, (plain.max() - plain).sum(0), rtol=1e-9)


def test_lazy_greedy_is_greedy() -> None:
    plain = distances(POINTS)
    similarity = plain.max() - plain
    picks, gains = greedy_exact(Points(POINTS), 40)
    naive, cover = [], np.zeros(400)
    for _ in range(40):
        gain = np.maximum(similarity - cover[:, None], 0).sum(0)
        naive.append(int(np.argmax(gain)))
        cover = np.maximum(cover, similarity[:, naive[-1]])
    assert picks.tolist() == naive
    assert np.isclose(gains.sum(), cover.sum(), rtol=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_equal_gains_go_to_the_first_row(seed: int) -> None:
    """Late picks cover themselves alone, so that pairs of mutual neighbours tie exactly."""
    rows = np.random.default_rng(seed).standard_normal((40, 3))
    plain = distances(rows)
    similarity, cover, naive = plain.max() - plain, np.zeros(40), []
    for _ in range(12):
        gain = np.maximum(similarity - cover[:, None], 0).sum(0)
        naive.append(int(np.flatnonzero(gain >= gain.max() * (1 - 1e-12))[0]))
        cover = np.maximum(cover, similarity[:, naive[-1]])
    for layout in (rows, np.asfortranarray(rows)):
        assert greedy_exact(Points(layout), 12)[0].tolist() == naive


def test_sparse_greedy_is_greedy_too() -> None:
    matrix = neighbour_similarity(POINTS, 8, 0)
    similarity = matrix.toarray()
    picks, gains = greedy_sparse(matrix, 60)
    cover = np.zeros(400)
    for pick, gain in zip(picks, gains, strict=True):
        steps = np.maximum(similarity - cover[:, None], 0).sum(0)
        assert np.isclose(gain, steps.max(), rtol=1e-12) and np.isclose(steps[pick], steps.max())
        cover = np.maximum(cover, similarity[:, pick])
    assert np.isclose(gains.sum(), similarity[:, picks].max(1).sum(), rtol=1e-12)
    with pytest.raises(ValueError, match="negative number"):
        greedy_sparse(csr_array(-np.eye(3)), 1)


def test_greedy_keeps_its_guarantee() -> None:
    for seed in range(5):
        rows = np.random.default_rng(seed).standard_normal((11, 2))
        plain = distances(rows)
        similarity = plain.max() - plain
        best = max(
            similarity[:, list(s)].max(1).sum() for s in itertools.combinations(range(11), 4)
        )
        gains = greedy_exact(Points(rows), 4)[1]
        assert (1 - np.exp(-1)) * best <= gains.sum() <= best + 1e-9


def test_weights_are_cluster_sizes() -> None:
    # Off by one in a published implementation: a pick belongs to its own cluster.
    labels = RNG.integers(3, size=400)
    pool = Pool.of(features=POINTS, gradients=POINTS @ RNG.standard_normal((6, 4)), labels=labels)
    found = CRAIG().select(pool, 37)
    assert pool.gradients is not None
    sizes = np.zeros(37)
    for label in range(3):
        inside = np.flatnonzero(labels[found.indices] == label)
        chosen = found.indices[inside]
        near = distances(pool.gradients)[np.ix_(labels == label, chosen)]
        sizes[inside] = np.bincount(near.argmin(1), minlength=len(chosen))
    assert np.array_equal(found.weights, sizes)
    assert found.weights.sum() == 400 and found.weights.min() >= 1
    assert len(found) == 37


def test_copies_are_assigned_to_the_first_pick_and_picks_to_themselves() -> None:
    rows = np.repeat(POINTS[:5] + 1e6, 3, axis=0)
    owner, nearest = assign(rows, np.array([0, 3, 4, 6]))
    assert owner[[0, 1, 2]].tolist() == [0, 0, 0]
    assert owner[[3, 4, 5]].tolist() == [1, 2, 1]
    assert owner[6] == 3
    assert np.all(nearest[:6] == 0)


@pytest.mark.parametrize("seed", range(8))
def test_rounding_does_not_tell_equal_distances_apart(seed: int) -> None:
    """Whole numbers on a line: as near to an earlier point as to a pick is not the pick's."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 9, 40)
    before = random.integers(0, 9, 3)
    chosen = np.unique(rows, return_index=True)[1][[1, 4, 6]]
    distances = np.abs(rows[:, None] - np.concatenate([before, rows[chosen]]))
    expected = np.maximum(np.argmin(distances, axis=1) - 3, -1)
    expected[chosen] = np.arange(3)
    owner, nearest = assign(rows[:, None] + 0.0, chosen, before[:, None] + 0.0)
    assert owner.tolist() == expected.tolist()
    rest = np.setdiff1d(np.arange(40), chosen)
    np.testing.assert_allclose(nearest[rest], distances.min(axis=1)[rest], atol=1e-6)


def test_the_sparse_mode_reports_what_it_loses() -> None:
    pool = Pool.of(features=POINTS)
    exact = FacilityLocation(mode="exact").select(pool, 30)
    sparse = FacilityLocation(mode="sparse", neighbours=15).select(pool, 30)
    plain = distances(POINTS)
    values = [(plain.max() - plain)[:, s.indices].max(1).sum() for s in (exact, sparse)]
    assert np.isclose(sparse.diagnostics["sparse_loss"][0], 1 - values[1] / values[0], atol=1e-9)
    assert exact.objective is not None
    assert np.isclose(exact.objective, values[0], rtol=1e-9)
    everyone = FacilityLocation(mode="sparse", neighbours=399).select(pool, 30)
    assert abs(everyone.diagnostics["sparse_loss"][0]) < 1e-6


def test_adacore_is_craig_on_preconditioned_gradients() -> None:
    curvature = np.array([1.0, 4.0, 9.0, 2.0, 1.0, 1.0])
    pool = Pool.of(gradients=POINTS)
    ours = AdaCore(curvature=curvature, damping=0.5).select(pool, 20)
    scaled = Pool.of(gradients=POINTS / (curvature + 0.5 * curvature.mean()))
    assert np.array_equal(ours.indices, CRAIG().select(scaled, 20).indices)
    with pytest.raises(ValueError, match=r"curvature has shape \(2,\)"):
        AdaCore(curvature=np.ones(2)).select(pool, 5)


def test_d2_passes_messages_both_ways() -> None:
    # A chain 0 - 1 - 2 that only one end of each edge lists.
    graph = Graph.of([[1], [2], [1]], [[0.5], [0.875], [0.875]])
    scores = np.array([0.1, 0.5, 0.4])
    weights = edge_weights(graph, 1.0).toarray()
    # d^2 = 2 - 2 cos: 1 and 1/4; the matrix is symmetric although row 1 does not list row 0.
    expected = np.array([[0, np.exp(-1), 0], [np.exp(-1), 0, np.exp(-0.25)], [0, np.exp(-0.25), 0]])
    assert np.allclose(weights, expected, rtol=1e-6)
    forward = scores + expected @ scores
    assert np.allclose(message_passing(scores, edge_weights(graph, 1.0)), forward, rtol=1e-6)
    found = D2(gamma_reverse=2.0, scaling="none").select(Pool.of(scores=scores, graph=graph), 3)
    order, values = [], forward.copy()
    back = np.where(expected > 0, expected**2, 0)
    for _ in range(3):
        pick = max((i for i in range(3) if i not in order), key=lambda i: values[i])
        order.append(pick)
        values -= back[pick] * max(values[pick], 0)
    assert found.indices.tolist() == order
    plain = edge_weights(graph, 1.0, power=1).toarray()
    assert np.isclose(plain[0, 1], np.exp(-1)) and np.isclose(plain[1, 2], np.exp(-0.5))


@pytest.mark.parametrize("clamped", [True, False])
def test_d2_picks_are_the_largest_values_one_by_one(clamped: bool) -> None:
    graph = knn_graph(POINTS, 6)
    weights = edge_weights(graph, 0.3)
    values = RNG.standard_normal(400)  # negative ones raise their neighbours unless clamped
    picks, gains = reverse_picks(values, weights, 400, clamped=clamped)
    dense, left, free = weights.toarray(), values.copy(), np.ones(400, dtype=bool)
    for pick, gain in zip(picks, gains, strict=True):
        best = int(np.argmax(np.where(free, left, -np.inf)))
        assert pick == best and np.isclose(gain, left[best], rtol=1e-12, atol=1e-12)
        free[best] = False
        left -= dense[best] * (max(left[best], 0) if clamped else left[best]) * free
    if clamped:
        later = reverse_picks(values, weights, 400)[1]
        assert np.all(later <= np.sort(values)[::-1][0])


def test_d2_as_published_uses_its_own_settings() -> None:
    pool = Pool.of(scores=RNG.random(400), features=POINTS)
    found = D2(published=True).select(pool, 50)
    assert found.diagnostics["neighbours"] == 10
    assert not np.array_equal(found.indices, D2().select(pool, 50).indices)
    with pytest.raises(ValueError, match="published = True decides gamma_forward"):
        D2(published=True, gamma_forward=0.5)
