"""Methods that prune at random while a model trains: coverage, frequencies, expected gradients."""

from typing import Any

import numpy as np
import pytest

from selection import RS2, ModelFunctions

NOTHING = ModelFunctions(parameters=None)


def rounds(method: Any, n: int, count: int, seed: int = 0) -> list[np.ndarray]:
    """Return the rows that each round trains on, at two steps a round."""
    state, found = method.init(n), []
    for step in range(2 * count):
        assert state.due == (step % 2 == 0)
        if state.due:
            state, (subset,) = method.select(state, NOTHING, seed)
            assert np.all(subset.weights == 1)
            found.append(subset.indices)
        state = method.update(state, NOTHING)
    return found


@pytest.mark.parametrize("budget", [1, 3, 4, 7, 12])
def test_rounds_without_replacement_see_everything_equally_often(budget: int) -> None:
    """12 examples: budgets that divide them, that do not, and all of them."""
    found = rounds(RS2(budget=budget, every=2), 12, 36)
    counts = np.zeros(12, dtype=int)
    for picks in found:
        assert len(np.unique(picks)) == budget
        np.add.at(counts, picks, 1)
        assert counts.max() - counts.min() <= 1
    if 12 % budget == 0:
        passes = np.concatenate(found).reshape(-1, 12)
        assert np.all(np.sort(passes, axis=1) == np.arange(12))
        if 1 < budget < 12:  # else there is one set for each round of a pass
            assert len({tuple(sorted(picks)) for picks in found}) > 12 // budget


@pytest.mark.parametrize("replacement", [False, True])
def test_every_subset_is_equally_likely_in_every_round(replacement: bool) -> None:
    """5 choose 2 subsets; the third round of a budget of 2 crosses from one pass to the next."""
    method = RS2(budget=2, every=2, replacement=replacement)
    runs = 3000
    drawn = np.zeros((3, 5, 5))
    pairs = np.zeros((5, 5))
    for seed in range(runs):
        found = rounds(method, 5, 3, seed)
        for number, (first, second) in enumerate(found):
            drawn[number, first, second] += 1
        pairs += np.isin(np.arange(5), found[0])[:, None] & np.isin(np.arange(5), found[1])
    # Ordered pairs have probability 1/20, and so a standard error of sqrt(0.05 * 0.95 / 3000).
    # 60 of them stay within 4 of these but for once in 260 tries.
    off = ~np.eye(5, dtype=bool)
    assert np.all(np.abs(drawn[:, off] / runs - 1 / 20) < 4 * np.sqrt(0.05 * 0.95 / runs))
    # With replacement a pick of the first round is in the second one with probability 2/5.
    if replacement:
        share = np.trace(pairs) / (2 * runs)
        assert abs(share - 0.4) < 4 * np.sqrt(0.24 / (2 * runs))
    else:
        assert np.trace(pairs) == 0


def test_rounds_refuse_budgets_outside_their_range() -> None:
    for budget in (0, 13, 2.5):
        with pytest.raises(ValueError, match="outside the valid range 1 to 12"):
            RS2(budget=budget).init(12)  # type: ignore[arg-type]
