"""The procedure of the advice against plain loops, and on data whose truth is known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import selection
from selection.advice.bound import increase_bound
from selection.advice.folds import fold_numbers
from selection.advice.recommendation import measure_curve, recommend
from selection.advice.students import Answer
from selection.advice.verdict import Trial, signed_margin


class NearestMean:
    """A student that needs no solver: it compares the distances to the means of two classes."""

    name, classes, lam, warnings = "nearest-mean", 2, np.nan, ()

    def __init__(self, features, codes) -> None:
        self.features, self.codes, self.trained = features, codes, 0

    def answers(self, train, ask):
        found = []
        for rows, wanted in zip(train, ask, strict=True):
            self.trained += 1
            means = [self.features[rows][self.codes[rows] == one].mean(axis=0) for one in (0, 1)]
            apart = [np.linalg.norm(self.features[wanted] - mean, axis=1) for mean in means]
            values = apart[0] - apart[1]
            found.append(Answer((values > 0).astype(np.int64), values))
        return found


def clouds(n: int, d: int, seed: int, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 2, n)
    return random.standard_normal((n, d)) + apart * codes[:, None], codes


def teacher(n: int, d: int, seed: int, flip: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, d))
    return x, ((x[:, 0] > 0) ^ (random.random(n) < flip)).astype(np.int64)


def trial(x, codes, folds=4, balanced=False, store=None) -> Trial:
    students = NearestMean(x, codes)
    store = {} if store is None else store
    return Trial(students, codes, folds=folds, balanced=balanced, seed=5, store=store)


@pytest.mark.parametrize("counts, folds", [((50, 31), 5), ((7, 100, 12), 3), ((10, 10), 10)])
def test_folds_have_their_share_of_each_class(counts, folds) -> None:
    codes = np.repeat(np.arange(len(counts)), counts)
    number = fold_numbers(codes, folds, np.random.default_rng(0))
    table = np.array([np.bincount(codes[number == k], minlength=len(counts)) for k in range(folds)])
    assert np.all(table.max(axis=0) - table.min(axis=0) <= 1)
    assert np.ptp(table.sum(axis=1)) <= 1
    assert np.array_equal(table.sum(axis=0), counts)


def test_groups_lie_in_one_fold_each_and_balance_the_folds() -> None:
    random = np.random.default_rng(1)
    groups = random.integers(0, 40, 600)
    codes = (groups < 13).astype(np.int64)  # classes of whole groups
    number = fold_numbers(codes, 5, random, groups)
    assert all(len(np.unique(number[groups == one])) == 1 for one in range(40))
    largest = np.bincount(groups).max()
    for one in (0, 1):
        assert np.ptp(np.bincount(number[codes == one], minlength=5)) <= largest


def test_a_group_counts_as_one_row_of_the_bound() -> None:
    x, codes = clouds(300, 2, 6)
    groups = np.arange(300) // 3
    students = NearestMean(x, codes)
    found = Trial(students, codes, folds=4, balanced=False, seed=5, store={}, groups=groups)
    (step,) = found.measure(["hard"], 0.5, [0.05])
    lost, won, rows = (one.sum(axis=1) for one in (step.only_all, step.only_kept, step.rows))
    assert np.array_equal(rows, [75, 75, 75, 75])  # 25 groups of three in each fold
    assert step.bound == pytest.approx(float(increase_bound(lost / 3, won / 3, rows / 3, 0.05)))


@pytest.mark.parametrize("policy", ["hard", "hard-signed", "easy"])
def test_counts_are_those_of_plain_loops(policy: str) -> None:
    x, codes = clouds(90, 3, 0)
    found = trial(x, codes)
    (step,) = found.measure([policy], 0.35, [0.05])
    plain = NearestMean(x, codes)
    for fold, (train, test) in enumerate(zip(found.trains, found.tests, strict=True)):
        assert sorted([*train, *test]) == list(range(90))
        # Of rows that are ranked, each one's margin is by students that have not seen it: the same
        # nested folds are drawn again, and every row is asked alone.
        random = np.random.Generator(
            np.random.PCG64(np.random.SeedSequence(5, spawn_key=(1, fold)))
        )
        number = fold_numbers(codes[train], 4, random)
        values = np.empty(len(train))
        for place, row in enumerate(train):
            others = train[number != number[place]]
            (answer,) = plain.answers([others], [np.array([row])])
            values[place] = answer.values[0]
        own = np.where(codes[train] == 1, values, -values)
        ranked = {"hard": np.abs(values), "hard-signed": own, "easy": -np.abs(values)}[policy]
        kept = train[np.argsort(ranked)[: round(0.35 * len(train))]]
        everything, student = plain.answers([train, kept], [test, test])
        for one in (0, 1):
            rows = codes[test] == one
            right, left = (answer.labels[rows] == one for answer in (everything, student))
            assert step.rows[fold, one] == rows.sum()
            assert step.only_all[fold, one] == np.sum(right & ~left)
            assert step.only_kept[fold, one] == np.sum(left & ~right)
    lost, won = step.only_all.sum(), step.only_kept.sum()
    assert step.increase == pytest.approx((lost - won) / 90)
    assert step.error == pytest.approx(found.error() + step.increase)


def test_mixture_is_half_hard_and_half_random() -> None:
    x, codes = clouds(200, 2, 1)
    found = trial(x, codes)
    kept, hard = found.kept("mixture", 0.25, 0), found.kept("hard", 0.125, 0)
    assert len(kept) == round(0.25 * 150)
    assert np.isin(hard, kept).all() and len(hard) == 19
    rest = np.setdiff1d(kept, hard)
    assert 50 < rest.mean() < 100  # random positions of 150: 75 with a standard error of 10
    assert np.array_equal(kept, found.kept("mixture", 0.25, 0))


def test_balanced_error_is_the_mean_over_classes() -> None:
    random = np.random.default_rng(2)
    codes = (np.arange(400) < 40).astype(np.int64)
    x = random.standard_normal((400, 2)) + codes[:, None]
    found = trial(x, codes, balanced=True)
    shares = [np.mean(found.labels[codes == one] != one) for one in (0, 1)]
    assert found.error() == pytest.approx(np.mean(shares))
    (step,) = found.measure(["random"], 0.25, [0.05])
    by_class = (step.only_all - step.only_kept).sum(axis=0) / step.rows.sum(axis=0)
    assert step.increase == pytest.approx(by_class.mean())
    assert step.bound > step.increase


def test_margins_to_the_own_class() -> None:
    values = np.array([[3.0, 1.0, 2.5], [0.0, -1.0, 4.0]])
    assert signed_margin(values, np.array([0, 1])) == pytest.approx([0.5, -5.0])
    assert signed_margin(np.array([2.0, 2.0]), np.array([1, 0])) == pytest.approx([2.0, -2.0])


def test_finished_work_is_not_repeated() -> None:
    x, codes = clouds(120, 2, 3)
    store: dict[str, np.ndarray] = {}
    first = trial(x, codes, store=store)
    one = first.measure(["hard", "mixture"], 0.5, [0.04, 0.01])
    check = first.last_check("hard", 0.5, 0.01)
    again = trial(x, codes, store=store)
    other = again.measure(["hard", "mixture"], 0.5, [0.04, 0.01])
    assert again.students.trained == 0
    assert [step.bound for step in one] == [step.bound for step in other]
    assert again.last_check("hard", 0.5, 0.01) == check
    assert again.students.trained == 0


@pytest.fixture(scope="module")
def noisy():
    return teacher(1500, 4, 0, 0.1)


@pytest.fixture(scope="module")
def advice(noisy):
    return recommend(*noisy, explain=False, beside=("random",))


def test_advice_on_a_noisy_teacher_keeps_little_and_loses_nothing(noisy, advice) -> None:
    x, codes = noisy
    assert advice.policy in ("hard", "mixture") and advice.keep_fraction <= 0.35
    assert len(advice.indices) == round(advice.keep_fraction * 1500)
    assert advice.error_all == pytest.approx(0.1, abs=0.03)
    assert advice.tolerance == pytest.approx(0.1 * advice.error_all)
    assert advice.bound <= advice.tolerance and advice.last_check.passed
    # On 100,000 fresh rows, by another solver: the standard error of the difference is .0005.
    fresh, truth = teacher(100_000, 4, 1, 0.1)
    errors = [
        np.mean(LogisticRegression().fit(x[rows], codes[rows]).predict(fresh) != truth)
        for rows in (np.arange(1500), advice.indices)
    ]
    assert errors[1] - errors[0] < advice.tolerance + 0.0015


def test_paths_stop_at_their_first_failure(advice) -> None:
    for policy in ("hard", "mixture"):
        path = [one for one in advice.curve if one.policy == policy]
        fractions = [one.keep_fraction for one in path]
        assert fractions == [0.7, 0.5, 0.35, 0.25, 0.18, 0.125, 0.09, 0.06, 0.04][: len(path)]
        assert all(one.bound <= advice.tolerance for one in path[:-1])
        levels = [one.failure for one in path]
        assert levels == pytest.approx([0.04 if policy == "hard" else 0.01] * len(path))
    tried = {one.keep_fraction for one in advice.curve}
    assert {one.keep_fraction for one in advice.beside} == tried


def test_seeds_repeat_the_advice(noisy, advice) -> None:
    again = recommend(*noisy, explain=False)
    assert np.array_equal(again.indices, advice.indices)
    assert [one.bound for one in again.curve] == [one.bound for one in advice.curve]


def test_few_rows_are_kept_whole_and_the_answer_says_how_many_would_do() -> None:
    x, codes = teacher(150, 4, 2, 0.05)
    found = recommend(x, codes, explain=False)
    assert (found.policy, found.keep_fraction) == ("all", 1.0)
    assert np.array_equal(found.indices, np.arange(150))
    assert found.sentence().startswith("keep all 150 rows")
    # Without a differing row z^2/(m + z^2) <= .008 needs about 380 rows at the level .04.
    assert found.rows_needed is None or 150 < found.rows_needed < 10**5


def test_a_border_that_hard_rows_hide_is_found_out() -> None:
    """The labels next to the border are turned around, so that hard rows teach the opposite."""
    random = np.random.default_rng(4)
    n = 1500
    x = random.standard_normal((n, 2)) * [3.0, 1.0]
    truth = x[:, 0] > 0
    near = np.abs(x[:, 0]) < 0.8
    codes = np.where(near, ~truth, truth).astype(np.int64)
    found = recommend(x, codes, explain=False)
    hard = [one for one in found.curve if one.policy == "hard"]
    assert hard[-1].bound > found.tolerance and hard[-1].keep_fraction >= 0.18
    assert found.policy != "hard" or found.keep_fraction > 0.25


def test_students_that_learn_nothing_are_said_to() -> None:
    random = np.random.default_rng(8)
    x, codes = random.standard_normal((300, 4)), (np.arange(300) % 3 == 0).astype(np.int64)
    found = recommend(x, codes, explain=False)
    assert any("nothing can be lost" in one for one in found.warnings)


def test_curve_does_not_stop(noisy) -> None:
    x, codes = noisy
    found = measure_curve(x[:300], codes[:300], policies=("random",))
    assert [one.keep_fraction for one in found.curve][-1] == 0.04
    assert len(found.curve) == 9


def test_levels_are_shared_by_the_policies_that_are_named(noisy) -> None:
    x, codes = noisy
    found = recommend(x[:300], codes[:300], policies=("hard", "random"), failure=0.1, explain=False)
    assert {one.failure for one in found.curve} == {0.05}


X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"labels": np.zeros(20, int)}, "labels holds one class alone"),
        ({"labels": np.linspace(0, 1, 20)}, "advice is for classes"),
        ({"labels": np.arange(19) % 2}, "20 rows|19"),
        ({"labels": (np.arange(20) < 2).astype(int)}, "class 1 has 2 rows; 5 folds need 5"),
        ({"labels": np.repeat(np.arange(200), 5)}, "200 different values"),
        ({"tolerance": 0.0}, r"tolerance = 0 is outside the valid range \(0, 1\)"),
        ({"failure": 0.6}, r"failure = 0.6 is outside"),
        ({"policies": ()}, "policies is empty"),
        ({"policies": ("hard", "hard")}, "names 'hard' twice"),
        ({"policies": ("soft",)}, "soft"),
        ({"folds": 1}, r"folds = 1 is outside the valid range \[2, 100\]"),
        ({"seed": -1}, "seed = -1"),
        ({"student": "perceptron"}, "perceptron"),
        ({"groups": np.arange(19)}, "groups has 19 entries; labels has 20"),
        ({"groups": np.arange(20) // 5}, "class 0 has rows in 4 groups; 5 folds need 5"),
        ({"features": np.full((20, 2), np.nan)}, "features"),
    ],
)
def test_bad_input(arguments, message) -> None:
    given = {"features": X, "labels": Y, **arguments}
    with pytest.raises(ValueError, match=message):
        selection.recommend(given.pop("features"), given.pop("labels"), **given)
