"""Quotas, cut-offs and lists around any method."""

import tracemalloc

import numpy as np
import pytest

from selection import Pool, Selector, least_confidence
from selection.given import largest_remainder
from selection.methods.ranking import CCS, EasiestFirst, HardestFirst, RandomSample
from selection.methods.wrappers import Cutoff, DRoP, Listed, Quotas


def test_largest_remainder() -> None:
    # By hand: 7 seats in proportion are 3.29, 2.38, .98 and .35.
    assert largest_remainder([47, 34, 14, 5], 7).tolist() == [3, 3, 1, 0]
    assert largest_remainder([1, 1, 1], 5).tolist() == [2, 2, 1]
    assert largest_remainder([1, 1, 1], 0).tolist() == [0, 0, 0]
    assert largest_remainder([1, 1, 1], 10, [2, 9, 9]).tolist() == [2, 4, 4]
    assert largest_remainder([1, 0, 1], 4, [9, 9, 1]).tolist() == [3, 0, 1]


def test_largest_remainder_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="hold 3 examples, fewer than the budget 4"):
        largest_remainder([1, 1], 4, [1, 2])


def test_equal_and_proportional_classes() -> None:
    labels = np.repeat([3, 7, 9], [50, 20, 5])
    pool = Pool.of(scores=np.arange(75.0), labels=labels)
    kept = Quotas(HardestFirst(), shares="equal").select(pool, 30).indices
    assert np.bincount(labels[kept], minlength=10)[[3, 7, 9]].tolist() == [13, 12, 5]
    kept = Quotas(HardestFirst(), shares="proportional").select(pool, 30).indices
    assert np.bincount(labels[kept], minlength=10)[[3, 7, 9]].tolist() == [20, 8, 2]
    # The hardest of each class.
    assert set(kept) == {*range(30, 50), *range(62, 70), 73, 74}


def test_quotas_of_groups() -> None:
    groups = np.arange(40) % 4
    pool = Pool.of(scores=np.arange(40.0), groups=groups)
    found = Quotas(EasiestFirst(), by="groups", shares={0: 2, 3: 1}).select(pool, 9)
    assert np.bincount(groups[found.indices], minlength=4).tolist() == [6, 0, 0, 3]
    assert found.diagnostics["quotas"] == {"0": 6, "1": 0, "2": 0, "3": 3}


def drop_densities(sizes: list[int], errors: list[float], budget: int) -> list[float]:
    """Algorithm 1 of arXiv:2404.05579, step by step."""
    unsaturated, excess, densities = set(range(len(sizes))), float(budget), [0.0] * len(sizes)
    while excess > 1e-9:
        z = sum(sizes[k] * errors[k] for k in unsaturated) / excess
        for k in sorted(unsaturated):
            more = errors[k] / z
            densities[k] += more
            excess -= sizes[k] * more
            if densities[k] > 1:
                unsaturated.remove(k)
                excess += sizes[k] * (densities[k] - 1)
                densities[k] = 1.0
    return densities


@pytest.mark.parametrize("budget", [7, 40, 90, 118, 139])
def test_drop_is_its_authors_algorithm(budget: int) -> None:
    sizes, errors = [70, 20, 10, 40], [0.05, 0.6, 0.9, 0.2]
    labels = np.repeat(np.arange(4), sizes)
    found = DRoP(RandomSample(), dict(enumerate(errors))).select(Pool.of(labels=labels), budget)
    wanted = np.multiply(drop_densities(sizes, errors, budget), sizes)
    counts = np.bincount(labels[found.indices], minlength=4)
    assert counts.sum() == budget and np.all(np.abs(counts - wanted) < 1)
    assert list(found.diagnostics["quotas"].values()) == counts.tolist()


