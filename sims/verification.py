"""Compares theory with simulations that are extrapolated to N -> infinity.

Its verdict is passed or not.
"""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import replica
from hardset.checks import check_range
from hardset.float64 import float64
from sims.cells import problem_cells
from sims.examples import realised_spectrum
from sims.machine import processors
from sims.maxmargin.lanes import on_processor
from sims.maxmargin.solver import MaxMarginStatus
from sims.results import chi_square_p_value, extrapolate, mean_and_stderr, observables
from sims.sweep import simulate_students
from sims.workers import local_devices, spread
from theory.inputs import Inputs, Isotropic, PowerLaw
from theory.labels import Clean, Flip, Labels, Logit, Probit
from theory.policies import Policy, policy_from_name
from theory.policy_names import policy_parameter
from theory.problem import (
    CrossFitted,
    DownstreamShift,
    FixedAngle,
    InSample,
    PerceptronProblem,
    Probe,
)
from theory.students import ERM, MaxMargin, Student

_POLICIES: tuple[tuple[str, float | None], ...] = (
    ("hard", None),
    ("easy", None),
    ("moderate", None),
    ("random", None),
    ("hard-signed", None),
    ("easy-signed", None),
    ("window", 0.1),
    ("mixture", 0.5),
)
LOWEST_P_VALUE = 1e-3
LARGEST_Z = 4.5
# Size of the 1/N^2 term of the mean error, relative to the error: the spread of the second-order
# coefficient over the table, measured with 20 times the draws.
CURVATURE = 5.0
# Eigenvalues of a case's power law. Each is repeated as N grows, so that the limit is a spectrum.
EIGENVALUES = 10


@dataclasses.dataclass(frozen=True)
class Case:
    """One point at which theory and simulation are compared.

    alpha_total, f and r are chosen so that every dimension keeps whole examples.

    Attributes:
        alpha_total: total examples / N.
        keep_fraction: f.
        theta_deg: probe angle in degrees; None for a probe trained on the same data.
        policy: name of the policy.
        parameter: lo of "window", w of "mixture", else None.
        redundancy: copies r.
        delta: size of a downstream shift independent of T and J_p.
        along_plane: that shift's component in span(T, J_p) orthogonal to T.
        loss: the student's loss, None for a max-margin student.
        lam: its ridge strength.
        flip: share of flipped labels.
        noise_sigma: Gaussian noise on the teacher's field.
        noise_temperature: temperature of logistic labels.
        spectrum: (a, r, rv) of a power law of `EIGENVALUES` eigenvalues, None for isotropic inputs.
        folds: number of folds, each with a probe of its own.
        folds_overlap: product of two such probes' parts beside the teacher.
        observable: what is compared, "error" or another average of `sims.run`.
    """

    alpha_total: float
    keep_fraction: float
    theta_deg: float | None = 0.0
    policy: str = "hard"
    parameter: float | None = None
    redundancy: int = 1
    delta: float = 0.0
    along_plane: float = 0.0
    loss: str | None = None
    lam: float = 0.0
    flip: float = 0.0
    noise_sigma: float = 0.0
    noise_temperature: float = 0.0
    spectrum: tuple[float, float, float] | None = None
    folds: int = 1
    folds_overlap: float = 0.0
    observable: str = "error"

    def kind(self) -> tuple[object, ...]:
        """Return what cases must have in common for one grid to hold them."""
        noise = (self.flip > 0, self.noise_sigma > 0, self.noise_temperature > 0)
        probe = (self.theta_deg is None, self.folds > 1)
        return self.policy, self.parameter, self.loss, self.spectrum, *noise, *probe

    def problem(self) -> PerceptronProblem:
        """Return the case as a problem of shape ()."""
        return _common_problem([self], ())

    def words(self) -> str:
        """Name what the case has beside a max-margin student, clean labels and the error."""
        parts = [f"{self.loss}({self.lam:g})"] if self.loss else []
        for name in ("flip", "noise_sigma", "noise_temperature"):
            value = getattr(self, name)
            parts += [f"{name}={value:g}"] if value else []
        if self.spectrum:
            parts.append(f"spectrum({', '.join(f'{one:g}' for one in self.spectrum)})")
        if self.folds > 1:
            overlap = f", overlap {self.folds_overlap:g}" if self.folds_overlap else ""
            parts.append(f"{self.folds} folds{overlap}")
        parts += [self.observable] if self.observable != "error" else []
        return " ".join(parts)


