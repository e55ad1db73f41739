"""Optimal subsampling for logistic regression, and the draw by its probabilities."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from sklearn.linear_model import LogisticRegression

from selection import ImportanceSample, Pool, a_optimal, l_optimal
from selection.__main__ import main
from selection.files import read_subset
from selection.methods.sampling import inclusion_probabilities

N = 60
RANDOM = np.random.default_rng(0)
ROWS = RANDOM.standard_normal((N, 3)) * [1, 2, 0.5]
LABELS = (RANDOM.random(N) < 1 / (1 + np.exp(1 - ROWS[:, 0]))).astype(int)


def fitted(rows, labels, weights=None) -> tuple[np.ndarray, np.ndarray]:
    """Rows with an intercept, and probabilities of class 1, by scikit-learn."""
    student = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    student.fit(rows, labels, sample_weight=weights)
    beta = np.concatenate([student.intercept_, student.coef_[0]])
    return beta, np.column_stack([np.ones(len(rows)), rows])


def moments(beta, x) -> tuple[np.ndarray, np.ndarray]:
    p = 1 / (1 + np.exp(-x @ beta))
    return p, sum(q * (1 - q) * np.outer(one, one) for q, one in zip(p, x, strict=True)) / len(x)


def test_probabilities_against_their_formulas() -> None:
    beta, x = fitted(ROWS, LABELS)
    p, m = moments(beta, x)
    for score, matrix in ((a_optimal, np.linalg.inv(m)), (l_optimal, np.eye(4))):
        wanted = [
            abs(y - q) * np.linalg.norm(matrix @ one)
            for y, q, one in zip(LABELS, p, x, strict=True)
        ]
        found = score(ROWS, LABELS).values
        # scikit-learn stops at a gradient of 1e-12, which a curvature near 1 turns into 1e-10.
        np.testing.assert_allclose(found, wanted / np.sum(wanted), rtol=1e-8)
        named = np.array(["well", "ill"])[LABELS]
        np.testing.assert_allclose(score(ROWS, named).values, found, rtol=1e-8)


@pytest.mark.parametrize("score", [a_optimal, l_optimal])
def test_no_other_probabilities_have_a_smaller_trace(score) -> None:
    """The trace of the estimate's covariance, minimised over all probabilities by SciPy."""
    rows, labels = ROWS[:14], LABELS[:14]
    beta, x = fitted(rows, labels)
    p, m = moments(beta, x)
    front = np.linalg.inv(m) if score is a_optimal else np.eye(4)

    def trace(chances: np.ndarray) -> float:
        middle = (x * ((labels - p) ** 2 / chances)[:, None]).T @ x
        return float(np.trace(front @ middle @ front)) / 14**2

    def of_logits(logits: np.ndarray) -> float:
        return trace(np.exp(logits) / np.exp(logits).sum())

    best = minimize(of_logits, np.zeros(14), method="BFGS", options={"gtol": 1e-7})
    found = score(rows, labels).values
    # SciPy's minimum has a gradient of 1e-7 of a trace near 1: it is right to some 1e-7.
    assert trace(found) == pytest.approx(best.fun, rel=1e-6)
    chances = np.exp(best.x) / np.exp(best.x).sum()
    np.testing.assert_allclose(found, chances, rtol=1e-2, atol=1e-4)


# Half of a pilot of ten from each class; the second class has four only, the first gives six.
@pytest.mark.parametrize(("small", "drawn"), [(5, (5, 5)), (4, (6, 4))])
def test_the_pilot_is_a_weighted_case_control_sample(small: int, drawn: tuple[int, int]) -> None:
    # All examples of the large class are equal, so that it does not matter which are drawn.
    others = np.random.default_rng(1).standard_normal((small, 2)) + 1
    rows = np.concatenate([np.tile([[0.5, -1.0]], (40, 1)), others])
    labels = np.repeat([0, 1], [40, small])
    chosen = np.r_[: drawn[0], 40 : 40 + small]
    weights = np.repeat([40 / drawn[0], 1], drawn) * 10 / len(rows)
    beta, _ = fitted(rows[chosen], labels[chosen], weights)
    x = np.column_stack([np.ones(len(rows)), rows])
    wanted = np.abs(labels - moments(beta, x)[0]) * np.linalg.norm(x, axis=1)
    found = l_optimal(rows, labels, pilot=10).values
    np.testing.assert_allclose(found, wanted / wanted.sum(), rtol=1e-8)


