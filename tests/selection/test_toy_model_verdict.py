"""Whether data are the toy model: the measured error beside the theory's, and what follows."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import cross_val_predict
from sklearn.svm import LinearSVC

import replica
from selection import (
    Coordinates,
    coordinates_of_overlap,
    cross_validation,
    estimate_coordinates,
)
from selection.advice.estimates import error_interval
from selection.advice.probes import ProbeErrors
from selection.advice.toy_model import ToyModelVerdict, toy_model_advice, toy_model_verdict
from theory import PerceptronProblem

OPTIONS = {"policies": ("hard",), "lowest": 0.1}


def teacher_data(n: int, d: int, seed: int, wrong: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, d))
    labels = (x[:, 0] > 0).astype(int)
    labels[random.random(n) < wrong] ^= 1
    return x, labels


def coordinates(x: np.ndarray, labels: np.ndarray) -> Coordinates:
    return estimate_coordinates(x, labels, splits=1, replicates=10)


@pytest.mark.parametrize("alpha", [2, 6, 20])
def test_teacher_data_are_the_toy_model(alpha: int) -> None:
    """The prediction is the replica solution's, at the nine tenths that each probe saw."""
    x, labels = teacher_data(40 * alpha, 40, 1)
    found = coordinates(x, labels)
    result = toy_model_verdict(found)
    assert result.toy_model
    exact = replica.solve(PerceptronProblem(alpha_total=0.9 * found.alpha_total)).error
    assert result.predicted == pytest.approx(float(np.asarray(exact)), rel=1e-3)
    assert "may be the toy model" in result.sentence()


def test_the_measured_error_is_that_of_cross_validation() -> None:
    """Against scikit-learn's own folds; a fifth of the labels is wrong."""
    x, labels = teacher_data(400, 20, 0, wrong=0.2)
    result = toy_model_verdict(coordinates(x, labels))
    model = LinearSVC(C=100 / 20, fit_intercept=False, max_iter=10_000)
    wrong = cross_val_predict(model, x - x.mean(axis=0), labels, cv=10) != labels
    # Two ways to cut the same examples into folds differ by less than independent tests do.
    assert abs(result.measured - wrong.mean()) < np.sqrt(wrong.var() / len(wrong))
    assert not result.toy_model
    assert result.factor > 1.5
    assert result.sentence().startswith("the data are not the toy model: ")


@pytest.fixture(scope="module")
def noisy() -> Coordinates:
    return coordinates(*teacher_data(400, 20, 0, wrong=0.2))


def test_what_is_not_the_toy_model_is_kept_whole(noisy: Coordinates) -> None:
    """The theory's own advice is what it is where no error is known."""
    found = toy_model_advice(noisy, **OPTIONS)
    toy = toy_model_advice(replace(noisy, errors=None), **OPTIONS)
    assert (found.advice, found.policy, found.keep_fraction) == ("keep all", "all", 1.0)
    assert found.error == found.full_error == toy.full_error
    assert found.toy_model_fraction == toy.toy_model_fraction == toy.keep_fraction
    assert found.toy_model_policy == toy.policy == "hard"
    assert found.toy_model_error == toy.error
    assert toy.toy_model and np.isnan(toy.measured_error)
    assert "is not known" in toy.verdict.sentence()
    assert found.score == "margin" and "small absolute margin" in found.hard


def test_agreement_leaves_the_advice_of_the_theory() -> None:
    x, labels = teacher_data(400, 40, 1)
    found = toy_model_advice(coordinates(x, labels), **OPTIONS)
    assert found.toy_model and found.keep_fraction == found.toy_model_fraction < 1
    assert found.advice == f"keep {100 * found.keep_fraction:.3g} % by hard selection"
    assert found.measured_error == cross_validation(x - x.mean(axis=0), 2.0 * labels - 1).held_out


@pytest.mark.parametrize(
    ("measured", "interval", "predicted", "toy_model"),
    [
        (0.10, (0.08, 0.12), 0.14, True),  # a factor of 1.4
        (0.10, (0.08, 0.12), 0.16, False),
        (0.10, (0.08, 0.12), 0.06, False),
        (0.10, (0.05, 0.20), 0.06, True),  # explained by chance
        (0.10, (0.03, 0.20), 0.04, False),  # so few examples that nothing is known
        (0.04, (0.01, 0.20), 0.10, True),  # no harder than the toy model
        (0.0, (0.0, 0.02), 0.015, True),
        (0.0, (0.0, 0.02), 0.025, True),  # 1.25 times the end of the interval
        (0.0, (0.0, 0.02), 0.1, False),
        (np.nan, (np.nan, np.nan), 0.1, True),
    ],
)
def test_a_factor_of_three_halves(
    measured: float, interval: tuple[float, float], predicted: float, toy_model: bool
) -> None:
    assert ToyModelVerdict(measured, interval, predicted, 0.9).toy_model == toy_model


def test_classes_that_no_probe_separates_are_not_the_toy_model() -> None:
    """A twentieth of 100 labels is wrong, which the interval of so few examples does not show."""
    x, labels = teacher_data(100, 20, 6, wrong=0.05)
    result = toy_model_verdict(coordinates(x, labels))
    assert result.interval[0] <= result.predicted <= result.interval[1]
    assert result.training > 0.01 and not result.toy_model
    assert result.sentence().startswith(
        "the data are not the toy model: no probe through the mean separates the classes"
    )
    assert not ToyModelVerdict(0.1, (0.05, 0.2), 0.1, 0.9, training=0.02).toy_model
    assert ToyModelVerdict(0.1, (0.05, 0.2), 0.1, 0.9, training=0.01).toy_model


def test_no_error_has_an_upper_limit() -> None:
    """Below that of the rule of three, 3 / tests, which is the exact binomial one."""
    low, high = error_interval(ProbeErrors(0.0, 0.0, 10), 211, 0.9)
    tests = 211 / (1 + 10 / 9)
    assert low == 0.0
    assert 1 / tests < high < 3 / tests
    assert error_interval(ProbeErrors(1.0, 0.5, 10), 211, 0.9)[1] == 1.0
    found = ToyModelVerdict(0.0, (low, high), 10 * high, 0.9)
    assert found.factor == pytest.approx(10) and not found.toy_model


def test_a_rare_class_is_named() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((600, 5))
    labels = np.where(np.argsort(np.argsort(x[:, 0])) >= 588, "cat", "dog")
    sentences = coordinates(x, labels).warnings
    assert any(one.startswith("class cat has 2 % of the examples") for one in sentences)
    even = coordinates(x, np.where(x[:, 0] > 0, "cat", "dog")).warnings
    assert not any("of the examples: the theory" in one for one in even)


def test_labels_that_mean_nothing_are_not_the_toy_model() -> None:
    """Probes do not agree, there is no angle, and the error is that of guessing."""
    random = np.random.default_rng(3)
    x, labels = random.standard_normal((500, 10)), random.integers(0, 2, 500)
    found = coordinates(x, labels)
    undefined = replace(found, theta=np.nan, theta_interval=(np.nan, np.nan))
    result = toy_model_advice(undefined)
    assert result.advice == "keep all" and np.isnan(result.toy_model_fraction)
    assert result.policies == ()
    far = coordinates_of_overlap(x, -0.1, 250)
    with pytest.raises(ValueError, match="theta is undefined"):
        toy_model_advice(far)
