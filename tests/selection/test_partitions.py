"""Selections in parts: the same in this process and on a cluster, budgets that add up."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from distributed import LocalCluster

from selection import Pool, Scores, Selector, Subset
from selection.files import json_text
from selection.infomax.method import InfoMax
from selection.methods.ranking import Hard
from selection.methods.wrappers import Listed, Partitioned, Quotas, ViaProxy

RNG = np.random.default_rng(0)
POOL = Pool.of(scores=RNG.random(600), features=RNG.standard_normal((600, 5)))
METHOD = InfoMax(certificate_steps=0)


def test_a_cluster_gives_the_subset_of_one_process(tmp_path: Path) -> None:
    alone = Partitioned(METHOD, parts=5).select(POOL, 103, seed=4)
    assert len(np.unique(alone.indices)) == 103
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        together = Partitioned(METHOD, 5, address, tmp_path).select(POOL, 103, seed=4)
    assert np.array_equal(alone.indices, together.indices)
    assert np.array_equal(alone.weights, together.weights)
    # What the cluster has finished serves one process as well.
    assert len(list(tmp_path.iterdir())) == 5
    resumed = Partitioned(METHOD, 5, finished=tmp_path).select(POOL, 103, seed=4)
    assert np.array_equal(alone.indices, resumed.indices)
    other = Partitioned(METHOD, parts=5).select(POOL, 103, seed=5)
    assert not np.array_equal(alone.indices, other.indices)


@dataclass(frozen=True)
class Fails(Selector):
    """Hard, until a number of parts are done."""

    name = "fails"
    done: ClassVar[int] = 0

    def _select(self, pool: Pool, budget: int, seed: int) -> Subset:
        if Fails.done == 3:
            raise KeyboardInterrupt
        Fails.done += 1
        return METHOD.select(pool, budget, seed)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        return 0


def test_finished_parts_are_found_again(tmp_path: Path) -> None:
    whole = Partitioned(Fails(), parts=5)
    again = replace(whole, finished=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        again.select(POOL, 103, seed=4)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(before) == 3
    Fails.done = -10
    resumed = again.select(POOL, 103, seed=4)
    assert Fails.done == -8  # the two that were missing
    assert {path: path.stat().st_mtime_ns for path in before} == before
    undisturbed = whole.select(POOL, 103, seed=4)
    assert np.array_equal(resumed.indices, undisturbed.indices)
    assert json.loads(json_text(resumed.diagnostics)) == json.loads(
        json_text(undisturbed.diagnostics)
    )
    # One feature of one example is another one: that part is not taken, the others are.
    features = POOL.features.copy()
    features[7, 2] += 1e-12
    Fails.done = -10
    again.select(replace(POOL, features=features), 103, seed=4)
    assert Fails.done == -9
    for selection in (
        lambda: again.select(POOL, 103, seed=5),
        lambda: again.select(POOL, 110, seed=4),
    ):
        Fails.done = -10
        selection()
        assert Fails.done == -5


def test_a_damaged_part_is_solved_again(tmp_path: Path) -> None:
    again = Partitioned(Hard(), parts=2, finished=tmp_path)
    whole = again.select(POOL, 10)
    path = sorted(tmp_path.iterdir())[0]
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    assert np.array_equal(again.select(POOL, 10).indices, whole.indices)
    assert len(path.read_bytes()) == len(content)


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
    other = Scores.of(RNG.random(len(POOL)))
    found = ViaProxy(Hard(), other).select(POOL, 50)
    assert found.indices.tolist() == np.argsort(-other.values, kind="stable")[:50].tolist()
    with pytest.raises(ValueError, match="no score of the example 3; it has 3 scores"):
        ViaProxy(Hard(), Scores.of([1.0, 2.0, 3.0])).select(POOL, 5)


@pytest.mark.parametrize("ids", [np.arange(40)[::-1], [f"x{i:02}" for i in range(40)][::-1]])
def test_scores_of_a_proxy_follow_the_ids_through_wrappers(ids: Any) -> None:
    values = RNG.random(40)
    pool = Pool.of(ids=ids, scores=np.zeros(40), labels=np.arange(40) % 2)
    order = RNG.permutation(40)
    proxy = ViaProxy(Hard(), Scores.of(values[order]), ids=np.asarray(ids)[order])
    best = np.argsort(-values)
    assert proxy.select(pool, 7).indices.tolist() == best[:7].tolist()
    halves = [best[best % 2 == one][:5] for one in (0, 1)]
    assert set(Quotas(proxy).select(pool, 10).indices) == set(np.concatenate(halves))
    kept = Listed(proxy, exclude=(pool.ids[best[0]].item(),)).select(pool, 3)
    assert kept.indices.tolist() == best[1:4].tolist()
    assert Partitioned(proxy, 4).select(pool, 8).achieved == 8
    with pytest.raises(ValueError, match=r"not of one kind|no score of the example"):
        ViaProxy(Hard(), Scores.of(values[:39])).select(pool, 5)
