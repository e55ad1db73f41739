"""Students of parts of a table against scikit-learn's on the same rows."""

import itertools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from selection.advice.folds import fold_numbers
from selection.advice.paths import kept_rows
from selection.advice.students import (
    TUNING,
    EstimatorStudents,
    RegularisedStudents,
    SparseStudents,
    hardness_margin,
    make_students,
)
from selection.selector import generator

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


@pytest.mark.parametrize(("loss", "atol"), [("logistic", 5e-3), ("square", 1e-3), ("hinge", 0.05)])
def test_sparse_students_are_the_dense_ones(loss: str, atol: float) -> None:
    """scikit-learn's tolerances are coarser, and liblinear penalises the intercept a little."""
    x, y = table()
    x[np.abs(x) < 0.5] = 0.0
    train, ask = parts()
    halves = csr_matrix(x)
    # Each entry in two parts, which SciPy allows: their sum is the value.
    where, starts = np.repeat(halves.indices, 2), 2 * halves.indptr
    halves = csr_matrix((np.repeat(halves.data, 2) / 2, where, starts), x.shape)
    sparse = SparseStudents(halves, y, loss=loss)
    dense = RegularisedStudents(x, y, loss=loss)
    assert sparse.lam == dense.lam
    pairs = zip(sparse.answers(train, ask), dense.answers(train, ask), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one.values, other.values, atol=atol)
    # Twice liblinear stops at its limit of sweeps, near the minimum.
    assert (sparse.warnings == ()) == (loss != "hinge")


def test_students_of_three_classes_are_one_against_the_rest() -> None:
    x, y = table(3)
    train, ask = parts()
    # One part lacks a class, which must not be answered.
    train[3] = train[3][y[train[3]] != 1]
    students = RegularisedStudents(x, y)
    for rows, asked, answer in zip(train, ask, students.answers(train, ask), strict=True):
        known = np.unique(y[rows])
        models = [reference(scaled(x)[rows], y[rows] == one) for one in known]
        values = np.stack([one.decision_function(scaled(x)[asked]) for one in models], axis=1)
        if len(known) == 3:
            np.testing.assert_allclose(answer.values, values, atol=1e-5)
            np.testing.assert_array_equal(answer.labels, values.argmax(axis=1))
        else:
            # The same field with either sign, and the absent class below both.
            np.testing.assert_allclose(answer.values[:, known], values, atol=1e-5)
            assert set(answer.labels) <= set(known)
            assert np.all(np.isfinite(answer.values))
    assert students.classes == 3


def test_square_students_are_ridge_classifiers() -> None:
    x, y = table()
    train, ask = parts()
    students = RegularisedStudents(x, y, loss="square", lam=0.5)
    for rows, asked, answer in zip(train, ask, students.answers(train, ask), strict=True):
        model = RidgeClassifier(alpha=0.5 * DIM).fit(scaled(x)[rows], y[rows])
        values = model.decision_function(scaled(x)[asked])
        np.testing.assert_allclose(answer.values, values, atol=1e-8)


def test_few_rows_of_a_large_table_have_a_smaller_program() -> None:
    draws = np.random.default_rng(2)
    x = draws.standard_normal((2**17, 16)).astype(np.float32)
    y = (x[:, 0] + draws.standard_normal(len(x)) > 0).astype(np.int64)
    students = RegularisedStudents(x, y)
    few = np.sort(draws.permutation(len(x))[:3000])
    wide = (x - x.mean(axis=0, dtype=float)) / x.std(axis=0, dtype=float)
    W, b = students.weights([few])
    model = reference(wide[few], y[few])
    np.testing.assert_allclose(W[0], model.coef_, atol=1e-6)
    np.testing.assert_allclose(b[0], model.intercept_, atol=1e-6)


def test_more_columns_than_rows_are_solved_in_the_span_of_the_rows() -> None:
    draws = np.random.default_rng(5)
    x = draws.standard_normal((40, 100))
    y = (x[:, 0] + draws.standard_normal(40) > 0).astype(np.int64)
    part = np.arange(5, 35)
    W, b = RegularisedStudents(x, y).weights([part])
    wide = (x - x.mean(axis=0)) / x.std(axis=0)
    model = reference(wide[part], y[part])
    np.testing.assert_allclose(W[0], model.coef_, atol=1e-6)
    np.testing.assert_allclose(b[0], model.intercept_, atol=1e-6)


def test_memory_mapped_features_give_the_same_students(tmp_path: Path) -> None:
    x, y = table()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    train, ask = parts()
    answers = (RegularisedStudents(one, y).answers(train, ask) for one in (x, mapped))
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one.values, other.values)


def test_tuned_lam_has_the_least_cross_validated_error() -> None:
    x, y = table(seed=3)
    number = fold_numbers(y, 3, generator(7, TUNING))
    errors = []
    for strength in np.logspace(-3, 3, 13):
        wrong = 0
        for fold in range(3):
            there = number != fold
            model = reference(scaled(x)[there], y[there], 1 / strength)
            wrong += np.sum(model.predict(scaled(x)[~there]) != y[~there])
        errors.append(wrong)
    best = 12 - int(np.argmin(errors[::-1]))
    students = make_students(x, y, lam="auto", folds=3, seed=7)
    np.testing.assert_allclose(students.lam * DIM, np.logspace(-3, 3, 13)[best])