def _common_problem(cases: Sequence[Case], shape: tuple[int, ...]) -> PerceptronProblem:
    """Return cases of one kind as a problem.

    Its shape is (len(cases),), or () for one case.
    """
    first = cases[0]

    def column(name: str) -> NDArray[np.float64]:
        return np.array([getattr(case, name) for case in cases], np.float64).reshape(shape)

    probe: Probe = InSample()
    if first.folds > 1:
        probe = CrossFitted.degrees(column("theta_deg"), column("folds"), column("folds_overlap"))
    elif first.theta_deg is not None:
        probe = FixedAngle.degrees(column("theta_deg"))
    student: Student = MaxMargin() if first.loss is None else ERM(first.loss, column("lam"))
    labels: Labels = Flip(column("flip")) if first.flip else Clean()
    if first.noise_sigma:
        labels = Probit(column("noise_sigma"), column("flip"))
    elif first.noise_temperature:
        labels = Logit(column("noise_temperature"), column("flip"))
    inputs: Inputs = Isotropic()
    if first.spectrum:
        inputs = realised_spectrum(PowerLaw(EIGENVALUES, *first.spectrum))
    name = policy_parameter(first.policy)
    own = {} if name is None or first.parameter is None else {name: first.parameter}
    policy: Policy = policy_from_name(first.policy, **own)
    return PerceptronProblem(
        alpha_total=column("alpha_total"),
        keep_fraction=column("keep_fraction"),
        probe=probe,
        policy=policy,
        redundancy=column("redundancy"),
        downstream=DownstreamShift(column("delta"), 0.0, column("along_plane")),
        student=student,
        labels=labels,
        inputs=inputs,
    )


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cases of a verification, and the dimensions that are extrapolated to 1/N = 0.

    Attributes:
        cases: the points.
        dims: values of N.
        draws: draws at each N.
    """

    cases: tuple[Case, ...]
    dims: tuple[int, ...]
    draws: tuple[int, ...]


_POINTS = (
    Case(2, 1.0),
    Case(5, 1.0),
    Case(5, 0.4),
    Case(10, 0.2),
    *(Case(5, 0.3, 20.0, name, parameter) for name, parameter in _POLICIES),
    *(Case(10, 0.2, 40.0, name, parameter) for name, parameter in _POLICIES),
    Case(4, 0.5, 90.0),
    Case(2, 0.3, 10.0, "moderate"),
    Case(10, 0.5, 20.0, redundancy=2),
    Case(20, 0.1, 20.0, "random", redundancy=10),
    Case(10, 0.4, 20.0, "mixture", 0.5, redundancy=5),
    Case(5, 0.3, 20.0, delta=0.5),
    Case(5, 0.3, 20.0, delta=1.0, along_plane=1.0),
    # In-sample probes, above and below the fraction that keeps all their support vectors.
    Case(5, 0.4, None),
    Case(5, 0.1, None),
    Case(5, 0.3, None, "easy"),
)

# Between N and 2 N distinct examples kept: one compiled shape a dimension.
_OTHER_SHAPES = (
    Case(5, 1.0),
    Case(2, 0.3, 10.0, "moderate"),
    Case(10, 0.5, 20.0, redundancy=2),
)
_QUICK = (
    *(case for case in _POINTS if case not in _OTHER_SHAPES),
    Case(4, 0.4, 10.0, "moderate"),
    Case(10, 0.4, 20.0, redundancy=2),
)

# Between N and 2 N distinct examples kept by each loss: one compiled shape a dimension. Theory
# compiles a program for each loss, and for each kind of noise and spectrum.
_REGULARISED = (
    Case(4, 0.5, 30.0, loss="logistic", lam=0.1, noise_temperature=0.5),
    Case(4, 0.5, 30.0, loss="logistic", lam=0.1, noise_temperature=0.2, flip=0.1),
    Case(
        4,
        0.5,
        30.0,
        loss="logistic",
        lam=0.1,
        noise_temperature=0.2,
        flip=0.1,
        observable="norm",
    ),
    Case(5, 0.4, 30.0, "window-signed", 0.15, loss="hinge", lam=0.2, noise_sigma=0.5),
    Case(
        4,
        0.5,
        30.0,
        "hard-signed",
        loss="hinge",
        lam=0.5,
        noise_sigma=0.2,
        observable="training_loss",
    ),
    Case(20, 0.1, 20.0, loss="squared-hinge", lam=0.1, flip=0.1, folds=5),
    Case(20, 0.1, 20.0, loss="squared-hinge", lam=0.1, flip=0.1, folds=5, observable="norm"),
    Case(4, 0.5, 30.0, loss="square", lam=0.05, flip=0.1, spectrum=(0.7, 1.0, 0.0)),
    Case(
        8,
        0.5,
        30.0,
        redundancy=2,
        loss="square",
        lam=0.05,
        flip=0.1,
        spectrum=(0.7, 1.0, 0.0),
        observable="norm",
    ),
    # No more examples than dimensions: always separable.
    Case(2, 0.5, 20.0, flip=0.1),
)

_FULL = (
    *_POINTS,
    *_REGULARISED,
    *(
        Case(4, 0.5, theta, name, parameter, loss=loss, lam=lam, flip=flip)
        for (loss, lam, flip), (name, parameter, theta) in product(
            (
                ("logistic", 0.1, 0.1),
                ("hinge", 0.3, 0.2),
                ("squared-hinge", 0.05, 0.05),
                ("square", 0.1, 0.1),
            ),
            (
                ("hard", None, 30.0),
                ("easy-signed", None, 20.0),
                ("window-signed", 0.1, 30.0),
                ("mixture", 0.5, 45.0),
            ),
        )
    ),
    *(
        Case(20, 0.1, 20.0, loss=loss, lam=0.1, flip=0.1, folds=folds, folds_overlap=overlap)
        for loss, (folds, overlap) in product(("logistic", "hinge", "square"), ((2, 0.0), (4, 0.3)))
    ),
    *(
        Case(
            4,
            0.5,
            30.0,
            loss=loss,
            lam=0.1,
            flip=0.1,
            spectrum=spectrum,
            observable=observable,
        )
        for loss, spectrum, observable in product(
            ("logistic", "hinge", "squared-hinge"),
            ((0.5, 0.0, 0.0), (0.8, 1.0, 0.5)),
            ("error", "weight_norm2"),
        )
    ),
    Case(8, 0.5, 20.0, "random", redundancy=2, loss="square", lam=0.1, flip=0.1),
    Case(2, 0.5, 40.0, "hard-signed", flip=0.2),
    Case(2, 0.5, 40.0, flip=0.1, spectrum=(0.7, 1.0, 0.0)),
    *(
        Case(alpha, fraction, theta, name, parameter)
        for (name, parameter), theta, (alpha, fraction) in product(
            _POLICIES, (0.0, 10.0, 60.0), ((2, 0.5), (8, 0.25))
        )
    ),
    Case(1, 1.0),
    Case(10, 1.0),
    Case(20, 0.1, 0.0),
    Case(20, 0.1, 10.0),
    Case(20, 0.1, 20.0, "window", 0.1),
    Case(20, 0.25, 10.0, redundancy=5),
    Case(20, 0.5, 10.0, redundancy=10),
    Case(20, 0.5, 10.0, "easy", redundancy=5),
    Case(10, 0.2, 10.0, "random", redundancy=5),
    Case(8, 0.25, 10.0, delta=0.1),
    Case(8, 0.25, 10.0, "easy", delta=0.4),
    Case(8, 0.25, 40.0, "easy", delta=0.4, along_plane=-0.8),
    Case(2, 0.5, None),
    Case(2, 0.3, None),
    Case(2, 0.15, None),
    Case(5, 0.15, None),
    Case(5, 0.05, None),
    Case(10, 0.1, None, redundancy=2),
    Case(5, 0.1, None, delta=0.5, along_plane=-0.8),
    Case(2, 0.5, None, "easy"),
    Case(5, 0.4, None, "random"),
    Case(5, 0.3, None, "window", 0.1),
    Case(5, 0.2, None, "mixture", 0.5),
)

PLANS = {
    "quick": Plan((*_QUICK, *_REGULARISED), (30, 60, 120), (480, 240, 120)),
    "full": Plan(_FULL, (40, 80, 160, 240), (1000, 600, 300, 120)),
}


class Solution(Protocol):
    """The attributes that a theory's answer must have, with those that cases compare."""

    @property
    def error(self) -> Any:
        """Error at N -> infinity, in the problem's shape."""

    @property
    def status(self) -> Any:
        """Status as an integer, 0 where the answer is certified."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The theory and the simulation of one case.

    Attributes:
        case: the point.
        theory: the observable at N -> infinity by theory; NaN where its status says that it failed.
        simulation: the observable extrapolated to N -> infinity.
        stderr: standard error of the extrapolation, the unknown 1/N^2 term included.
        z: (simulation - theory)/stderr.
        means: its mean at each N.
        stderrs: their standard errors.
        unsolved: draws without a student.
    """

    case: Case
    theory: float
    simulation: float
    stderr: float
    z: float
    means: tuple[float, ...]
    stderrs: tuple[float, ...]
    unsolved: int


