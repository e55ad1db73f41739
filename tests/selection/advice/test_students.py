"""Students of parts of a table against scikit-learn's on the same rows."""

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from selection.advice.students import (
    EstimatorStudents,
    RegularisedStudents,
    class_positions,
    hardness_margin,
)

# All tables have this shape, so that few programs are compiled.
COUNT, DIM = 90, 4


def table(classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of different scales, the last of them constant, and noisy classes."""
    draws = np.random.default_rng(seed)
    x = draws.standard_normal((COUNT, DIM)) * [1.0, 10.0, 0.1, 1.0] + [0.0, 5.0, -1.0, 2.0]
    field = x[:, 0] + 0.1 * (x[:, 1] - 5) + 0.5 * draws.standard_normal(COUNT)
    y = np.searchsorted(np.quantile(field, np.arange(1, classes) / classes), field)
    return np.column_stack([x, np.full(COUNT, 3.7)]), y


def parts(seed: int = 1) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Training rows of six sizes, and other rows that are asked for."""
    draws = np.random.default_rng(seed)
    train = [np.sort(draws.permutation(COUNT)[:size]) for size in (90, 72, 50, 30, 20, 60)]
    return train, [np.flatnonzero(draws.random(COUNT) < 0.5) for _ in train]


def scaled(x: np.ndarray) -> np.ndarray:
    """Columns that vary, of mean 0 and mean square 1."""
    x = x[:, :DIM]
    return (x - x.mean(axis=0)) / x.std(axis=0)


def reference(rows: np.ndarray, y: np.ndarray, C: float = 1.0) -> LogisticRegression:
    """scikit-learn's minimiser; it stops where the mean loss's gradient is below 1e-10."""
    return LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(rows, y)


@pytest.mark.parametrize("lam", [None, 0.01])
def test_students_of_two_classes_are_scikit_learns(lam: float | None) -> None:
    x, y = table()
    students = RegularisedStudents(x, y, lam=lam)
    train, ask = parts()
    C = 1.0 if lam is None else 1 / (lam * DIM)
    W, b = students.weights(train)
    for lane, answer in enumerate(students.answers(train, ask)):
        model = reference(scaled(x)[train[lane]], y[train[lane]], C)
        np.testing.assert_allclose(W[lane], model.coef_, atol=1e-6)
        np.testing.assert_allclose(b[lane], model.intercept_, atol=1e-6)
        values = model.decision_function(scaled(x)[ask[lane]])
        np.testing.assert_allclose(answer.values, values, atol=1e-5)
        np.testing.assert_array_equal(answer.labels, values > 0)
    assert students.classes == 2
    assert students.warnings == ()


def test_estimator_students_answer_as_clones_trained_by_hand() -> None:
    x, y = table()
    train, ask = parts()
    students = EstimatorStudents(x, y, LogisticRegression())
    for rows, asked, answer in zip(train, ask, students.answers(train, ask), strict=True):
        model = LogisticRegression().fit(x[rows], y[rows])
        np.testing.assert_array_equal(answer.labels, model.predict(x[asked]))
        np.testing.assert_array_equal(answer.values, model.decision_function(x[asked]))


def test_part_of_one_class_is_answered_by_it() -> None:
    x, y = table()
    everything = np.arange(COUNT)
    for students in (RegularisedStudents(x, y), EstimatorStudents(x, y, LogisticRegression())):
        train: Sequence[np.ndarray] = [np.flatnonzero(y == one)[:7] for one in (0, 1)]
        for one, answer in enumerate(students.answers(train, [everything] * 2)):
            np.testing.assert_array_equal(answer.labels, one)
            np.testing.assert_array_equal(answer.values > 0, bool(one))


def test_hardness_is_size_or_gap() -> None:
    np.testing.assert_array_equal(hardness_margin(np.array([-2.0, 0.5])), [2.0, 0.5])
    values = np.array([[1.0, 4.0, 2.0], [-3.0, -1.0, -1.0]])
    np.testing.assert_array_equal(hardness_margin(values), [2.0, 0.0])


def test_bad_tables_are_refused_with_the_reason() -> None:
    x, y = table()
    broken = x.copy()
    broken[5, 2] = np.nan
    with pytest.raises(ValueError, match=r"features holds nan at index \(5, 2\)"):
        RegularisedStudents(broken, y)
    with pytest.raises(ValueError, match="labels has 89 entries; features has 90 rows"):
        RegularisedStudents(x, y[:-1])
    with pytest.raises(ValueError, match="the same in every row"):
        RegularisedStudents(np.ones((COUNT, 3)), y)
    for labels, words in (
        (np.zeros(9), "one class alone, 0"),
        (np.linspace(0, 1, 9), "0.125 at index 1, a fraction"),
        (np.arange(9), "9 different values in 9 rows"),
        (np.arange(300) // 2, "150 different values"),
        (np.array([0.0, np.nan]), "holds nan at index 1"),
    ):
        with pytest.raises(ValueError, match=words):
            class_positions(labels)
    names, positions = class_positions(np.array(["cat", "ape", "cat"]))
    assert list(names) == ["ape", "cat"]
    np.testing.assert_array_equal(positions, [1, 0, 1])
