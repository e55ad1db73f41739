import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import ndtr

from selection.advice.noise import fit_signs


def _signs(seed: int, n: int, flip: float, slope: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = np.abs(rng.standard_normal(n))
    return sizes, rng.random(n) < flip + (1 - 2 * flip) * ndtr(slope * sizes)


def test_the_fit_is_the_maximum_of_the_likelihood() -> None:
    # So few rows are not grouped.
    sizes, right = _signs(3, 200, 0.1, 3.0)

    def loss(x: np.ndarray) -> float:
        chance = x[0] + (1 - 2 * x[0]) * ndtr(np.exp(x[1]) * sizes)
        return -float(np.sum(np.log(np.where(right, chance, 1 - chance))))

    wanted = minimize(loss, [0.05, 0.5], bounds=[(1e-9, 0.5), (-5, 5)], tol=1e-12)
    found = fit_signs(sizes, right)
    assert loss(np.array([found.flip, np.log(found.slope)])) < wanted.fun + 1e-6
    # The likelihood falls by 2.706/2 to the ends of a 90 % interval of one number.
    low, high = found.flip_interval
    for end in (low, high):
        best = minimize(lambda x, end=end: loss(np.array([end, x[0]])), [1.0], tol=1e-10)
        assert best.fun - wanted.fun == pytest.approx(1.3528, abs=2e-3)


@pytest.mark.parametrize(("flip", "slope"), [(0.05, 6.0), (0.2, 3.0)])
def test_flips_and_slope_are_found_and_held_by_their_intervals(flip: float, slope: float) -> None:
    draws = 40
    fits = [fit_signs(*_signs(seed, 2000, flip, slope)) for seed in range(draws)]
    flips = np.array([fit.flip for fit in fits])
    assert abs(flips.mean() - flip) < max(0.05 * flip, 3 * flips.std() / np.sqrt(draws))
    slopes = np.log([fit.slope for fit in fits])
    assert abs(slopes.mean() - np.log(slope)) < max(0.05, 3 * slopes.std() / np.sqrt(draws))
    spread = 3 * np.sqrt(0.09 / draws)
    for name, truth in (("flip_interval", flip), ("slope_interval", slope)):
        ends = np.array([getattr(fit, name) for fit in fits])
        held = np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
        assert held > 0.9 - spread


def test_clean_labels_have_no_flips() -> None:
    sizes, right = _signs(0, 2000, 0.0, 15.0)
    found = fit_signs(sizes, right)
    assert found.flip < 1e-3
    assert found.flip_interval[0] == 0.0
    bounded = fit_signs(sizes, right, steepest=10.0)
    assert bounded.slope == pytest.approx(10.0)


def test_bad_margins_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sizes.*\[0, inf\]|sizes"):
        fit_signs([-1.0, 2.0], [True, False])
    with pytest.raises(ValueError, match="2 and 1 entries"):
        fit_signs([1.0, 2.0], [True])