def test_dependent_features_and_separable_classes_have_scores() -> None:
    rows = np.column_stack([ROWS, ROWS[:, 0], np.ones(N)])
    for score in (a_optimal, l_optimal):
        found = score(rows, (ROWS[:, 0] > 0).astype(int)).values
        assert found.min() > 0 and found.sum() == pytest.approx(1)


def test_inclusion_probabilities() -> None:
    # By hand: 2 of 8 : 1 : 1 : 0 would be 1.6, so the first is certain and two share the other.
    assert inclusion_probabilities(np.array([8.0, 1, 1, 0]), 2).tolist() == [1, 0.5, 0.5, 0]
    assert inclusion_probabilities(np.array([3.0, 3, 0]), 2).tolist() == [1, 1, 0]
    scores = RANDOM.lognormal(sigma=2, size=50)
    c = brentq(lambda c: np.minimum(1, c * scores).sum() - 20, 0, 1e6, xtol=1e-14)
    np.testing.assert_allclose(
        inclusion_probabilities(scores, 20), np.minimum(1, c * scores), rtol=1e-9
    )


def test_examples_are_drawn_with_their_probabilities() -> None:
    scores, draws = RANDOM.lognormal(size=12), 4000
    pool, chances = Pool.of(scores=scores), inclusion_probabilities(scores, 5)
    counts, sums = np.zeros(12), np.empty(draws)
    for seed in range(draws):
        found = ImportanceSample().select(pool, 5, seed)
        assert len(np.unique(found.indices)) == 5
        counts[found.indices] += 1
        np.testing.assert_allclose(found.weights, 1 / chances[found.indices], rtol=1e-12)
        sums[seed] = found.weights @ ROWS[found.indices, 0]
    error = np.sqrt(chances * (1 - chances) / draws)
    assert np.all(np.abs(counts / draws - chances) <= 4.5 * error)
    assert abs(sums.mean() - ROWS[:12, 0].sum()) < 4 * sums.std(ddof=1) / np.sqrt(draws)


def test_from_features_to_a_weighted_subset_on_the_command_line(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", ROWS)
    np.save("y.npy", LABELS)
    score = "score a-optimal:pilot=40,seed=3 --features x.npy --labels y.npy --out pi.npy"
    assert main(score.split()) == 0
    np.testing.assert_array_equal(
        np.load("pi.npy"), a_optimal(ROWS, LABELS, pilot=40, seed=3).values
    )
    select = "select importance --scores pi.npy --budget 9 --out kept.json"
    assert main(select.split()) == 0
    chances = inclusion_probabilities(np.load("pi.npy"), 9)
    kept = read_subset("kept.json")
    assert len(kept) == 9
    np.testing.assert_allclose(kept.weights, 1 / chances[kept.indices], rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: a_optimal(ROWS, LABELS[1:]), "lengths: features 60, labels 59"),
        (lambda: l_optimal(ROWS, np.zeros(N, int)), "labels has 1 classes; subsampling"),
        (lambda: l_optimal(ROWS, np.arange(N) % 3), "labels has 3 classes; subsampling"),
        (lambda: l_optimal(ROWS, LABELS, pilot=1), "pilot = 1 is outside"),
        (lambda: a_optimal(ROWS, LABELS, seed=-1), "seed = -1 is not"),
        (
            lambda: ImportanceSample().select(Pool.of(scores=[1.0, -2, 3]), 2),
            "scores holds -2 at row 1; importance sampling needs scores >= 0",
        ),
        (
            lambda: ImportanceSample().select(Pool.of(scores=[0.0, 2, 0]), 2),
            "1 scores are above 0, fewer than the budget 2",
        ),
    ],
)
def test_bad_input(call, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        call()
