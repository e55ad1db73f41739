"""Every parameter of the problem reaches theory and simulation alike."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import xarray as xr

from figures import FIGURES
from figures.curves import panels_of, problem_of, shift_of, theory_fractions
from theory.policies import Hard, Mixture, Window
from theory.problem import FixedAngle, Independent, InSample

# The lines have the points' fractions and no others.
GRID: dict[str, Any] = {
    "alpha_total": (4.0,),
    "keep_fraction": (0.25, 0.5),
    "dim": 40,
    "draws": 30,
    "theory_points": 2,
    "theory_reach": 1.0,
}


@pytest.mark.parametrize(
    "changes",
    [
        {"redundancy": (2.0,), "downstream_deg": (20.0,)},
        {"probe": "independent", "alpha_probe": 2.0, "policy": ("mixture",), "w": 0.5},
        {"probe": "in-sample", "policy": ("window",), "lo": 0.2, "downstream_deg": (20.0,)},
    ],
)
def test_points_lie_on_their_lines(changes: dict[str, Any]) -> None:
    """Within four standard errors and 1/N, the size of what N -> infinity leaves out."""
    spec = FIGURES["fitting-error"]
    data = spec.compute(spec.settings(**GRID, **changes)).squeeze(drop=True)
    np.testing.assert_allclose(data["theory_fraction"], data["keep_fraction"], rtol=1e-12)
    assert not data["theory_status"].any()
    gap = np.abs(data["error_mean"].values - data["theory_error"].values)
    assert (gap < 4 * data["error_stderr"].values + 1 / GRID["dim"]).all()
    # Each of the changes is larger than that: the plain problem's line is elsewhere.
    plain = spec.compute(spec.settings(**GRID)).squeeze(drop=True)["theory_error"].values
    assert (np.abs(data["error_mean"].values - plain) > gap).all()


def test_in_sample_is_the_fitting_error_of_that_probe() -> None:
    one, other = (FIGURES[name] for name in ("in-sample", "fitting-error"))
    found = one.compute(one.settings(**GRID))
    same = other.compute(other.settings(**GRID, probe="in-sample")).squeeze("policy", drop=True)
    xr.testing.assert_equal(found.drop_vars(["lossless_fraction", "lossless_error"]), same)


def test_problems_have_what_the_settings_say() -> None:
    spec = FIGURES["policies"]
    settings = spec.settings(
        policy=("hard", "window", "mixture"), lo=0.3, w=0.4, keep_fraction=(0.1, 0.5)
    )
    hard, window, mixture = (
        problem_of(panel, panel.keep_fraction, shift_of(panel))
        for panel in panels_of(settings, "policy")
    )
    assert (hard.policy, window.policy, mixture.policy) == (Hard(), Window(0.3), Mixture(0.4))
    assert hard.probe == FixedAngle.degrees(10)
    assert theory_fractions(settings)[-1] == 0.625  # a quarter beyond the last one
    wide = dataclasses.replace(settings, keep_fraction=(0.1, 0.6))
    assert theory_fractions(wide)[-1] == 0.7  # the whole window
    trained = [{"probe": "independent", "alpha_probe": 2.5}, {"probe": "in-sample"}]
    for given, probe in zip(trained, (Independent(2.5), InSample()), strict=True):
        (panel,) = panels_of(FIGURES["fitting-error"].settings(**given), "policy")
        assert problem_of(panel, (0.5,), shift_of(panel)).probe == probe


def test_copies_of_a_window_are_fewer_examples() -> None:
    """Keeping ranks of r copies each is keeping ranks of alpha_total / r examples."""
    spec = FIGURES["window"]
    small = {"theta_deg": (20.0,), "dim": 12, "draws": 2, "theory_points": 5}
    maps = {"map_angles": 1, "map_volumes": 1}
    twice = spec.compute(spec.settings(alpha_total=(8.0,), redundancy=(2.0,), **small, **maps))
    once = spec.compute(spec.settings(alpha_total=(4.0,), **small, **maps))
    for name in ("theory_error", "best_lo", "best_error"):
        np.testing.assert_allclose(twice[name], once[name], rtol=1e-6)


def test_a_shift_lets_fewer_examples_suffice() -> None:
    """The error that selection adds is hidden by the one that the shift adds."""
    spec = FIGURES["optimal-fraction"]
    axes = {"alpha_total": (5.0, 20.0), "theta_deg": (10.0, 20.0)}
    plain = spec.compute(spec.settings(**axes))["sufficient_fraction"]
    shifted = spec.compute(spec.settings(**axes, downstream_deg=(20.0,)))["sufficient_fraction"]
    assert (shifted < plain).all()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("fitting-error", {"theory_points": 1}),
        ("fitting-error", {"theory_reach": 0.5}),
        ("fitting-error", {"theory_reach": float("nan")}),
        ("geometry", {"examples": 0}),
        ("margins", {"bins": 0}),
        ("margins", {"density_points": 1}),
        ("margins", {"reach": 0.0}),
        ("margins", {"reach": 1e3}),
        ("margins", {"beyond": 1.0}),
        ("scaling", {"theory_points": 1}),
        ("scaling", {"theory_range": (0.0, 1.0)}),
        ("scaling", {"theory_range": (2.0, 1.0)}),
        ("window", {"theory_points": 1}),
        ("window", {"map_angles": 0}),
        ("window", {"map_volumes": 0}),
        ("window", {"map_reach": 1.0}),
        ("window", {"map_theta_deg": 100.0}),
        ("optimal-policy", {"field_points": 1}),
        ("optimal-policy", {"field_range": (3.0, 0.01)}),
        ("optimal-policy", {"field_range": (-1.0, 1.0)}),
        ("optimal-fraction", {"tolerance": (0.0,)}),
        ("label-noise", {"flip": (0.6,)}),
        ("label-noise", {"lam_range": (1.0, 0.1)}),
        ("label-noise", {"window_lo": 0.9}),
        ("regularisation", {"lam": (0.0,)}),
        ("cross-fitted", {"folds": (0,)}),
        ("separability", {"flip": (0.0,)}),
        ("less-is-more", {"map_flips": 1}),
        ("curation", {"generator_deg": (90.0,)}),
        ("spectrum", {"spectrum_a": (-1.0,)}),
    ],
)
def test_settings_of_the_drawing_have_ranges_too(name: str, changes: dict[str, Any]) -> None:
    """Before anything is computed: the data file of a wrong one would stay in the way."""
    (setting,) = changes
    with pytest.raises(ValueError, match=rf"{setting} = .*(range|must hold ascending)"):
        FIGURES[name].settings(**changes)


def test_settings_may_be_numbers_lists_and_arrays() -> None:
    """Else a list would slip past the checks, and the figure show its first value alone."""
    spec = FIGURES["angle"]
    assert spec.settings(theta_deg=20).theta_deg == (20,)
    assert spec.settings(alpha_total=np.array([5, 10])) == spec.settings(alpha_total=(5, 10))
    assert FIGURES["fitting-error"].settings(policy="easy").policy == ("easy",)
    with pytest.raises(ValueError, match=r"theta_deg = 0, 20: .* takes one value"):
        FIGURES["fitting-error"].settings(theta_deg=[0, 20])
