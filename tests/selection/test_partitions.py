"""Selections in parts: the same in this process and on a cluster, budgets that add up."""

import numpy as np
import pytest
from distributed import LocalCluster

from selection import Pool, Scores
from selection.infomax.method import InfoMax
from selection.methods.partitions import Partitioned
from selection.methods.proxy import ViaProxy
from selection.methods.ranking import Hard

RNG = np.random.default_rng(0)
POOL = Pool.of(scores=RNG.random(600), features=RNG.standard_normal((600, 5)))
METHOD = InfoMax(certificate_steps=0)


def test_a_cluster_gives_the_subset_of_one_process() -> None:
    alone = Partitioned(METHOD, parts=5).select(POOL, 103, seed=4)
    assert len(np.unique(alone.indices)) == 103
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        together = Partitioned(METHOD, 5, address).select(POOL, 103, seed=4)
    assert np.array_equal(alone.indices, together.indices)
    assert np.array_equal(alone.weights, together.weights)
    other = Partitioned(METHOD, parts=5).select(POOL, 103, seed=5)
    assert not np.array_equal(alone.indices, other.indices)


def test_parts_are_random_and_share_the_budget() -> None:
    found = Partitioned(Hard(), parts=4).select(POOL, 200, seed=0)
    assert len(found) == 200 and len(found.diagnostics["parts"]) == 4
    assert POOL.scores is not None
    top = np.argsort(-POOL.scores.values)[:200]
    # A part of 150 keeps its 50 best: most of the 200 best are among them, not all.
    assert 160 < len(np.intersect1d(found.indices, top)) < 200
    one = Partitioned(Hard(), parts=1).select(POOL, 200)
    assert np.array_equal(one.indices, top)


def test_clusters_that_do_not_answer_and_too_many_parts() -> None:
    with pytest.raises(ValueError, match="parts = 9 is more than the budget 5"):
        Partitioned(Hard(), parts=9).select(POOL, 5)


def test_selection_via_proxy_uses_the_other_scores() -> None:
    other = Scores.of(RNG.random(600))
    found = ViaProxy(Hard(), other).select(POOL, 50)
    assert np.array_equal(found.indices, np.argsort(-other.values)[:50])
    with pytest.raises(ValueError, match="scores of 3 examples, the pool 600"):
        ViaProxy(Hard(), Scores.of([1.0, 2.0, 3.0])).select(POOL, 5)
