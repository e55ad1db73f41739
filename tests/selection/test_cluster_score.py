"""SSP and the best scores of every cluster, on clusters that k-means cannot miss."""

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from selection import Pool
from selection.methods.clusters import ClusterTop, ssp

CENTRES = 50 * np.eye(3)
GROUP = np.repeat([0, 1, 2], [40, 25, 10])
FEATURES = CENTRES[GROUP] + np.random.default_rng(0).standard_normal((75, 3))
# One cluster for every group: three well-separated groups from any start that hits all of them.
SEED = 1


def test_ssp_is_the_distance_to_the_own_mean() -> None:
    means = np.stack([FEATURES[g == GROUP].mean(axis=0) for g in range(3)])
    wanted = pairwise_distances(FEATURES, means).min(axis=1)
    found = ssp(FEATURES, clusters=3, cosine=False, seed=SEED).values
    # faiss computes squares of 2,500 in single precision.
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_ssp_by_cosine_does_not_see_the_length() -> None:
    factors = np.random.default_rng(1).uniform(0.5, 2.0, size=(75, 1))
    one, other = (ssp(x, clusters=3, seed=SEED).values for x in (FEATURES, factors * FEATURES))
    np.testing.assert_allclose(one, other, atol=1e-6)
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    means = np.stack([unit[g == GROUP].mean(axis=0) for g in range(3)])
    cosines = unit @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    np.testing.assert_allclose(one, 1 - cosines.max(axis=1), atol=1e-6)
    with pytest.raises(ValueError, match="norm zero at row 0"):
        ssp(np.zeros((4, 2)), clusters=2)


def test_clusters_take_turns() -> None:
    scores = np.random.default_rng(2).random(75)
    pool = Pool.of(features=FEATURES, scores=scores)
    whole = ClusterTop(clusters=3).select(pool, 75, seed=SEED)
    for budget, counts in ((3, [1, 1, 1]), (30, [10, 10, 10]), (50, [20, 20, 10])):
        kept = ClusterTop(clusters=3).select(pool, budget, seed=SEED).indices
        np.testing.assert_array_equal(kept, whole.prefix(budget).indices)
        assert np.bincount(GROUP[kept]).tolist() == counts
        for g, count in enumerate(counts):
            best = np.sort(scores[g == GROUP])[::-1][:count]
            np.testing.assert_array_equal(np.sort(scores[kept][GROUP[kept] == g])[::-1], best)


def test_as_many_clusters_as_classes() -> None:
    features = np.random.default_rng(0).standard_normal((60, 4))
    words = np.array(["b", "a", "c", "a"] * 15)
    assert ssp(features, words).provenance["clusters"] == 3
    assert np.array_equal(ssp(features, words).values, ssp(features, clusters=3).values)
    assert ssp(features).provenance["clusters"] == 10
    assert ssp(features, words, clusters=5).provenance["clusters"] == 5
