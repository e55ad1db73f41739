"""Methods that prune at random while a model trains: coverage, frequencies, expected gradients."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from selection import RS2, InfoBatch, ModelFunctions

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


# The mean is 1.25, without rounding: three losses are below it, one is at it.
LOSSES = np.array([0.125, 3.0, 0.25, 1.25, 0.5, 2.0, 1.625])
BELOW = (0, 2, 4)


def known(times: list[Any]) -> ModelFunctions:
    """Return a model whose losses are LOSSES times its parameters, and that notes what is asked."""

    def losses(factors: Any, rows: Any) -> Any:
        times.append(np.sort(rows))
        return LOSSES[rows] * factors[rows]

    return ModelFunctions(parameters=np.ones(7), losses=losses)


def epoch(method: InfoBatch, state: Any, model: ModelFunctions, seed: int) -> Any:
    """Return the state after one epoch, its rows and their weights."""
    state, batches = method.select(state, model, seed)
    for batch in batches:
        assert not state.due
        assert 1 <= len(batch) <= method.batch_size
        state = method.update(state, model)
    assert state.due
    rows = np.concatenate([batch.indices for batch in batches])
    assert len(np.unique(rows)) == len(rows)
    return state, rows, np.concatenate([batch.weights for batch in batches])


def test_the_expected_gradient_of_infobatch_is_that_of_all_examples() -> None:
    """Eight outcomes, with the returned weights and their probabilities, in exact fractions."""
    method = InfoBatch(batch_size=3, epochs=10, rate=0.25)
    gradients = [Fraction(value) for value in (3, -1, 4, 1, -5, 9, 2)]
    seen: dict[tuple[int, ...], Fraction] = {}
    counts: dict[tuple[int, ...], int] = {}
    runs = 2000
    for seed in range(runs):
        state, rows, weights = epoch(method, method.init(7), known([]), seed)
        assert len(rows) == 7
        assert np.all(weights == 1)  # nothing is known in the first epoch
        state, rows, weights = epoch(method, state, known([]), seed)
        pruned = tuple(sorted(set(range(7)) - set(rows.tolist())))
        counts[pruned] = counts.get(pruned, 0) + 1
        seen[pruned] = sum(
            (
                Fraction(weight).limit_denominator(100) * gradients[row]
                for row, weight in zip(rows, weights, strict=True)
            ),
            start=Fraction(0),
        )
    assert len(seen) == 8
    assert set().union(*map(set, seen)) == set(BELOW)
    expected, total = Fraction(0), Fraction(0)
    for pruned, weighted in seen.items():
        probability = Fraction(1, 4) ** len(pruned) * Fraction(3, 4) ** (3 - len(pruned))
        expected, total = expected + probability * weighted, total + probability
        # The sampler has these probabilities: four standard errors.
        error = np.sqrt(float(probability * (1 - probability)) / runs)
        assert abs(counts[pruned] / runs - float(probability)) < 4 * error
    assert total == 1
    assert expected == sum(gradients)


def test_pruned_examples_keep_the_loss_of_their_last_step() -> None:
    method = InfoBatch(batch_size=4, epochs=10, rate=0.9)
    asked: list[Any] = []
    model = known(asked)
    state, _, _ = epoch(method, method.init(7), model, 0)
    state, rows, _ = epoch(method, state, model, 0)
    assert np.array_equal(asked[-1], np.arange(7))
    pruned = set(range(7)) - set(rows.tolist())
    assert {2, 4} <= pruned  # with probability 0.81, and so with this seed
    # All losses fall to a hundredth, but nobody looks at those of the pruned examples: 2 and 4
    # are above the mean now, and come back.
    state, rows, weights = epoch(method, state, model.at(np.full(7, 0.01)), 0)
    assert np.array_equal(asked[-1], sorted(set(range(7)) - pruned))
    scores = [LOSSES[row] * (1 if row in pruned else 0.01) for row in range(7)]
    below = {row for row in range(7) if scores[row] < sum(scores) / 7}
    assert not below & {2, 4}
    assert set(range(7)) - set(rows.tolist()) <= below
    assert np.allclose(weights, [10 if row in below else 1 for row in rows])


def test_the_first_and_the_last_epochs_train_on_everything() -> None:
    method = InfoBatch(batch_size=7, epochs=25, rate=0.999, until=0.28)
    asked: list[Any] = []
    state, whole = method.init(7), []
    for number in range(27):
        state, rows, weights = epoch(method, state, known(asked), 1)
        if len(rows) == 7 and np.all(weights == 1):
            whole.append(number)
    # 0.28 * 25 is above 7 by the last bit; past the last epoch nothing is pruned either.
    assert whole == [0, *range(7, 27)]
    assert len(asked) == 6


def test_equal_losses_are_all_kept() -> None:
    """The mean of three times 0.1 is above 0.1 by the last bit."""
    same = ModelFunctions(parameters=None, losses=lambda _, rows: np.full(len(rows), 0.1))
    method = InfoBatch(batch_size=3, epochs=5, rate=0.99)
    state, _, _ = epoch(method, method.init(3), same, 0)
    for _ in range(3):
        state, rows, weights = epoch(method, state, same, 0)
        assert len(rows) == 3
        assert np.all(weights == 1)


def test_infobatch_says_what_is_wrong() -> None:
    for options, name in (
        ({"rate": 1.0}, "rate"),
        ({"until": 1.1}, "until"),
        ({"epochs": 0}, "epo"),
    ):
        with pytest.raises(ValueError, match=name):
            InfoBatch(**{"batch_size": 3, "epochs": 10, **options})
    method = InfoBatch(batch_size=3, epochs=10)
    with pytest.raises(ValueError, match="batch_size"):
        method.init(2)
    state, _, _ = epoch(method, method.init(7), NOTHING, 0)
    with pytest.raises(ValueError, match="needs the model function losses"):
        method.select(state, NOTHING, 0)
    mean = ModelFunctions(parameters=None, losses=lambda _, rows: 0.5)
    with pytest.raises(ValueError, match=r"one loss for each row"):
        method.select(state, mean, 0)