@dataclasses.dataclass(frozen=True)
class Verification:
    """The verdict of a verification.

    Attributes:
        rows: the comparisons, one for each case.
        dims: values of N.
        draws: draws at each N.
        seed: the seed.
        chi_square: sum of z^2 over the cases that theory answers.
        p_value: chance of a larger chi-square if theory is right.
        largest_z: largest abs(z).
        unanswered: cases without an answer of theory, or with draws without a student.
        passed: p_value >= 1e-3, largest_z <= 4.5 and nothing unanswered.
    """

    rows: tuple[Comparison, ...]
    dims: tuple[int, ...]
    draws: tuple[int, ...]
    seed: int
    chi_square: float
    p_value: float
    largest_z: float
    unanswered: int
    passed: bool

    def report(self) -> dict[str, Any]:
        """Return the verification as JSON types, with None for missing numbers.

        A policy's parameter has the policy's own name for it, `lo` or `w`.
        """
        content = dataclasses.asdict(self)
        for row in content["rows"]:
            row |= row.pop("case")
            own, value = policy_parameter(row["policy"]), row.pop("parameter")
            row |= {own: value} if own else {}
            for name in ("theory", "simulation", "stderr", "z"):
                row[name] = _finite(row[name])
            for name in ("means", "stderrs"):
                row[name] = [_finite(value) for value in row[name]]
        return content

    def table(self) -> str:
        """Return the verification as text: one line for each case, then the verdict."""
        lines = [
            f"{'policy':<13}{'alpha_total':>12}{'keep_fraction':>14}{'theta_deg':>10}"
            f"{'redundancy':>11}{'delta':>6}{'theory':>10}{'simulation':>12}{'stderr':>10}{'z':>7}"
        ]
        for row in self.rows:
            case = row.case
            name = case.policy if case.parameter is None else f"{case.policy}({case.parameter:g})"
            note = f"  {case.words()}" if case.words() else ""
            note += f"  {row.unsolved} draws without a student" if row.unsolved else ""
            note += "" if np.isfinite(row.theory) else "  theory did not converge"
            lines.append(
                f"{name:<13}{case.alpha_total:>12g}{case.keep_fraction:>14g}{_angle(case):>10}"
                f"{case.redundancy:>11}{case.delta:>6g}{row.theory:>10.5f}{row.simulation:>12.5f}"
                f"{row.stderr:>10.5f}{row.z:>7.2f}{note}"
            )
        lines.append(
            f"N = {', '.join(map(str, self.dims))} extrapolated; chi-square = "
            f"{self.chi_square:.1f} over {len(self.rows)} cases, p = {self.p_value:.3g}, largest "
            f"|z| = {self.largest_z:.2f}, {self.unanswered} unanswered: "
            f"{'passed' if self.passed else 'FAILED'}"
        )
        return "\n".join(lines)


