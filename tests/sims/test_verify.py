"""Theory against simulation: the verdict is "yes" for the right theory and "no" for wrong ones."""

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest

import replica
import sims.__main__
from hardset.cli import run
from sims import verification
from sims.cells import identity
from sims.results import chi_square_p_value, extrapolate, mean_and_stderr
from sims.sweep import simulate_students
from sims.verification import (
    CURVATURE,
    LARGEST_Z,
    PLANS,
    Case,
    Comparison,
    Plan,
    Verification,
    verify,
)
from theory.inputs import Spectrum
from theory.policies import Hard, HardSigned
from theory.problem import CrossFitted, DownstreamShift, FixedAngle, PerceptronProblem
from theory.students import ERM

# 2 N examples are kept in all of them: two shapes to compile.
SMALL = Plan(
    cases=(
        Case(4, 0.5, 20.0),
        Case(8, 0.25, 40.0, "hard-signed"),
        Case(8, 0.5, 20.0, redundancy=2),
        Case(4, 0.5, 20.0, delta=0.5, along_plane=0.8),
    ),
    dims=(24, 48),
    draws=(800, 800),
)


class Answer(NamedTuple):
    """What `verify` asks of a theory."""

    error: np.ndarray
    status: np.ndarray
    norm: np.ndarray


Theory = Callable[[PerceptronProblem], Answer]


@pytest.fixture(autouse=True, scope="module")
def one_simulation() -> object:
    """Simulate each case once: the verdicts below differ in the theory alone."""
    known: dict[tuple, object] = {}

    def remembered(cells: list, dim: int, draws: int, seed: int, **options: object) -> object:
        key = (identity(cells[0]), dim, draws, seed)
        if key not in known:
            known[key] = simulate_students(cells, dim, draws, seed, **options)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "simulate_students", remembered)
        patch.setattr(verification, "processors", lambda: 1)  # what others do is not seen
        yield


def right(problem: PerceptronProblem) -> Answer:
    found = replica.solve(problem)
    return Answer(*(np.asarray(part) for part in (found.error, found.status, found.norm)))


def scaled(factor: float) -> Theory:
    """The right theory with its error multiplied by `factor`."""
    return lambda problem: right(problem)._replace(error=factor * right(problem).error)


def of_another_problem(**changes: Callable[[PerceptronProblem], object]) -> Theory:
    """The right answer to a question that differs from the one asked."""
    return lambda problem: right(
        dataclasses.replace(problem, **{name: new(problem) for name, new in changes.items()})
    )


def test_the_right_theory_passes() -> None:
    found = verify(right, SMALL)
    assert found.passed
    assert found.unanswered == 0
    assert found.p_value > 1e-3
    assert found.largest_z <= LARGEST_Z
    for row in found.rows:
        assert row.unsolved == 0
        # Two dimensions: the line through both points; b/N^2 moves its end by -b/(24 * 48).
        (small, large), (few, many) = row.means, row.stderrs
        line = (48 * large - 24 * small) / 24
        # b: of smooth means, and of a skewed law: exp(s/2N) = 1 + s/2N + (s^2/8)/N^2.
        spread = 48 * SMALL.draws[1] * (many / large) ** 2
        unknown = large * np.hypot(CURVATURE, spread**2 / 8) / (24 * 48)
        stderr = np.sqrt((48 * many) ** 2 + (24 * few) ** 2 + (24 * unknown) ** 2) / 24
        assert np.isclose(row.simulation, line, rtol=1e-12)
        assert np.isclose(row.stderr, stderr, rtol=1e-9)
        assert np.isclose(row.z, (line - row.theory) / stderr, rtol=1e-9)
    assert np.isclose(found.chi_square, sum(row.z**2 for row in found.rows), rtol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(scaled(1.05), id="five percent too large"),
        pytest.param(scaled(0.95), id="five percent too small"),
        pytest.param(of_another_problem(probe=lambda p: FixedAngle(0.0)), id="ignores theta"),
        pytest.param(
            of_another_problem(
                policy=lambda p: Hard() if isinstance(p.policy, HardSigned) else p.policy
            ),
            id="signed ranking in the gauge of the unsigned one",
        ),
        pytest.param(of_another_problem(redundancy=lambda p: 1.0), id="copies count as examples"),
        pytest.param(
            of_another_problem(alpha_total=lambda p: p.alpha_total * p.keep_fraction),
            id="alpha_kept in the place of alpha_total",
        ),
        pytest.param(
            of_another_problem(downstream=lambda p: DownstreamShift(p.downstream.delta, 0.0, -0.8)),
            id="shift to the other side",
        ),
    ],
)
def test_a_wrong_theory_fails(wrong: Theory) -> None:
    found = verify(wrong, SMALL)
    assert not found.passed
    assert found.unanswered == 0
    assert found.p_value < 1e-3 or found.largest_z > LARGEST_Z


