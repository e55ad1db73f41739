"""Every method under permutations, other class names, copies of examples and rotations."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import ortho_group

from selection import SELECTORS, Pool, Selector

N, BUDGET = 120, 40
RNG = np.random.default_rng(0)
LABELS = RNG.integers(3, size=N)
FEATURES = RNG.standard_normal((N, 6)) + 3 * np.eye(6)[LABELS]

# The window of the theory is a ranking whose place a search finds once a test: not here.
METHODS = [name for name in SELECTORS if name != "optimal-window"]
# Coordinatewise medians and diagonal curvatures belong to the axes.
TIED_TO_AXES = {"moderate", "adacore"}
# Without `exact`, the number that stays is not the budget's.
OPTIONS: dict[str, dict[str, Any]] = {
    "semdedup": {"exact": True},
    "meddel": {"exact": True},
    "gradmatch": {"exact": True},
    "d4": {"exact": True},
}


def pool(**changes: Any) -> Pool:
    """A pool with everything that any method needs."""
    arrays = {
        "scores": np.random.default_rng(1).random(N),
        "features": FEATURES,
        "labels": LABELS,
        "gradients": np.random.default_rng(2).standard_normal((N, 5)) + 0.3,
        "trajectories": np.random.default_rng(3).random((N, 7)),
        "texts": FEATURES + 0.3 * np.random.default_rng(4).standard_normal((N, 6)),
    }
    return Pool.of(**(arrays | changes))


def method(name: str) -> Selector:
    return SELECTORS[name](**OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", METHODS)
def test_permuted_examples_give_the_permuted_answer(name: str) -> None:
    plain = method(name).select(pool(), BUDGET, seed=2)
    assert len(plain) == BUDGET == len(np.unique(plain.indices))
    order = RNG.permutation(N)
    moved = method(name).select(pool().take(order), BUDGET, seed=2)
    assert np.array_equal(order[moved.indices], plain.indices)
    assert np.array_equal(moved.weights, plain.weights)


@pytest.mark.parametrize("name", METHODS)
def test_the_names_of_the_classes_have_no_part(name: str) -> None:
    plain = method(name).select(pool(), BUDGET, seed=2)
    renamed = method(name).select(pool(labels=np.array([17, 4, -2])[LABELS]), BUDGET, seed=2)
    assert np.array_equal(plain.indices, renamed.indices)


@pytest.mark.parametrize("name", METHODS)
def test_copies_of_examples_are_no_trouble(name: str) -> None:
    rows = np.repeat(np.arange(N // 4), 4)
    found = method(name).select(Pool.of(**copied(rows)), BUDGET, seed=2)
    assert len(np.unique(found.indices)) == BUDGET
    assert np.all(np.isfinite(found.weights))
    if found.gains is not None:
        assert np.all(np.isfinite(found.gains))


def copied(rows: np.ndarray) -> dict[str, Any]:
    """Arrays of a pool in which examples stand several times, under ids of their own."""
    one = pool()
    assert one.scores is not None
    names = ("features", "labels", "gradients", "trajectories", "texts")
    return {"scores": one.scores.values[rows]} | {name: getattr(one, name)[rows] for name in names}


@pytest.mark.parametrize("name", METHODS)
def test_prefixes_of_what_calls_itself_nested_are_answers(name: str) -> None:
    found = method(name).select(pool(), BUDGET, seed=2)
    if not found.nested or found.weighted:
        with pytest.raises(ValueError, match="not nested" if not found.nested else "has weights"):
            found.prefix(BUDGET // 3)
    for budget in (1, BUDGET // 3, BUDGET - 1) if found.nested else ():
        smaller = method(name).select(pool(), budget, seed=2)
        assert np.array_equal(found.indices[:budget], smaller.indices)
        if not found.weighted:
            assert np.array_equal(found.prefix(budget).weights, smaller.weights)


@pytest.mark.parametrize("name", sorted(set(METHODS) - TIED_TO_AXES))
def test_rotated_features_give_the_same_answer(name: str) -> None:
    plain = method(name).select(pool(), BUDGET, seed=2)
    turn = ortho_group.rvs(6, random_state=5)
    twist = ortho_group.rvs(5, random_state=6)
    one = pool()
    assert one.gradients is not None and one.texts is not None
    rotated = pool(
        features=FEATURES @ turn, texts=one.texts @ turn, gradients=one.gradients @ twist
    )
    found = method(name).select(rotated, BUDGET, seed=2)
    # Clusters and neighbours are found in single precision: a near tie may fall the other way.
    assert len(np.intersect1d(plain.indices, found.indices)) >= BUDGET - 2


@pytest.mark.parametrize("name", METHODS)
def test_the_whole_pool_and_one_example(name: str) -> None:
    for budget in (1, N):
        found = method(name).select(whole(name), budget)
        assert len(np.unique(found.indices)) == budget


def whole(name: str) -> Pool:
    """MedDEL cannot keep what lies far from all centroids: no such example."""
    return pool(features=FEATURES + 10) if name == "meddel" else pool()