def _angle(case: Case) -> str:
    return "own" if case.theta_deg is None else f"{case.theta_deg:g}"


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON has no NaN


@float64
def verify(
    theory: Callable[[PerceptronProblem], Solution] = replica.solve,
    preset: str | Plan = "quick",
    seed: int = 0,
    *,
    advance: Callable[[int], object] = lambda count: None,
    processes: int | None = None,
    devices: int | None = None,
) -> Verification:
    """Compare a theory with simulations at several N, extrapolated in 1/N.

    It is the error that is compared, and for some cases the norm or another average.

    Every case has draws of its own, so the z-scores are independent and their squares add up to
    a chi-square.

    Args:
        theory: maps a problem to an answer with `error`, `status` and what else cases compare.
        preset: "quick", "full" or a plan of your own.
        seed: of the simulations, >= 0.
        advance: called with the number of students that were trained.
        processes: how many processes solve, this one included, unless JAX devices do; default one
            a processor.
        devices: how many local JAX devices solve, a thread each; by default JAX's default one if
            it is an accelerator.

    Returns:
        The verification; `passed` is the verdict.

    Raises:
        ValueError: unknown preset, a seed below 0, or fewer devices than asked for.
    """
    if isinstance(preset, str) and preset not in PLANS:
        raise ValueError(f"preset = {preset!r} is not one of {', '.join(PLANS)}")
    check_range("seed", seed, 0, np.inf)
    plan = PLANS[preset] if isinstance(preset, str) else preset
    tasks = [
        partial(_simulate, case, dim, draws, seed * len(plan.cases) + index, devices=devices)
        for index, case in enumerate(plan.cases)
        for dim, draws in zip(plan.dims, plan.draws, strict=True)
    ]
    groups = _shared_compilations(plan)
    alone = local_devices(devices) != [None] or not on_processor()
    count = 1 if alone else processes or processors()
    found: dict[int, NDArray[np.void]] = {}
    with ThreadPoolExecutor(1) as beside:
        # Theory spends its time compiling.
        answering = beside.submit(float64(_theory_values), theory, plan.cases)
        for (group, place), records in spread([[tasks[n] for n in g] for g in groups], count):
            found[groups[group][place]] = records
            advance(len(records))
        answers = answering.result()
    by_case = [
        [found[len(plan.dims) * index + place] for place in range(len(plan.dims))]
        for index in range(len(plan.cases))
    ]
    rows = tuple(
        _compare(case, answer, found, plan.dims)
        for case, answer, found in zip(plan.cases, answers, by_case, strict=True)
    )
    return _judge(rows, plan, seed)


