"""Simulated students with a loss against values of another program, and against theory."""

import numpy as np
import pytest

import replica
import sims
from sims.results import extrapolate
from sims.verification import CURVATURE
from theory import ERM, CrossFitted, FixedAngle, Flip, InSample, PerceptronProblem, PowerLaw
from theory.inputs import Spectrum
from theory.policies import policy_from_name
from theory.probe_field import FieldLaw
from theory.problem import Independent

DIMS, DRAWS = (20, 40), 400

# Overlap, norm and training loss by a solver in NumPy that was written for the derivation and is no
# part of this package; its two quadratures agree to 1e-12.
KNOWN = [
    (
        PerceptronProblem(
            4.0, 0.5, FixedAngle.degrees(30), student=ERM("square", 0.1), labels=Flip(0.1)
        ),
        {"overlap": 0.74547, "norm": 1.01214, "training_loss": 0.15461},
    ),
    (
        PerceptronProblem(
            20.0, 0.2, CrossFitted.degrees(20, 5), student=ERM("square", 0.1), labels=Flip(0.1)
        ),
        {"overlap": 0.95199290, "norm": 1.42009286, "error": 0.09903091},
    ),
]


@pytest.mark.parametrize(("problem", "known"), KNOWN, ids=["flips", "five folds"])
def test_students_tend_to_known_values(problem: PerceptronProblem, known: dict) -> None:
    runs = [sims.run(problem, dim, DRAWS) for dim in DIMS]
    for name, value in known.items():
        means, errors = (
            [float(one[f"{name}_{part}"]) for one in runs] for part in ("mean", "stderr")
        )
        fit = extrapolate(DIMS, means, errors, curvature=CURVATURE * abs(value))
        # Three correlated numbers a problem: four standard errors.
        assert abs(fit.value - value) < 4 * fit.stderr, (name, value, fit)
        assert fit.stderr < 0.05 * abs(value) + 0.005


def test_a_power_law_is_solved_at_its_own_dimension() -> None:
    problem = PerceptronProblem(
        4.0,
        0.5,
        FixedAngle.degrees(30),
        policy_from_name("hard"),
        student=ERM("square", 0.1),
        labels=Flip(0.1),
        inputs=PowerLaw(40, 0.8, 1.0),
    )
    arrays = sims.realised_spectrum(problem.inputs)
    run = sims.run(problem, None, DRAWS)
    same = sims.run(
        PerceptronProblem(**{**vars(problem), "inputs": Spectrum(*vars(arrays).values())}), 40, 2
    )
    np.testing.assert_allclose(same["overlap"], run["overlap"][:2], rtol=1e-9)
    theory = replica.solve(PerceptronProblem(**{**vars(problem), "inputs": arrays}))
    for name, other in (("overlap", 0.74547), ("norm", 1.01214), ("weight_norm2", 1.01214**2)):
        value = float(getattr(theory, name))
        mean, stderr = float(run[f"{name}_mean"]), float(run[f"{name}_stderr"])
        # A 1/N term of the value's own size, and the statistical error.
        assert abs(mean - value) < 4 * stderr + value / 40
        # That of isotropic inputs, see KNOWN, is another.
        assert abs(other - value) > 4 * stderr + value / 40


def test_copies_count_in_a_sum_of_losses() -> None:
    # Both copies of every example are kept: twice the loss, or half the ridge.
    def students(lam: float, alpha_total: float, redundancy: float) -> np.ndarray:
        problem = PerceptronProblem(
            alpha_total, 0.5, redundancy=redundancy, student=ERM("square", lam), labels=Flip(0.1)
        )
        return sims.run(problem, 20, 3)["overlap"].values

    twice = students(0.2, 8.0, 2.0)
    np.testing.assert_allclose(twice, students(0.1, 4.0, 1.0), rtol=1e-8)
    assert not np.allclose(twice, students(0.2, 4.0, 1.0), rtol=1e-3)


def test_trained_probes_are_simulated_with_noise() -> None:
    base = {"student": ERM("square", 0.1), "labels": Flip(0.2)}
    own = sims.run(PerceptronProblem(4.0, 0.5, InSample(), **base), 20, 20)
    whole = sims.run(PerceptronProblem(4.0, 1.0, **base), 20, 20)
    # The probe is the student of all examples.
    np.testing.assert_allclose(
        np.cos(np.pi * whole["error"]).mean(), np.cos(own["theta_mean"]), 0.01
    )
    other = sims.run(PerceptronProblem(4.0, 0.5, Independent(3.0), **base), 20, 20)
    clean = sims.run(PerceptronProblem(4.0, 0.5, Independent(3.0)), 20, 20)
    # An independent probe sees clean labels.
    assert float(other["theta_mean"]) == float(clean["theta_mean"])


def test_noisy_labels_that_nothing_separates_have_their_status() -> None:
    run = sims.run(PerceptronProblem(8.0, 0.8, labels=Flip(0.3)), 12, 5)
    assert int(run["not_separable"]) == 5
    assert np.all(np.isnan(run["error"]))
    probe = sims.run(PerceptronProblem(8.0, 0.1, InSample(), labels=Flip(0.3)), 12, 5)
    assert int(probe["not_separable"]) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": ERM("square", 0.0)}, "lam = 0 has no simulation"),
        ({"probe_field": FieldLaw([1.0], [1.0])}, "probe_field = FieldLaw"),
        ({"probe": CrossFitted(0.3, 2.5)}, "folds = 2.5 is not a whole number"),
        ({"probe": CrossFitted(0.3, np.inf)}, "folds = inf is not a whole number"),
        ({"probe": CrossFitted(0.3, 40)}, "folds = 40 leaves 0.5 kept examples in a fold"),
        ({"probe": CrossFitted(0.3, 10)}, "dim = 10 is too small for 10 probes"),
        (
            {"probe": Independent(3.0), "inputs": PowerLaw(10, 1.0)},
            "is simulated for isotropic inputs only",
        ),
        (
            {"probe": CrossFitted(0.3, 2), "inputs": PowerLaw(10, 1.0)},
            "needs eigenvalues that are repeated",
        ),
    ],
)
def test_what_has_no_simulation_is_refused(changes: dict, message: str) -> None:
    problem = PerceptronProblem(4.0, 0.5, student=ERM("square", 0.1))
    with pytest.raises(ValueError, match=message):
        sims.run(PerceptronProblem(**{**vars(problem), **changes}), 10, 2)


def test_the_reference_solver_trains_no_loss() -> None:
    with pytest.raises(ValueError, match="'cvxpy' trains max-margin students"):
        sims.run(PerceptronProblem(4.0, student=ERM("square", 0.1)), 10, 1, solver="cvxpy")