# Above and below f_sv = .1912 of a probe trained on the same data.
OWN = Plan(cases=(Case(5, 0.4, None), Case(5, 0.1, None)), dims=(24, 48), draws=(400, 400))


def test_reports_name_the_parameter_of_a_policy() -> None:
    cases = (Case(4, 0.5), Case(4, 0.5, 20.0, "window", 0.1), Case(4, 0.5, 20.0, "mixture", 0.5))
    rows = tuple(Comparison(case, 0.1, 0.1, 0.01, 0.0, (0.1,), (0.01,), 0) for case in cases)
    report = Verification(rows, (24,), (10,), 0, 0.0, 1.0, 0.0, 0, True).report()
    plain, window, mixture = report["rows"]
    assert (window["lo"], mixture["w"]) == (0.1, 0.5)
    assert "parameter" not in plain.keys() | window.keys() | mixture.keys()
    assert (plain["alpha_total"], plain["keep_fraction"], plain["theta_deg"]) == (4, 0.5, 0.0)


def test_in_sample_probes_are_verified() -> None:
    found = verify(right, OWN)
    assert found.passed
    assert found.table().count(" own ") == 2


def of_a_fixed_angle(problem: PerceptronProblem) -> Answer:
    """The theory of a probe at the same angle that has not seen the data."""
    theta = replica.solve(dataclasses.replace(problem, keep_fraction=1.0)).theta
    return right(dataclasses.replace(problem, probe=FixedAngle(theta)))


def without_loss(problem: PerceptronProblem) -> Answer:
    """The lossless branch at any fraction."""
    return right(dataclasses.replace(problem, keep_fraction=np.ones(problem.shape)))


@pytest.mark.parametrize("wrong", [of_a_fixed_angle, without_loss])
def test_a_wrong_theory_of_in_sample_probes_fails(wrong: Theory) -> None:
    found = verify(wrong, OWN)
    assert not found.passed
    assert found.unanswered == 0


# 2 N examples are kept in all of them, in folds of whole numbers.
NOISY = Plan(
    cases=(
        Case(4, 0.5, 30.0, loss="square", lam=0.1, flip=0.1, noise_sigma=0.5),
        Case(4, 0.5, 30.0, loss="square", lam=0.1, flip=0.1, noise_sigma=0.5, observable="norm"),
        Case(4, 0.5, 30.0, "easy-signed", loss="square", lam=0.1, flip=0.2, noise_sigma=0.5),
        Case(20, 0.1, 20.0, loss="square", lam=0.1, flip=0.1, noise_sigma=0.5, folds=5),
        Case(4, 0.5, 30.0, loss="square", lam=0.1, flip=0.1, spectrum=(0.8, 1.0, 0.0)),
    ),
    dims=(20, 40),
    draws=(600, 600),
)


def test_noise_losses_folds_and_spectra_are_verified() -> None:
    found = verify(right, NOISY)
    assert found.passed
    assert found.unanswered == 0
    table = found.table()
    for words in ("square(0.1) flip=0.1 noise_sigma=0.5 norm", "5 folds", "spectrum(0.8, 1, 0)"):
        assert words in table
    json.dumps(found.report(), allow_nan=False)


def other_labels(**values: float) -> Theory:
    """The right theory of labels with other parameters."""
    return of_another_problem(
        labels=lambda p: dataclasses.replace(
            p.labels,
            **{
                name: value + 0 * getattr(p.labels, name)
                for name, value in values.items()
                if hasattr(p.labels, name)
            },
        )
    )


def one_fold(problem: PerceptronProblem) -> object:
    if not isinstance(problem.probe, CrossFitted):
        return problem.probe
    return dataclasses.replace(problem.probe, folds=1.0)


def other_spectrum(problem: PerceptronProblem) -> object:
    """The teacher lies along the other end of the spectrum."""
    if not isinstance(problem.inputs, Spectrum):
        return problem.inputs
    given = problem.inputs
    return Spectrum(np.asarray(given.eigenvalues)[::-1], given.teacher, given.direction)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(other_labels(flip=0.0), id="ignores flips"),
        pytest.param(other_labels(sigma=0.0), id="ignores noise on the field"),
        pytest.param(
            of_another_problem(student=lambda p: ERM(p.student.loss, 2 * p.student.lam)),
            id="lam without its half",
        ),
        pytest.param(of_another_problem(probe=one_fold), id="one probe for all folds"),
        pytest.param(of_another_problem(inputs=other_spectrum), id="another spectrum"),
    ],
)
def test_a_wrong_theory_of_noise_losses_folds_or_spectra_fails(wrong: Theory) -> None:
    found = verify(wrong, NOISY)
    assert not found.passed
    assert found.unanswered == 0


def one_lane(**values: float) -> Theory:
    """The right theory, but for the first point of every policy."""

    def broken(problem: PerceptronProblem) -> Answer:
        found = right(problem)
        columns = {name: np.array(getattr(found, name)) for name in values}
        for name, value in values.items():
            columns[name][0] = value
        return found._replace(**columns)

    return broken