def test_drop_by_hand() -> None:
    # Parts of 10 in proportion to 20 * .1, 10 * .2 and 10 * .1: 4, 4 and 2. Half of class 0 given:
    # 10 * .1, 2 and 1 of 8 are 2, 4 and 2.
    groups = np.repeat([5, 6, 7], [20, 10, 10])
    pool = Pool.of(scores=np.arange(40.0), groups=groups)
    drop = DRoP(HardestFirst(), {5: 0.1, 6: 0.2, 7: 0.1}, by="groups")
    found = drop.select(pool, 10)
    assert sorted(found.indices) == [*range(16, 20), *range(26, 30), 38, 39]
    beside = drop.select(pool, 8, given=np.arange(10, 20))
    assert sorted(beside.indices) == [8, 9, *range(26, 30), 38, 39]
    assert drop.reads == {"scores", "groups"}


@pytest.mark.parametrize(
    ("errors", "sentence"),
    [
        ({0: 1.5}, "errors of 0 = 1.5 is outside"),
        ({0: 0.5, 9: 0.1}, "labels 9 has a share but no example"),
        ({0: 0.5, 1: 0.0}, "hold 3 examples, fewer than the budget 4"),
    ],
)
def test_drop_refuses_what_cannot_be(errors: dict[int, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DRoP(RandomSample(), errors).select(Pool.of(labels=[0, 0, 0, 1, 1]), 4)


def test_balanced_ccs_is_ccs_in_every_class() -> None:
    random = np.random.default_rng(0)
    labels, scores = random.integers(3, size=300), random.random(300) * (1 + np.arange(300) % 3)
    pool = Pool.of(scores=scores, labels=labels)
    kept = Quotas(CCS(cutoff=0.2, bins=9)).select(pool, 90, seed=4).indices
    for label in range(3):
        own = np.sort(scores[labels == label])
        rest = own[: len(own) - int(0.2 * len(own))]
        shares, _ = np.histogram(
            scores[kept[labels[kept] == label]], np.histogram_bin_edges(rest, 9)
        )
        assert shares.tolist() == strata_counts(rest, 9, 30)


def strata_counts(values: np.ndarray, bins: int, budget: int) -> list[int]:
    """The shares of the bins by their definition, on NumPy's histogram."""
    sizes, _ = np.histogram(values, bins)
    shares, left = {}, budget
    for visited, index in enumerate(np.argsort(sizes, kind="stable")):
        shares[index] = min(sizes[index], left // (bins - visited))
        left -= shares[index]
    return [int(shares[index]) for index in range(bins)]


def test_relabelled_classes_keep_the_same_examples() -> None:
    labels = np.arange(60) % 3
    scores = np.random.default_rng(0).random(60)
    kept = [
        set(Quotas(RandomSample()).select(Pool.of(scores=scores, labels=names[labels]), 30).indices)
        for names in (np.array([0, 1, 2]), np.array([11, 5, -3]))
    ]
    assert kept[0] == kept[1]


def test_a_long_tail_may_get_nothing_of_a_small_budget() -> None:
    labels = np.repeat([0, 1, 2], [90, 29, 1])
    pool = Pool.of(scores=np.arange(120.0), labels=labels)
    found = Quotas(HardestFirst(), shares="proportional").select(pool, 12)
    assert found.diagnostics["quotas"] == {"0": 9, "1": 3, "2": 0}
    assert np.bincount(labels[found.indices]).tolist() == [9, 3]


def test_a_class_that_is_not_there() -> None:
    pool = Pool.of(scores=np.arange(6.0), labels=[0, 0, 0, 2, 2, 2])
    with pytest.raises(ValueError, match="labels 1 has no example among the 6 candidates"):
        Quotas(HardestFirst(), expected=(0, 1, 2)).select(pool, 3)
    with pytest.raises(ValueError, match="labels 1 has a share but no example"):
        Quotas(HardestFirst(), shares={0: 1, 1: 1}).select(pool, 3)
    with pytest.raises(ValueError, match="budget = 1 leaves nothing for labels 2"):
        Quotas(HardestFirst()).select(pool, 1)
    with pytest.raises(ValueError, match="quotas need groups"):
        Quotas(HardestFirst(), by="groups").select(pool, 1)


def test_cutoff_drops_the_most_suspicious() -> None:
    scores = np.arange(10.0)
    assert Cutoff(HardestFirst(), 0.25).select(Pool.of(scores=scores), 3).indices.tolist() == [
        7,
        6,
        5,
    ]
    suspicion = np.array([9.0, 8.0, 1, 1, 1, 1, 1, 1, 1, 7.0])
    pool = Pool.of(scores=scores, mislabel=suspicion)
    assert Cutoff(HardestFirst(), 0.3).select(pool, 2).indices.tolist() == [8, 7]
    with pytest.raises(ValueError, match="leaves 7, fewer than the budget 8"):
        Cutoff(HardestFirst(), 0.3).select(pool, 8)
    with pytest.raises(ValueError, match="a cut-off needs mislabel or scores"):
        Cutoff(RandomSample(), 0.3).select(Pool.of(ids=[1, 2, 3]), 1)


def test_lists() -> None:
    pool = Pool.of(scores=np.arange(6.0), ids=["a", "b", "c", "d", "e", "f"])
    method = Listed(HardestFirst(), include=("b", "a"), exclude=("f",))
    assert method.select(pool, 4).indices.tolist() == [1, 0, 4, 3]
    assert method.select(pool, 2).indices.tolist() == [1, 0]
    shuffled = pool.take(np.array([5, 1, 0, 3, 2, 4]))
    assert shuffled.ids[method.select(shuffled, 4).indices].tolist() == ["b", "a", "e", "d"]
    with pytest.raises(ValueError, match="include holds 2 ids, more than the budget 1"):
        method.select(pool, 1)
    with pytest.raises(ValueError, match="leave 3 examples, fewer than the 4"):
        method.select(pool, 6)
    with pytest.raises(ValueError, match="exclude holds the id 'x', which the pool lacks"):
        Listed(HardestFirst(), exclude=("x",)).select(pool, 1)
    with pytest.raises(ValueError, match="include holds the id 3, which the pool lacks"):
        Listed(HardestFirst(), include=(3,)).select(pool, 1)
    with pytest.raises(ValueError, match="both included and excluded"):
        Listed(HardestFirst(), include=("a",), exclude=("a",))


def test_wrappers_compose() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(4, size=200)
    pool = Pool.of(scores=random.random(200), labels=labels)
    method = Listed(Cutoff(Quotas(CCS(cutoff=0.0)), 0.1), include=(3, 5))
    found = method.select(pool, 50, seed=1)
    assert found.indices[:2].tolist() == [3, 5]
    assert np.bincount(labels[found.indices[2:]]).tolist() == [12, 12, 12, 12]
    assert len(set(found.indices)) == 50


@pytest.mark.parametrize(
    "method",
    [Quotas(HardestFirst()), Cutoff(CCS(), 0.1), Listed(RandomSample(), include=(5, 3))],
    ids=lambda one: one.name,
)
def test_peak_memory_at_200_000(method: Selector) -> None:
    n, d, budget = 200_000, 4, 1000
    random = np.random.default_rng(0)
    pool = Pool.of(scores=random.random(n), features=random.random((n, d)), labels=np.arange(n) % 4)
    tracemalloc.start()
    method.select(pool, budget)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    classes = 4 if isinstance(method, Quotas) else 1
    # The interpreter's own objects take the remainder.
    assert peak <= method.memory_bytes(n, d, budget, classes) + 200_000


def test_balanced_uncertainty_keeps_the_least_confident() -> None:
    logits = np.random.default_rng(0).standard_normal((90, 3)) * 3
    labels = np.arange(90) % 3
    scores = least_confidence(logits)
    kept = Quotas(HardestFirst()).select(Pool.of(scores=scores, labels=labels), 30).indices
    for label in range(3):
        own = np.flatnonzero(labels == label)
        least = own[np.argsort(np.exp(logits[own]).max(1) / np.exp(logits[own]).sum(1))[:10]]
        assert set(kept[labels[kept] == label]) == set(least)
