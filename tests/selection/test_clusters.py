"""Methods on clusters and methods that spread out, against plain definitions."""

import itertools

import numpy as np
import pytest

from selection import Pool
from selection.graph import kmeans
from selection.methods.clusters import BADGE, S2L, plus_plus
from selection.methods.dedup import D4, MedDEL, SemDeDup, nearest_earlier
from selection.methods.diversity import CodingRate, HullVolume, greedy_log_det
from selection.selector import generator

RNG = np.random.default_rng(0)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def copies(count: int, times: int, d: int = 6) -> np.ndarray:
    return np.repeat(RNG.standard_normal((count, d)), times, axis=0)


def test_kmeans_finds_well_separated_groups() -> None:
    labels = RNG.integers(4, size=200)
    rows = 20 * np.eye(6)[labels] + RNG.standard_normal((200, 6))
    for spherical in (False, True):
        found = kmeans(rows, 4, spherical=spherical, seed=3)
        if len(found.members()) == 4:
            assert len(set(zip(labels.tolist(), found.assignments.tolist(), strict=True))) >= 4
        own = found.centroids[found.assignments]
        if spherical:
            assert np.allclose(found.distances, 1 - np.sum(unit(rows) * own, 1), atol=1e-5)
        else:
            # d^2 is a difference of squares of size 400 in single precision.
            assert np.allclose(found.distances, np.linalg.norm(rows - own, axis=1), atol=1e-2)
        starts = [members[0] for members in found.members()]
        assert starts == sorted(starts)
    with pytest.raises(ValueError, match=r"k = 201 is outside the valid range \[1, 200\]"):
        kmeans(rows, 201)