class OnlyPredicts:
    """A classifier without decision values or parameters."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> None:
        """Remember the commonest class."""
        self.common = int(np.bincount(y).argmax())

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Answer it."""
        return np.full(len(x), self.common)


class Fails(OnlyPredicts):
    """A classifier that cannot be trained."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> None:
        """Fail."""
        raise RuntimeError("out of luck")


class Strays(OnlyPredicts):
    """A classifier that answers what it was not asked."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Answer a class that is not there."""
        return np.full(len(x), 7)


class Uncertain(OnlyPredicts):
    """A classifier whose decision values are no numbers."""

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        """Answer nothing for the last row."""
        return np.append(np.ones(len(x) - 1), np.nan)


def test_decision_values_that_are_no_numbers_are_refused() -> None:
    x, y = table()
    train, ask = parts()
    with pytest.raises(ValueError, match=r"Uncertain failed .* not all finite real numbers"):
        EstimatorStudents(x, y, Uncertain()).answers(train, ask)


def test_estimators_of_every_kind_answer() -> None:
    x, y = table(3)
    train, ask = parts()
    forest = RandomForestClassifier(5)
    for estimator in (
        make_pipeline(StandardScaler(), LogisticRegression()),
        forest,
        SVC(),
        OnlyPredicts(),
    ):
        students = EstimatorStudents(x, y, estimator, seed=4)
        assert students.ranks == (not isinstance(estimator, OnlyPredicts))
        assert np.isnan(students.lam)
        one, other = students.answers(train, ask), students.answers(train, ask)
        for answer, again, asked in zip(one, other, ask, strict=True):
            assert answer.labels.shape == asked.shape
            assert answer.values.shape == (len(asked), 3)
            # A forest without a random state is drawn alike each time.
            np.testing.assert_array_equal(answer.values, again.values)
    assert not hasattr(forest, "classes_")


def test_probabilities_become_signed_values() -> None:
    x, y = table()
    train, ask = parts()
    students = EstimatorStudents(x, y, GaussianNB())
    for rows, asked, answer in zip(train, ask, students.answers(train, ask), strict=True):
        chance = GaussianNB().fit(x[rows], y[rows]).predict_proba(x[asked])
        np.testing.assert_allclose(answer.values, 2 * chance[:, 1] - 1, atol=1e-12)


def test_training_that_does_not_converge_is_counted() -> None:
    x, y = table()
    train, ask = parts()
    students = EstimatorStudents(x, y, LogisticRegression(max_iter=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        students.answers(train, ask)
    (sentence,) = students.warnings
    assert sentence.startswith("6 of 6 students of LogisticRegression")
    # A ridge that rounding hides behind the losses.
    hidden = RegularisedStudents(x, y, loss="square", lam=1e-30)
    hidden.answers(train, ask)
    (sentence,) = hidden.warnings
    assert sentence.startswith("6 of 6 students were not certified to 1e-08")


def test_bad_estimators_are_refused_with_the_reason() -> None:
    x, y = table()
    for student, words in (
        (LogisticRegression, r"class LogisticRegression; give an instance"),
        (Ridge(), "Ridge is a regressor"),
        (make_pipeline(StandardScaler(), KMeans()), "Pipeline is a clusterer"),
        (StandardScaler(), "StandardScaler has no predict"),
        ("logistics", "student"),
    ):
        with pytest.raises(ValueError, match=words):
            make_students(x, y, student=student)
    strengths: tuple[Any, ...] = (0.0, "best")
    for matrix, lam in itertools.product((x, csr_matrix(x)), strengths):
        with pytest.raises(ValueError, match=r"lam = .* (outside the valid range|not a number)"):
            make_students(matrix, y, lam=lam)
    with pytest.raises(ValueError, match=r"lam = 0\.1 belongs to the students logistic"):
        make_students(x, y, student=SVC(), lam=0.1)
    with pytest.raises(ValueError, match="Fails failed on a part of 90 rows: RuntimeError: out"):
        EstimatorStudents(x, y, Fails()).answers(*parts())
    with pytest.raises(ValueError, match=r"Strays predicts \[7 .* one of 0 ... 1 for each"):
        EstimatorStudents(x, y, Strays()).answers(*parts())


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
    with pytest.raises(ValueError, match="the same in every row"):
        SparseStudents(csr_matrix(np.ones((COUNT, 3))), y)
    with pytest.raises(ValueError, match=r"features holds nan at index \(5, 2\)"):
        SparseStudents(csr_matrix(broken), y)


def test_rows_of_equal_margin_are_kept_at_random() -> None:
    """A tree's margins are all equal, and tables are often sorted by class."""
    margins = np.ones(1000)
    for policy in ("hard", "easy", "moderate", "mixture", "hard-signed"):
        kept = kept_rows(policy, margins, margins, 0.3, np.random.default_rng(0))
        assert len(kept) == 300
        # Half of the rows stand before 500; the standard error of their share is .024.
        assert abs(np.mean(kept < 500) - 0.5) < 0.1
