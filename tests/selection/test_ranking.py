"""Ranking methods and covers against their definitions, spelled out again."""

import itertools
import tracemalloc

import numpy as np
import pytest

from selection import Pool, Selector
from selection.methods.diversity import Herding, KCenter
from selection.methods.ranking import CCS, EasiestFirst, HardestFirst, ModerateCoreset, RandomSample


def points(n: int, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def test_hard_and_easy_break_ties_by_id() -> None:
    pool = Pool.of(scores=[1.0, 2.0, 2.0, 0.0, 2.0], ids=["e", "d", "b", "a", "c"])
    assert HardestFirst().select(pool, 4).indices.tolist() == [2, 4, 1, 0]
    assert EasiestFirst().select(pool, 3).indices.tolist() == [3, 0, 2]


@pytest.mark.parametrize(
    "method", [HardestFirst(), EasiestFirst(), RandomSample(), KCenter(), Herding()]
)
def test_prefixes_are_the_answers_to_smaller_budgets(method: Selector) -> None:
    pool = Pool.of(scores=np.arange(20.0) % 7, features=points(20))
    whole = method.select(pool, 20, seed=3)
    assert sorted(whole.indices) == list(range(20))
    for budget in (1, 5, 19):
        found = method.select(pool, budget, seed=3)
        assert found.nested
        np.testing.assert_array_equal(found.indices, whole.prefix(budget).indices)


def test_random_is_uniform() -> None:
    pool = Pool.of(ids=np.arange(10))
    counts = np.zeros(10)
    draws = 2000
    for seed in range(draws):
        counts[RandomSample().select(pool, 3, seed=seed).indices] += 1
    # Binomial with p = .3; 4.4 standard errors for the largest of ten.
    assert np.max(np.abs(counts / draws - 0.3)) < 4.4 * np.sqrt(0.3 * 0.7 / draws)


def test_moderate_keeps_the_middle_ranks_of_the_class_distances() -> None:
    features, labels = points(41, 4), np.arange(41) % 3
    distances = [
        np.linalg.norm(x - np.median(features[labels == y], axis=0))
        for x, y in zip(features, labels, strict=True)
    ]
    pool = Pool.of(features=features, labels=labels)
    for budget in (1, 10, 40, 41):
        kept = ModerateCoreset().select(pool, budget).indices
        quantiles = (np.argsort(np.argsort(distances))[kept] + 0.5) / 41
        # Half a rank at either end, where n - budget is odd.
        assert quantiles.min() >= 0.5 - budget / 41 / 2 - 0.5 / 41 - 1e-12
        assert quantiles.max() <= 0.5 + budget / 41 / 2 + 0.5 / 41 + 1e-12
        assert len(set(kept)) == budget


def strata_counts(values: np.ndarray, bins: int, budget: int) -> list[int]:
    """The shares of the bins by their definition, on NumPy's histogram."""
    sizes, _ = np.histogram(values, bins)
    shares, left = {}, budget
    for visited, index in enumerate(np.argsort(sizes, kind="stable")):
        shares[index] = min(sizes[index], left // (bins - visited))
        left -= shares[index]
    return [int(shares[index]) for index in range(bins)]


@pytest.mark.parametrize("budget", [7, 50, 180])
def test_ccs_shares_of_the_strata(budget: int) -> None:
    scores = np.random.default_rng(1).gamma(2.0, size=200)
    kept = CCS(cutoff=0.1, bins=12).select(Pool.of(scores=scores), budget)
    rest = np.sort(scores)[:180]
    assert np.all(scores[kept.indices] <= rest.max())
    edges = np.histogram_bin_edges(rest, 12)
    found, _ = np.histogram(scores[kept.indices], edges)
    assert found.tolist() == strata_counts(rest, 12, budget)
    assert kept.achieved == budget


def test_ccs_meets_every_budget() -> None:
    scores = np.repeat([0.0, 1.0, 5.0, 5.1, 9.0], [30, 1, 7, 2, 60])
    for budget in range(1, 101):
        kept = CCS(cutoff=0.0).select(Pool.of(scores=scores), budget)
        assert len(set(kept.indices)) == budget


def test_ccs_refuses_a_cutoff_that_leaves_too_few() -> None:
    with pytest.raises(ValueError, match=r"leaves 7, fewer than the budget 8; it must be at most"):
        CCS(cutoff=0.3).select(Pool.of(scores=np.arange(10)), 8)


def test_ccs_published_cutoffs() -> None:
    pool = Pool.of(scores=np.arange(1000))
    for kept, cutoff in ((700, 0), (500, 0), (300, 0.1), (200, 0.1), (100, 0.3)):
        found = CCS().select(pool, kept)
        assert found.diagnostics["cutoff"] == pytest.approx(cutoff, abs=1e-12)


def radius(features: np.ndarray, kept: tuple[int, ...]) -> float:
    distances = np.linalg.norm(features[:, None] - features[list(kept)], axis=2)
    return float(distances.min(axis=1).max())


def test_k_center_is_within_twice_the_best_radius() -> None:
    for seed in range(10):
        features = points(9, 2, seed)
        found = KCenter().select(Pool.of(features=features), 3, seed=seed)
        best = min(radius(features, s) for s in itertools.combinations(range(9), 3))
        assert found.objective == pytest.approx(radius(features, tuple(found.indices)), rel=1e-14)
        assert best <= found.objective * (1 + 1e-14) <= 2 * best * (1 + 1e-14)


def test_k_center_picks_the_farthest_and_copies_last() -> None:
    features = np.concatenate([points(6), points(6)])
    picks = KCenter(first="central").select(Pool.of(features=features), 12).indices
    assert picks[0] == np.argmin(np.linalg.norm(features - features.mean(axis=0), axis=1))
    for t in range(1, 6):
        gaps = np.linalg.norm(features[:, None] - features[picks[:t]], axis=2).min(axis=1)
        assert picks[t] == np.argmax(gaps)
    assert set(picks[:6] % 6) == set(range(6))


def test_herding_minimises_the_distance_at_every_pick() -> None:
    features = points(30)
    mean = features.mean(axis=0)
    found = Herding().select(Pool.of(features=features), 30)
    for t, pick in enumerate(found.indices):
        before = features[found.indices[:t]].sum(axis=0)
        gaps = np.linalg.norm((t + 1) * mean - before - features, axis=1)
        gaps[found.indices[:t]] = np.inf
        assert pick == np.argmin(gaps)
    assert found.objective == pytest.approx(0, abs=1e-14)


def test_herding_beats_random_subsets() -> None:
    # The first pick is the nearest to the mean, not the farthest.
    pool = Pool.of(features=points(200, 5))
    mean = pool.features.mean(axis=0)
    chance = [
        np.linalg.norm(
            pool.features[RandomSample().select(pool, 20, seed=s).indices].mean(0) - mean
        )
        for s in range(50)
    ]
    assert Herding().select(pool, 20).objective < min(chance)


@pytest.mark.parametrize(
    "method", [HardestFirst(), EasiestFirst(), RandomSample(), ModerateCoreset(), CCS(), KCenter()]
)
def test_permuted_examples_permuted_answer(method: Selector) -> None:
    scores, features = np.arange(25) % 6, points(25)
    labels = np.arange(25) % 2
    order = np.random.default_rng(5).permutation(25)
    pool = Pool.of(scores=scores, features=features, labels=labels)
    shuffled = pool.take(order)
    for budget in (1, 8, 25):
        one = method.select(pool, budget, seed=2).indices
        other = method.select(shuffled, budget, seed=2).indices
        np.testing.assert_array_equal(one, order[other])


@pytest.mark.parametrize("budget", [0, 6, -1, 2.5, True])
def test_budget_outside_its_range(budget: int) -> None:
    with pytest.raises(ValueError, match=r"budget = .* is outside the valid range 1 to 5"):
        RandomSample().select(Pool.of(ids=np.arange(5)), budget)


def test_what_a_method_needs() -> None:
    with pytest.raises(ValueError, match="method 'k-center' needs features, which the pool lacks"):
        KCenter().select(Pool.of(scores=[1.0, 2.0]), 1)
    with pytest.raises(ValueError, match="seed = -1 is not a whole number"):
        RandomSample().select(Pool.of(scores=[1.0, 2.0]), 1, seed=-1)
    with pytest.raises(ValueError, match="one view an example"):
        KCenter().select(Pool.of(features=np.zeros((3, 2, 4))), 1)


METHODS = [
    HardestFirst(),
    EasiestFirst(),
    RandomSample(),
    ModerateCoreset(),
    CCS(),
    KCenter(),
    Herding(),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_peak_memory_at_200_000(method: Selector) -> None:
    n, d, budget = 200_000, 8, 20
    pool = Pool.of(
        scores=np.random.default_rng(0).random(n),
        features=np.random.default_rng(1).random((n, d), dtype=np.float32),
    )
    tracemalloc.start()
    method.select(pool, budget)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The interpreter's own objects take the remainder.
    assert peak <= method.memory_bytes(n, d, budget) + 200_000


def test_k_center_does_not_store_distances_to_all_picks() -> None:
    n, budget = 20_000, 300
    pool = Pool.of(features=np.random.default_rng(0).random((n, 2)))
    tracemalloc.start()
    KCenter().select(pool, budget)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= KCenter().memory_bytes(n, 2, budget) + 200_000
    assert KCenter().memory_bytes(n, 2, budget) < 8 * n * budget / 20