def test_semdedup_keeps_one_of_each_set_of_copies() -> None:
    rows = copies(40, 5)
    found = SemDeDup(epsilon=1e-6, clusters=1).select(Pool.of(features=rows), 40)
    assert found.achieved == 40 and found.requested == 40
    assert sorted((found.indices // 5).tolist()) == list(range(40))


def test_nearest_earlier_is_the_definition() -> None:
    rows = unit(RNG.standard_normal((1300, 4)))
    rank = RNG.random(1300)
    groups = [np.arange(0, 1300, 2), np.arange(1, 1300, 2)]
    found = nearest_earlier(rows, groups, rank)
    for group in groups:
        order = group[np.argsort(rank[group])]
        cosines = np.tril(rows[order] @ rows[order].T + 2, -1) - 2
        expected = cosines.max(1)
        expected[0] = -1
        assert np.allclose(found[order], expected, rtol=0, atol=1e-12)


def test_a_threshold_stops_where_it_stops_and_exact_moves_it() -> None:
    rows = RNG.standard_normal((300, 5))
    pool = Pool.of(features=rows)
    loose = SemDeDup(epsilon=0.1, clusters=3).select(pool, 50)
    assert loose.achieved == loose.diagnostics["kept_at_threshold"] != 50
    exact = SemDeDup(epsilon=0.1, clusters=3, exact=True).select(pool, 50)
    assert exact.achieved == 50
    # The moved threshold keeps exactly these: bisection would end at the same set.
    moved = 1 - exact.diagnostics["exact_threshold"]
    same = SemDeDup(epsilon=moved, clusters=3).select(pool, 50)
    assert np.array_equal(same.indices, exact.indices)


def test_meddel_drops_outliers_and_one_of_each_pair() -> None:
    rows = np.concatenate([[1, 0, 0] + 0.05 * RNG.standard_normal((30, 3)), [[-1.0, 0, 0]]])
    pool = Pool.of(features=rows)
    found = MedDEL(epsilon=0.5, eta=1.0, clusters=1).select(pool, 5)
    assert found.diagnostics["dropped_far"] == 1 and 30 not in found.indices
    cosines = unit(rows) @ unit(rows).T
    for keep in ("nearer", "farther"):
        few = MedDEL(epsilon=0.5, eta=0.999, clusters=1, keep=keep).select(pool, 5)
        centre = kmeans(unit(rows), 1, spherical=True).centroids[0]
        distance = 1 - unit(rows) @ centre
        order = np.argsort(distance if keep == "nearer" else -distance)
        order = order[order != 30]
        kept = [
            row
            for place, row in enumerate(order)
            if place == 0 or cosines[row, order[:place]].max() <= 0.999
        ]
        assert set(few.indices.tolist()) == set(kept)
    with pytest.raises(ValueError, match="leaves 30 of 31 examples, fewer than the budget 31"):
        MedDEL(epsilon=0.5, exact=True, clusters=1).select(pool, 31)


def test_d4_takes_the_farthest_of_what_semdedup_leaves() -> None:
    rows = copies(50, 4)
    found = D4(epsilon=1e-6, clusters=2).select(Pool.of(features=rows), 20, seed=1)
    assert found.diagnostics["left_by_semdedup"] <= 52  # a set of copies may be cut by clusters
    assert len(found) == 20 and found.gains is not None
    assert np.all(np.diff(found.gains) <= 0)


def test_s2l_gives_small_clusters_their_whole() -> None:
    # Clusters of 3, 10 and 87 trajectories, far apart; 30 picks: 3, floor(27/2) -> 10, 17.
    sizes = [3, 10, 87]
    rows = np.repeat(100 * np.eye(3), sizes, axis=0) + 0.1 * RNG.standard_normal((100, 3))
    for seed in range(20):
        clusters = kmeans(rows, 3, seed=seed).members()
        if sorted(map(len, clusters)) == sizes:
            break
    found = S2L(clusters=3).select(Pool.of(trajectories=rows), 30, seed=seed)
    which = np.repeat([0, 1, 2], sizes)[found.indices]
    assert np.bincount(which).tolist() == [3, 10, 17]
    assert found.diagnostics["taken_whole"] == 2
    assert len(np.unique(found.indices)) == 30


def test_badge_draws_by_squared_distance() -> None:
    rows = np.array([[10.0, 0], [9.0, 0], [0, 3.0], [0, 0]])
    # After (10, 0): squared distances 1, 109, 100.
    seconds = [plus_plus(rows, 2, generator(seed))[0][1] for seed in range(2000)]
    share = np.bincount(seconds, minlength=4) / 2000
    expected = np.array([0, 1, 109, 100]) / 210
    # Three standard errors of a share of a half.
    assert np.all(np.abs(share - expected) <= 3 * 0.5 / np.sqrt(2000))
    picks, gains = plus_plus(np.repeat(rows, 3, axis=0), 12, generator(0))
    assert sorted(picks.tolist()) == list(range(12))
    assert np.all(gains[4:] == 0)
    found = BADGE().select(Pool.of(gradients=rows), 2)
    assert found.indices[0] == 0


def test_badge_measures_near_rows_that_lie_far_out() -> None:
    # In single precision, products of such rows would lose their distances altogether.
    rows = (1000 + RNG.standard_normal((200, 30))).astype(np.float32)
    rows[100:] = RNG.standard_normal((100, 30))
    picks, gains = plus_plus(rows, 20, generator(1))
    exact = rows.astype(np.float64)
    for step in range(1, 20):
        squares = np.sum((exact[picks[:step]] - exact[picks[step]]) ** 2, axis=1)
        # Four digits; the rows' own rounding at 1000 is 6e-5 of a distance of 8.
        assert np.isclose(gains[step], squares.min(), rtol=3e-4)


def test_the_coding_rate_is_a_log_determinant_and_greedy_keeps_its_guarantee() -> None:
    rows = unit(RNG.standard_normal((10, 3)))
    picks, gains = greedy_log_det(rows, 4, 2.0)

    def value(chosen: list[int]) -> float:
        own = rows[chosen]
        return float(np.linalg.slogdet(np.eye(3) + 2 * own.T @ own)[1])

    for count in range(1, 5):
        assert np.isclose(gains[:count].sum(), value(picks[:count].tolist()), rtol=1e-12)
    best = max(value(list(s)) for s in itertools.combinations(range(10), 4))
    assert (1 - np.exp(-1)) * best <= gains.sum() <= best + 1e-12
    found = CodingRate(precision=1.0).select(Pool.of(features=rows), 4)
    strength = 3 / 4
    own = rows[found.indices]
    assert found.objective is not None
    expected = np.linalg.slogdet(np.eye(3) + strength * own.T @ own)[1] / 2
    assert np.isclose(found.objective, expected, rtol=1e-12)


def test_hull_volume_spans_and_dispersion_is_half_of_the_best() -> None:
    rows = RNG.standard_normal((11, 3))
    found = HullVolume().select(Pool.of(features=rows), 9)
    assert found.gains is not None
    edges = rows[found.indices[1:4]] - rows[found.indices[0]]
    assert np.isclose(np.prod(found.gains[1:4]), abs(np.linalg.det(edges)), rtol=1e-10)
    assert len(np.unique(found.indices)) == 9  # a second simplex, and a third one
    plain = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    spread = HullVolume("dispersion").select(Pool.of(features=rows), 4)
    best = max(plain[np.ix_(s, s)].sum() / 2 for s in itertools.combinations(range(11), 4))
    own = plain[np.ix_(spread.indices, spread.indices)].sum() / 2
    assert spread.objective is not None
    assert np.isclose(spread.objective, own, rtol=1e-12)
    assert best / 2 <= own <= best + 1e-12
