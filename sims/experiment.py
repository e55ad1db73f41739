"""Simulates problems at a finite dimension: `run`, `run_many` and `margins`."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hardset.cache import RecordCache
from hardset.checks import check_choice, check_integer, check_range
from hardset.float64 import float64
from hardset.progress import bar
from sims.cells import identity, problem_cells, problem_shifts
from sims.draws import OVERLAPS, draw_rows
from sims.machine import one_blas_thread, processors
from sims.maxmargin.lanes import SOLVERS, solve_native, solver_edition
from sims.maxmargin.solver import MaxMarginStatus
from sims.probes import DrawState
from sims.results import RECORD, to_dataset
from sims.sweep import simulate_students
from theory.inputs import Isotropic, PowerLaw
from theory.policies import Custom
from theory.probe_field import NormalField
from theory.problem import (
    CrossFitted,
    Independent,
    OutOfFold,
    PerceptronProblem,
    require_max_margin,
)
from theory.students import ERM


@dataclasses.dataclass(frozen=True)
class StudentMargins:
    """The student of one draw, with the margins of its distinct training examples.

    Attributes:
        margin: kappa, the smallest margin.
        margins: y J.x/norm(J) of every kept row, shape (P,), in the data's order.
        support: which rows hold the separator, boolean of shape (P,); their margin is kappa.
        status: a `MaxMarginStatus`; only SOLVED has numbers that mean something.
    """

    margin: float
    margins: NDArray[np.float64]
    support: NDArray[np.bool_]
    status: MaxMarginStatus


@float64
def margins(
    problem: PerceptronProblem, dim: int, draws: int, seed: int = 0
) -> list[StudentMargins]:
    """Train the student of each draw, and return the margins of its kept examples.

    They are y J.x/norm(J) for the student J and the distinct kept examples x ~ N(0, I_N).

    Args:
        problem: one point; its redundancy must be an integer.
        dim: N >= 2.
        draws: number of draws >= 1.
        seed: >= 0.

    Returns:
        One entry for each draw. The draws, the kept rows and the students are those of `run`.

    Raises:
        ValueError: more than one point, or an argument outside its range; f alpha_total N < 1.
    """
    check_integer("dim", dim, 2, np.inf)
    check_integer("draws", draws, 1, np.inf)
    check_integer("seed", seed, 0, np.inf)
    require_max_margin(problem, "sims.margins")
    cells = problem_cells(problem, dim)
    if len(cells) != 1:
        raise ValueError(f"problem has {len(cells)} points; margins are computed for one")
    cell = cells[0]

    def student(number: int) -> StudentMargins:
        state = DrawState(draw_rows(seed, dim, number, cell.distinct))
        state.train_probe(cell, solve_native)
        rows, _ = state.kept(cell)
        (found,) = solve_native([(state.draw.rows, rows)])
        trained = state.probe(cell).status
        return StudentMargins(
            margin=found.margin,
            margins=state.draw.rows[rows] @ found.direction,
            support=found.dual > 0,
            status=MaxMarginStatus(found.status if trained == 0 else trained),
        )

    with one_blas_thread(), ThreadPoolExecutor(processors()) as pool:
        return list(pool.map(student, range(draws)))


@float64
def run(
    problem: PerceptronProblem,
    dim: int | None,
    draws: int,
    seed: int = 0,
    *,
    overlap: str = "cosine",
    solver: str = "native",
    memory_gb: float | None = None,
    cache: str | Path | None = None,
    progress: bool = False,
    devices: int | None = None,
    scheduler: str | None = None,
) -> xr.Dataset:
    """Train students on selected data for every point of a problem.

    Draw d of a dimension and seed is one data set. All points of all problems share its rows, and a
    larger alpha_total extends them. So differences between points carry less noise than the points.
    Averages are over draws: the mean of arccos, not arccos of the mean.

    A student with a loss minimises sum_i loss(y_i W.x_i) + (lam N / 2) W.W over the kept copies,
    x raw and y observed. Fixed and cross-fitted probes have their exact angle; an `Independent`
    one is a max-margin student of clean labels. An `InSample` one is trained as the student is, on
    all examples; so with a loss, with noise or a spectrum it is simulated only, without a theory.
    `OutOfFold` ones are trained likewise on the folds that they do not rank, and never have one.
    Where kept or ranked examples must be separable and are not, the draw's status says so.

    Args:
        problem: a point or a grid; its redundancy and number of folds must be integers.
        dim: N >= 2; None for that of the inputs, `PowerLaw` or `Spectrum`. A power law has no
            other, a spectrum of n eigenvalues the multiples of n: see `realised_spectrum`.
        draws: number of draws >= 1.
        seed: >= 0.
        overlap: "cosine", or "pearson": the published notebook's mean-centred overlaps, where a
            downstream shift adds delta to every component of the teacher but the probe's own and
            the axes other than the probe's are random.
        solver: "native", or "cvxpy" for the reference solver on the same draws.
        memory_gb: limit in GiB, default half of the memory; no digit depends on it. With a
            scheduler it is the limit of the results here and of every worker.
        cache: folder where finished parts are kept; a rerun computes only what is missing.
        progress: whether to show a progress bar on stderr.
        devices: how many local JAX devices solve. By default JAX's default device solves if it is
            an accelerator, and otherwise processes of this machine do.
        scheduler: address of a dask.distributed scheduler whose workers solve; this process
            collects, and keeps the cache.

    Returns:
        Dataset on `problem.dims` (or dim_0, ...) with, for each of error, overlap (R),
        probe_overlap (rho, the mean over cross-fitted probes), downstream_overlap (R'), margin
        (kappa; NaN for a student with a loss), support_fraction, norm, weight_norm2, training_loss
        and training_error, `*_mean`, `*_stderr` over the solved draws and the values per draw;
        counts `solved`, `not_separable`, `failed`, `empty`; `theta_mean`, `theta_std` of the
        realised probe angle; `bracket_max`; per draw `support_count`, `kept_count` (distinct
        rows), `status`, `bracket`. Unsolved draws are NaN with their status. All products are
        those of the C-metric. Support are the rows with a positive dual variable, all of them for
        the logistic loss; the bracket of a student with a loss is its certificate.

    Raises:
        ValueError: an argument outside its range, or a problem that has no simulation; f
            alpha_total N < 1.
        OSError: the scheduler does not answer, or the cache cannot be written.
    """
    (dataset,) = run_many(
        [problem],
        dim,
        draws,
        seed,
        overlap=overlap,
        solver=solver,
        memory_gb=memory_gb,
        cache=cache,
        progress=progress,
        devices=devices,
        scheduler=scheduler,
    )
    return dataset


@float64
def run_many(
    problems: Sequence[PerceptronProblem],
    dim: int | None,
    draws: int,
    seed: int = 0,
    *,
    overlap: str = "cosine",
    solver: str = "native",
    memory_gb: float | None = None,
    cache: str | Path | None = None,
    progress: bool = False,
    devices: int | None = None,
    scheduler: str | None = None,
) -> list[xr.Dataset]:
    """Simulate several problems in one sweep, each as `run` does.

    What they have in common is drawn and solved once.

    Args:
        problems: points or grids, each with a policy and a probe of its own.
        dim, draws, seed, overlap, solver, memory_gb, cache, progress, devices, scheduler: see
            `run`.

    Returns:
        One dataset for each problem, equal to that of `run`.

    Raises:
        ValueError: see `run`.
        OSError: see `run`.
    """
    if dim is None:
        dim = _own_dim(problems)
    check_integer("dim", dim, 2, np.inf)
    check_integer("draws", draws, 1, np.inf)
    check_integer("seed", seed, 0, np.inf)
    for name, value, known in (("overlap", overlap, OVERLAPS), ("solver", solver, tuple(SOLVERS))):
        check_choice(name, value, known)
    if memory_gb is not None:
        check_range("memory_gb", memory_gb, 0, np.inf, open_low=True, unit="GiB")
    if devices is not None and scheduler is not None:
        raise ValueError("devices are this process's, a scheduler has its own: give one of them")
    for problem in problems:
        _check_problem(problem, overlap, solver, cached=cache is not None)
    cells = [problem_cells(problem, dim) for problem in problems]
    shifts = [problem_shifts(problem, dim) for problem in problems]
    every = [cell for own in cells for cell in own]
    if not every:
        raise ValueError("there is no point to simulate: problems = [] or an empty grid")
    store = (
        RecordCache(cache, RECORD, (dim, seed, solver_edition(solver)))
        if cache is not None
        else None
    )
    students = len({identity(cell) for cell in every}) * draws
    with bar(students, "simulate", "student", shown=progress) as done:
        records = simulate_students(
            every,
            dim,
            draws,
            seed,
            solver=solver,
            memory_gb=memory_gb,
            cache=store,
            advance=done.update,
            devices=devices,
            scheduler=scheduler,
        )
    ends = np.cumsum([len(own) for own in cells])
    return [
        to_dataset(problem, part, own_shifts, dim, overlap).assign_attrs(
            dim=dim,
            draws=draws,
            seed=seed,
            overlap=overlap,
            solver=solver,
        )
        for problem, part, own_shifts in zip(
            problems, np.split(records, ends[:-1]), shifts, strict=True
        )
    ]


def _own_dim(problems: Sequence[PerceptronProblem]) -> int:
    """Return the dimension that the inputs of all problems have."""
    dims = {
        0 if isinstance(problem.inputs, Isotropic) else problem.inputs.size()
        for problem in problems
    }
    if len(dims) != 1 or 0 in dims:
        raise ValueError("dim is missing: the problems' inputs do not have one dimension")
    return dims.pop()


def _check_problem(problem: PerceptronProblem, overlap: str, solver: str, *, cached: bool) -> None:
    if cached and isinstance(problem.policy, Custom):
        raise ValueError("cache cannot hold a Custom policy: a function has no name to find it by")
    if solver != "native" and isinstance(problem.student, ERM):
        raise ValueError(f"solver = {solver!r} trains max-margin students, none with a loss")
    if isinstance(problem.student, ERM) and np.any(np.asarray(problem.student.lam) == 0):
        raise ValueError("lam = 0 has no simulation: students with a loss need lam > 0")
    if not isinstance(problem.probe_field, NormalField):
        raise ValueError(
            f"probe_field = {type(problem.probe_field).__name__}(...) has no simulation: inputs "
            "are drawn from the normal law"
        )
    isotropic = isinstance(problem.inputs, Isotropic)
    folded = isinstance(problem.probe, CrossFitted | OutOfFold)
    if isinstance(problem.probe, Independent) and not isotropic:
        raise ValueError(
            "probe = Independent(...) is simulated for isotropic inputs only: with a spectrum use "
            "FixedAngle or InSample"
        )
    if isinstance(problem.probe, CrossFitted) and isinstance(problem.inputs, PowerLaw):
        raise ValueError(
            "probe = CrossFitted(...) needs eigenvalues that are repeated: give inputs = "
            "Spectrum(...) with fewer eigenvalues than dimensions, or Isotropic()"
        )
    if overlap != "pearson":
        return
    if folded or not isotropic:
        raise ValueError("overlap = 'pearson' knows isotropic inputs and one probe only")
    shift = problem.downstream
    if np.any(np.asarray(shift.along_teacher) != 0) or np.any(np.asarray(shift.along_plane) != 0):
        raise ValueError("overlap = 'pearson' knows no direction of the shift, only its delta")