@pytest.mark.parametrize("broken", [one_lane(status=1), one_lane(error=np.nan)])
def test_a_missing_answer_fails(broken: Theory) -> None:
    found = verify(broken, SMALL)
    assert not found.passed
    # One lane of each of the two policies.
    assert found.unanswered == 2
    assert sum(row["z"] is None for row in found.report()["rows"]) == 2
    assert found.table().count("theory did not converge") == 2
    assert found.table().endswith("FAILED")


def test_no_answer_at_all_fails() -> None:
    nothing = verify(lambda problem: right(problem)._replace(status=np.ones(3)), SMALL)
    assert not nothing.passed
    assert nothing.unanswered == len(SMALL.cases)
    json.dumps(nothing.report(), allow_nan=False)


def test_draws_without_a_student_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = verification.simulate_students

    def unsolved(*arguments: object, **options: object) -> np.ndarray:
        records = simulated(*arguments, **options).copy()
        records["status"][:, 1:] = 2
        return records

    monkeypatch.setattr(verification, "simulate_students", unsolved)
    found = verify(right, SMALL)
    assert not found.passed
    assert [row.unsolved for row in found.rows] == [2 * 799] * 4
    json.dumps(found.report(), allow_nan=False)


@pytest.mark.parametrize(("factor", "code", "verdict"), [(1.0, 0, "passed"), (1.1, 1, "FAILED")])
def test_the_command_line_says_no(
    factor: float,
    code: int,
    verdict: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(PLANS, "quick", SMALL)
    monkeypatch.setattr(verification, "verify", partial(verify, scaled(factor)))
    assert run(sims.__main__.main, ["verify"]) == code
    assert capsys.readouterr().out.endswith(f"{verdict}\n")
    assert run(sims.__main__.main, ["verify", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["passed"] == (code == 0)


def test_presets_keep_whole_examples() -> None:
    for plan in PLANS.values():
        for case in plan.cases:
            kept = [case.alpha_total * case.keep_fraction * dim for dim in plan.dims]
            copies = [case.alpha_total * dim / case.redundancy for dim in plan.dims]
            assert np.allclose(kept + copies, np.round(kept + copies), rtol=0, atol=1e-9)


def test_unknown_presets_and_seeds_are_named() -> None:
    with pytest.raises(ValueError, match="preset = 'slow' is not one of quick, full"):
        verify(right, "slow")
    with pytest.raises(ValueError, match="seed = -1"):
        verify(right, SMALL, -1)


def test_extrapolation_finds_a_known_limit() -> None:
    dims, value, slope = np.array([30.0, 60.0, 120.0]), 0.2, -0.7
    exact = extrapolate(dims, value + slope / dims, [1e-3, 2e-3, 3e-3], curvature=0.5)
    assert np.isclose(exact.value, value, rtol=1e-12)
    assert np.allclose(exact.coefficients, [value, slope], rtol=1e-9)
    with pytest.raises(ValueError, match="at least two"):
        extrapolate([30, 30], [0.1, 0.2], [0.1, 0.1])


def test_z_scores_of_extrapolations_are_standard_normal() -> None:
    rng = np.random.default_rng(0)
    dims, stderrs, curvature = np.array([30.0, 60.0, 120.0]), np.array([1, 2, 3]) * 1e-3, 2.0
    count = 4000
    bends = curvature * rng.standard_normal((count, 1))
    means = 0.2 - 0.7 / dims + bends / dims**2 + stderrs * rng.standard_normal((count, 3))
    fits = [extrapolate(dims, mean, stderrs, curvature=curvature) for mean in means]
    z = np.array([(fit.value - 0.2) / fit.stderr for fit in fits])
    # Standard errors of a mean and a variance over 4000 normal numbers, four times.
    assert abs(np.mean(z)) < 4 / np.sqrt(count)
    assert abs(np.var(z) - 1) < 4 * np.sqrt(2 / count)


@pytest.mark.parametrize("count", [2, 4, 26])
def test_chi_square_is_the_sum_of_poisson_terms(count: int) -> None:
    z = np.linspace(0.3, 2.0, count)
    square, p_value = chi_square_p_value(z)
    half, term, total = 0.5 * float(z @ z), 1.0, 0.0
    for k in range(count // 2):
        term = term * half / k if k else 1.0
        total += term
    assert np.isclose(square, 2 * half, rtol=1e-14)
    assert np.isclose(p_value, np.exp(-half) * total, rtol=1e-12)


def test_means_count_what_is_valid() -> None:
    samples = np.array([[1.0, 2.0, 6.0, np.nan], [1.0, np.nan, np.nan, np.nan]])
    mean, stderr = mean_and_stderr(samples, ~np.isnan(samples))
    assert np.allclose(mean, [3.0, 1.0], rtol=1e-15)
    # Deviations -2, -1, 3: variance 14/2 over 3 samples.
    assert np.isclose(stderr[0], np.sqrt(7 / 3), rtol=1e-15)
    assert np.isnan(stderr[1])