def _shared_compilations(plan: Plan) -> list[list[int]]:
    """Group the places of cases and dimensions, so that a process compiles few calls.

    Students with a loss need one for each loss and dimension, max-margin students none.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, (case, dim) in enumerate(product(plan.cases, plan.dims)):
        own = (place,) if case.loss is None else (case.loss, dim)
        groups.setdefault(own, []).append(place)
    # The longest come first.
    return sorted(groups.values(), key=len, reverse=True)


def _simulate(
    case: Case, dim: int, draws: int, seed: int, *, devices: int | None
) -> NDArray[np.void]:
    """Return the records of a case, shape (draws,)."""
    cells = problem_cells(case.problem(), dim)
    return simulate_students(cells, dim, draws, seed, processes=1, devices=devices)[0]


def _theory_values(
    theory: Callable[[PerceptronProblem], Solution], cases: Sequence[Case]
) -> list[float]:
    """Return the theory's value of every case's observable, NaN where it failed.

    The theory is called once for each kind of cases.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, case in enumerate(cases):
        groups.setdefault(case.kind(), []).append(index)
    values = [np.nan] * len(cases)
    for indices in groups.values():
        group = [cases[index] for index in indices]
        solution = theory(_common_problem(group, (len(group),)))
        status = np.asarray(solution.status)
        for position, index in enumerate(indices):
            found = np.asarray(getattr(solution, cases[index].observable))[position]
            values[index] = float(found) if status[position] == 0 else np.nan
    return values


def _compare(
    case: Case, theory: float, records: list[NDArray[np.void]], dims: tuple[int, ...]
) -> Comparison:
    means, stderrs, unsolved = [], [], 0
    for dim, found in zip(dims, records, strict=True):
        solved = found["status"] == MaxMarginStatus.SOLVED
        shift = case.problem().downstream
        values = observables(found, shift, dim, "cosine")[case.observable]
        mean, stderr = mean_and_stderr(values, solved)
        means.append(float(mean))
        stderrs.append(float(stderr))
        unsolved += int(np.sum(~solved))
    fit = extrapolate(
        dims,
        means,
        stderrs,
        curvature=_curvature(means[-1], stderrs[-1], dims[-1], len(records[-1])),
    )
    z = (fit.value - theory) / fit.stderr
    return Comparison(
        case, theory, fit.value, fit.stderr, z, tuple(means), tuple(stderrs), unsolved
    )


def _curvature(mean: float, stderr: float, dim: int, draws: int) -> float:
    """Return the size of the 1/N^2 term of the mean, from the largest dimension.

    Where a draw's error varies by as much as its size, the mean is that of a skewed law: for
    log e normal with variance s/N it is exp(s/2N) times the median, with the second order s^2/8.
    """
    relative_variance = dim * draws * (stderr / mean) ** 2
    return mean * float(np.hypot(CURVATURE, relative_variance**2 / 8))


def _judge(rows: tuple[Comparison, ...], plan: Plan, seed: int) -> Verification:
    z = np.array([row.z for row in rows])
    answered = np.isfinite(z)
    chi_square, p_value = chi_square_p_value(z[answered])
    largest = float(np.max(np.abs(z[answered]), initial=0.0))
    unanswered = sum(not np.isfinite(row.z) or row.unsolved > 0 for row in rows)
    passed = p_value >= LOWEST_P_VALUE and largest <= LARGEST_Z and not unanswered
    common = (rows, plan.dims, plan.draws, seed)
    return Verification(*common, chi_square, p_value, largest, unanswered, passed)
