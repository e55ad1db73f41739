"""The under-sampler in scikit-learn's hands."""

from fractions import Fraction

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris

from selection import Pool
from selection.adapters import SelectionSampler
from selection.methods.diversity import KCenter
from selection.methods.ranking import HardestFirst, ModerateCoreset
from selection.methods.wrappers import Quotas

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]


def test_kept_rows_are_those_of_the_method() -> None:
    sampler = SelectionSampler(KCenter(), budget=20, seed=3)
    x, y = sampler.fit_resample(X, NAMES)
    wanted = KCenter().select(Pool.of(features=X), 20, seed=3).indices
    np.testing.assert_array_equal(sampler.sample_indices_, wanted)
    np.testing.assert_array_equal(x, X[wanted])
    np.testing.assert_array_equal(y, NAMES[wanted])


def test_fractions_classes_and_scores() -> None:
    sampler = SelectionSampler(
        Quotas(HardestFirst()), budget=0.1, scores=lambda x, y: np.linalg.norm(x, axis=1)
    )
    _, y = sampler.fit_resample(X, NAMES)
    assert np.unique(y, return_counts=True)[1].tolist() == [5, 5, 5]
    assert sampler.subset_.diagnostics["quotas"] == {"0": 5, "1": 5, "2": 5}


def test_lists_come_back_as_arrays() -> None:
    x, y = SelectionSampler(ModerateCoreset(), budget=2).fit_resample(
        X.tolist()[:9], ["a", "b", "c"] * 3
    )
    assert x.shape == (2, 4)
    assert y.dtype.kind == "U"


def test_clone_and_parameters() -> None:
    sampler = SelectionSampler(KCenter(first="central"), budget=7)
    copy = clone(sampler)
    assert copy is not sampler
    assert copy.get_params() == sampler.get_params()
    assert copy.set_params(budget=9).budget == 9
    with pytest.raises(ValueError, match="parameter = 'size' is not one of method, budget, scores"):
        sampler.set_params(size=3)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, Fraction, np.int32, int])
def test_budgets_of_any_real_type(kind: type) -> None:
    whole = kind in (np.int32, int)
    sampler = SelectionSampler(KCenter(), budget=kind(75) if whole else kind(0.5))
    assert len(sampler.fit_resample(X, Y)[0]) == 75


@pytest.mark.parametrize(
    ("budget", "sentence"),
    [
        (0, "outside the valid range 1 to 150"),
        (151, "outside the valid range 1 to 150"),
        (1.5, r"neither a count 1 to 150 nor a fraction in \(0, 1\]"),
        (0.001, "of 150 examples is 0"),
        (np.float32(1.5), r"budget = 1.5 is neither a count 1 to 150 nor a fraction in \(0, 1\]"),
        (np.nan, "budget = nan is neither a count"),
        (True, "budget = True is outside the valid range 1 to 150"),
        ("half", "budget = half is outside the valid range 1 to 150"),
    ],
)
def test_bad_budgets(budget: float, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SelectionSampler(KCenter(), budget=budget).fit_resample(X, Y)
