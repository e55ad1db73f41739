"""The best ridge strength against values of a reference solver, and brute force over lam."""

import numpy as np
import pytest

from replica import SearchStatus, Status, optimal_lam, solve
from theory.labels import Flip
from theory.policies import (
    Easy,
    EasySigned,
    Hard,
    HardSigned,
    Policy,
    Random,
    Window,
    WindowSigned,
)
from theory.problem import FixedAngle, PerceptronProblem
from theory.students import ERM, MaxMargin

RANGE = (1e-3, 16.0)
FLIPS = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.3])
# Least errors over lam, squared hinge at alpha_total = 20, f = .2, theta = 20 degrees: made with a
# reference solver in NumPy on a grid of lam in the same range, printed to four decimals. A column
# for each rate of flips.
TABLE: dict[str, tuple[Policy, float, list[float]]] = {
    "all": (Hard(), 1.0, [0.0224, 0.0515, 0.0656, 0.0846, 0.1263, 0.1892]),
    "random": (Random(), 0.2, [0.1037, 0.1308, 0.1542, 0.1858, 0.2470, 0.3170]),
    "hard": (Hard(), 0.2, [0.1522, 0.1154, 0.0854, 0.0902, 0.1235, 0.1813]),
    "window .05": (Window(0.05), 0.2, [0.0787, 0.0862, 0.0864, 0.0932, 0.1269, 0.1852]),
    "window .1": (Window(0.1), 0.2, [0.0635, 0.0788, 0.0884, 0.0988, 0.1328, 0.1915]),
    "window .2": (Window(0.2), 0.2, [0.0653, 0.0816, 0.0964, 0.1153, 0.1508, 0.2105]),
    "window .4": (Window(0.4), 0.2, [0.0907, 0.1047, 0.1214, 0.1472, 0.2011, 0.2661]),
    "easy": (Easy(), 0.2, [0.1194, 0.1373, 0.1463, 0.1617, 0.2033, 0.2672]),
    "hard-signed": (HardSigned(), 0.2, [0.3321, 0.459, 0.521, 0.620, 0.766, 0.829]),
    "easy-signed": (EasySigned(), 0.2, [0.1194, 0.1195, 0.1196, 0.1199, 0.1205, 0.1213]),
    "window-signed": (WindowSigned(0.3), 0.2, [0.1022, 0.1012, 0.0996, 0.0968, 0.0934, 0.1003]),
}


def asked(
    alpha_total: object, fraction: object, policy: Policy, flip: object, lam: object = 1.0
) -> PerceptronProblem:
    return PerceptronProblem(
        alpha_total,
        fraction,
        FixedAngle.degrees(20),
        policy,
        student=ERM("squared-hinge", lam),
        labels=Flip(flip),
    )


@pytest.mark.parametrize("name", list(TABLE))
def test_the_table(name):
    policy, fraction, printed = TABLE[name]
    found = optimal_lam(asked(20.0, fraction, policy, FLIPS), RANGE)
    # A grid of lam finds no less than the least error, and one percent more at most where that is
    # at the end of the range. Signed hard selection was printed to three decimals.
    rounding = 5.1e-4 if name == "hard-signed" else 5.1e-5
    allowed = np.where(np.asarray(found.status) == SearchStatus.FOUND, 1e-3, 1.1e-2)
    assert np.all(found.error <= np.array(printed) + rounding)
    assert np.all(found.error >= np.array(printed) * (1 - allowed) - rounding)


def test_no_lam_of_a_dense_grid_is_better():
    """Signed hard selection has two local minima under noise, one of them without a ridge."""
    flips = np.array([0.02, 0.1, 0.3])
    found = optimal_lam(asked(20.0, 0.2, HardSigned(), flips))
    lam = np.geomspace(1e-6, 1e6, 121)
    dense = solve(asked(20.0, 0.2, HardSigned(), flips[:, None], lam))
    assert np.all(dense.status == Status.CONVERGED)
    errors = np.asarray(dense.error)
    padded = np.pad(errors, ((0, 0), (1, 1)), constant_values=np.inf)
    dips = (errors < padded[:, :-2]) & (errors < padded[:, 2:])
    np.testing.assert_array_equal(found.minima, dips.sum(axis=1))
    assert np.all(found.error <= errors.min(axis=1) * (1 + 1e-6))
    # Half a step of the dense grid, 12 % in lam, off a minimum.
    assert np.all(found.error >= errors.min(axis=1) * (1 - 1e-2))
    np.testing.assert_allclose(found.low_error, errors[:, 0], rtol=1e-9)
    np.testing.assert_allclose(found.high_error, errors[:, -1], rtol=1e-9)


def test_the_easiest_examples_are_solved_at_every_lam():
    """Their fields are far from 1, and state evolution from a small student diverges."""
    fraction, volume = np.array([0.001, 0.025])[:, None, None], np.array([20.0, 120.0])[:, None]
    lam = np.geomspace(1e-6, 1e6, 13)
    found = solve(asked(volume, fraction, Easy(), 0.18, lam))
    assert np.all(found.status == Status.CONVERGED)


def test_a_best_bound_is_said_to_be_one():
    """Hard selection is best without a ridge, easy selection under noise by the mean of y x."""
    hard = optimal_lam(asked(20.0, 0.2, Hard(), 0.1))
    easy = optimal_lam(asked(20.0, 0.2, Easy(), 0.1))
    for found, bound in ((hard, 1e-6), (easy, 1e6)):
        assert found.status == SearchStatus.AT_RANGE_END and found.lam == bound
    # By the same reference solver: .1086, .0901, .0883, .0881 at 1e-2 .. 1e-6.
    fixed = solve(asked(20.0, 0.2, Hard(), 0.1, [1e-2, 1e-3, 1e-4])).error
    np.testing.assert_allclose(fixed, [0.1086, 0.0901, 0.0883], atol=5.1e-5)
    assert hard.error == pytest.approx(0.0881, abs=5.1e-5)


def test_the_volume_from_which_hard_selection_is_better():
    """At f = .3 it beats easy selection from 10.49 (clean) and 9.47 (5 % flips) on, and all data
    from 14.7 (5 %) on, at the best lam of each."""
    volume = np.array([10.49, 9.47, 14.7])[:, None] * (1 + np.array([-4e-3, 4e-3]))
    flips = np.array([0.0, 0.05, 0.05])[:, None]
    hard = optimal_lam(asked(volume, 0.3, Hard(), flips), RANGE).error
    easy = optimal_lam(asked(volume[:2], 0.3, Easy(), flips[:2]), RANGE).error
    every = optimal_lam(asked(volume[2:], 1.0, Hard(), flips[2:]), RANGE).error
    lead = hard - np.concatenate([easy, every])
    assert np.all(lead[:, 0] > 0) and np.all(lead[:, 1] < 0)
    # By the same reference solver at alpha_total = 100, 30 % flips: .0665 against .0923.
    found = optimal_lam(asked(100.0, np.array([0.3, 1.0]), Hard(), 0.3))
    np.testing.assert_allclose(found.error, [0.0665, 0.0923], atol=5.1e-5)


@pytest.mark.parametrize(
    ("bounds", "student", "part"),
    [
        ((1.0, 0.1), ERM(), "increasing"),
        ((0.0, 1.0), ERM(), "bounds = 0"),
        ((0.1, 1.0), MaxMargin(), "max-margin has no lam"),
    ],
)
def test_bad_arguments_are_named(bounds, student, part):
    with pytest.raises(ValueError, match=part):
        optimal_lam(PerceptronProblem(5.0, student=student), bounds)
