"""Hierarchical k-means against shares that are given out one by one, and against the density."""

import numpy as np
import pytest

from selection import HierarchicalKMeans, Pool, kmeans
from selection.methods.hierarchy import resampled_kmeans

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.standard_normal((300, 3)) * np.exp(RANDOM.standard_normal((300, 1)))


def one_by_one(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Give each example to a cluster that has got the fewest, the largest of equals."""
    given = np.zeros(len(sizes), int)
    for _ in range(budget):
        open_ = [c for c in range(len(sizes)) if given[c] < sizes[c]]
        fewest = min(given[c] for c in open_)
        given[max((sizes[c], c) for c in open_ if given[c] == fewest)[1]] += 1
    return given


@pytest.mark.parametrize("budget", [1, 25, 100, 290])
def test_clusters_share_equally_level_by_level(budget: int) -> None:
    low = kmeans(ROWS, 40, seed=3)
    high = kmeans(low.centroids, 4, seed=3)
    sizes = np.bincount(low.assignments, minlength=40)
    assert sizes.min() > 0  # no cluster is left out
    totals = np.array([sizes[high.assignments == c].sum() for c in range(4)])
    wanted = np.zeros(40, int)
    for c, part in enumerate(one_by_one(totals, budget)):
        inside = np.flatnonzero(high.assignments == c)
        wanted[inside] = one_by_one(sizes[inside], part)
    method = HierarchicalKMeans(clusters=40, resamples=0)
    found = method.select(Pool.of(features=ROWS), budget, seed=3)
    counts = np.bincount(low.assignments[found.indices], minlength=40)
    np.testing.assert_array_equal(counts, wanted)
    assert found.diagnostics["clusters"] == [40, 4] and len(np.unique(found.indices)) == budget


def test_resampled_clusters_are_nearest_centroids() -> None:
    found = resampled_kmeans(ROWS, 20, 3, seed=1)
    distances = np.linalg.norm(ROWS[:, None] - found.centroids, axis=2)
    np.testing.assert_array_equal(found.assignments, distances.argmin(axis=1))
    np.testing.assert_allclose(found.distances, distances.min(axis=1), rtol=1e-6)
    # One resampling, step by step: the floor(300 / 40) nearest of each cluster, by enumeration.
    first = kmeans(ROWS, 20, seed=1)
    near = sorted(
        row
        for c in range(20)
        for row in sorted(np.flatnonzero(first.assignments == c), key=lambda r: first.distances[r])[
            :7
        ]
    )
    again = kmeans(ROWS[near], 20, seed=1)
    np.testing.assert_array_equal(resampled_kmeans(ROWS, 20, 1, seed=1).centroids, again.centroids)


def test_resampling_spreads_the_picks_over_the_space() -> None:
    # Nine of ten examples are in a hundredth of the interval.
    dense = RANDOM.random(3600) / 100
    rows = np.concatenate([dense, RANDOM.random(400)])[:, None]
    shares = []
    for options in ({"resamples": 0}, {"resamples": 10}):
        found = HierarchicalKMeans(clusters=100, levels=2, **options).select(
            Pool.of(features=rows), 200
        )
        shares.append(np.mean(rows[found.indices, 0] < 0.01))
    assert shares[1] < shares[0] < 0.9


def test_given_examples_count_in_their_clusters() -> None:
    centres = np.array([[0.0, 0], [50, 0], [0, 50]])
    rows = np.repeat(centres, 20, axis=0) + RANDOM.random((60, 2))
    pool = Pool.of(features=rows)
    found = HierarchicalKMeans(clusters=3).select(pool, 6, given=np.arange(3))
    assert np.bincount(found.indices // 20, minlength=3).tolist() == [0, 3, 3]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"clusters": 0}, "clusters = 0 is outside"),
        ({"levels": 11}, "levels = 11 is outside"),
        ({"resamples": -1}, "resamples = -1 is outside"),
    ],
)
def test_bad_options(options: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        HierarchicalKMeans(**options)
