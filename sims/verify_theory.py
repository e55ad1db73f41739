"""Theory against simulation, extrapolated to N -> infinity, with a verdict that can be "no"."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import replica
from hardset.checks import check_range
from sims.cells import problem_cells
from sims.devices import local_devices
from sims.engine import processors, simulate_students
from sims.lanes import on_processor
from sims.maxmargin import MaxMarginStatus
from sims.processes import spread
from sims.results import observables
from sims.statistics import chi_square_p_value, extrapolate, mean_and_stderr
from sims.verify_plans import PLANS, Case, Plan
from theory._float64 import float64
from theory.probes import FixedAngle, InSample, Probe
from theory.problem import DownstreamShift, PerceptronProblem

__all__ = ["Comparison", "Verification", "verify"]

LOWEST_P_VALUE = 1e-3
LARGEST_Z = 4.5

# Size of the 1/N^2 term of the mean error, relative to the error: the spread of the second-order
# coefficient over the table, measured with 20 times the draws.
CURVATURE = 5.0


class Solution(Protocol):
    """What is asked of a theory's answer."""

    @property
    def error(self) -> Any:
        """Error at N -> infinity, the problem's shape."""

    @property
    def status(self) -> Any:
        """0 where the answer is certified."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One case: theory beside the simulation.

    Attributes:
        case: the point.
        theory: e at N -> infinity by theory; NaN where its status says that it failed.
        simulation: e extrapolated to N -> infinity.
        stderr: standard error of the extrapolation, the unknown 1/N^2 term included.
        z: (simulation - theory)/stderr.
        means: mean e at each N.
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
    """The verdict over a plan.

    Attributes:
        rows: comparisons, one a case.
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
        """The verification as JSON-serialisable content, None for numbers that are missing."""
        content = dataclasses.asdict(self)
        for row in content["rows"]:
            row |= row.pop("case")
            for name in ("theory", "simulation", "stderr", "z"):
                row[name] = _finite(row[name])
            for name in ("means", "stderrs"):
                row[name] = [_finite(value) for value in row[name]]
        return content

    def table(self) -> str:
        """The verification as text: one line a case, then the verdict."""
        lines = [
            f"{'policy':<14}{'alpha_t':>8}{'f':>6}{'theta':>6}{'r':>4}{'delta':>6}"
            f"{'theory':>10}{'simulation':>12}{'stderr':>10}{'z':>7}"
        ]
        for row in self.rows:
            case = row.case
            name = case.policy if case.parameter is None else f"{case.policy}({case.parameter:g})"
            note = f"  {row.unsolved} draws without a student" if row.unsolved else ""
            note += "" if np.isfinite(row.theory) else "  theory did not converge"
            lines.append(
                f"{name:<14}{case.alpha_total:>8g}{case.keep_fraction:>6g}{_angle(case):>6}"
                f"{case.redundancy:>4}{case.delta:>6g}{row.theory:>10.5f}{row.simulation:>12.5f}"
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
    """Compare a theory's error with simulations at several N, extrapolated in 1/N.

    Every case has draws of its own, so the z-scores are independent and their squares add up to
    a chi-square.

    Args:
        theory: maps a problem to an answer with `error` and `status`.
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
    alone = local_devices(devices) != [None] or not on_processor()
    count = 1 if alone else processes or processors()
    found: dict[int, NDArray[np.void]] = {}
    with ThreadPoolExecutor(1) as beside:
        # Theory spends its time compiling.
        answering = beside.submit(float64(_theory_errors), theory, plan.cases)
        for (number, _), records in spread([[task] for task in tasks], count):
            found[number] = records
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


def _simulate(
    case: Case, dim: int, draws: int, seed: int, *, devices: int | None
) -> NDArray[np.void]:
    """Records of a case, shape (draws,)."""
    cells = problem_cells(case.problem(), dim)
    return simulate_students(cells, dim, draws, seed, processes=1, devices=devices)[0]


def _theory_errors(
    theory: Callable[[PerceptronProblem], Solution], cases: Sequence[Case]
) -> list[float]:
    """Theory's e of every case, one call a policy and kind of probe; NaN where it failed."""
    groups: dict[tuple[str, float | None, bool], list[int]] = {}
    for index, case in enumerate(cases):
        own = case.theta_deg is None
        groups.setdefault((case.policy, case.parameter, own), []).append(index)
    errors = [np.nan] * len(cases)
    for indices in groups.values():
        group = [cases[index] for index in indices]
        solution = theory(
            PerceptronProblem(
                alpha_total=np.array([case.alpha_total for case in group], dtype=float),
                keep_fraction=np.array([case.keep_fraction for case in group]),
                probe=_common_probe(group),
                policy=group[0].selection(),
                redundancy=np.array([case.redundancy for case in group], dtype=float),
                downstream=DownstreamShift(
                    np.array([case.delta for case in group]),
                    0.0,
                    np.array([case.along_plane for case in group]),
                ),
            )
        )
        status, error = np.asarray(solution.status), np.asarray(solution.error)
        for position, index in enumerate(indices):
            errors[index] = float(error[position]) if status[position] == 0 else np.nan
    return errors


def _common_probe(group: Sequence[Case]) -> Probe:
    angles = [case.theta_deg for case in group if case.theta_deg is not None]
    return FixedAngle(np.deg2rad(angles)) if angles else InSample()


def _compare(
    case: Case, theory: float, records: list[NDArray[np.void]], dims: tuple[int, ...]
) -> Comparison:
    means, stderrs, unsolved = [], [], 0
    for dim, found in zip(dims, records, strict=True):
        solved = found["status"] == MaxMarginStatus.SOLVED
        shift = case.problem().downstream
        error = observables(found, shift, dim, "cosine")["error"]
        mean, stderr = mean_and_stderr(error, solved)
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
    """Size of the 1/N^2 term of the mean error, from the largest dimension.

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
