"""`run`: a problem, simulated at finite dimension."""

import json
import sys
from pathlib import Path

import numpy as np
import xarray as xr
from tqdm import tqdm

from sims.cache import RecordCache
from sims.cells import problem_cells, problem_shifts
from sims.engine import SOLVERS, simulate_students
from sims.results import OVERLAPS, to_dataset
from theory._float64 import float64
from theory.checks import check_range
from theory.policies import Custom
from theory.problem import PerceptronProblem

__all__ = ["run"]


@float64
def run(
    problem: PerceptronProblem,
    dim: int,
    draws: int,
    seed: int = 0,
    *,
    overlap: str = "cosine",
    solver: str = "native",
    memory_gb: float | None = None,
    cache: str | Path | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Train max-margin students on selected data, draw by draw, for every point of `problem`.

    Draw d of a dimension and seed is one data set: all points of all problems share its rows (a
    larger alpha_total extends them), so differences between points carry less noise than the
    points. Averages are over draws: the mean of arccos, not arccos of the mean.

    Args:
        problem: a point or a grid; its redundancy must be an integer.
        dim: N >= 2.
        draws: number of draws >= 1.
        seed: >= 0.
        overlap: "cosine", or "pearson": the published notebook's mean-centred overlaps, where a
            downstream shift adds delta to every component of the teacher but the probe's own and
            the axes other than the probe's are random.
        solver: "native", or "cvxpy" for the reference solver on the same draws.
        memory_gb: limit in GiB, default half of the memory; no digit depends on it.
        cache: folder where finished parts are kept; a rerun computes only what is missing.
        progress: whether to show a progress bar on stderr.

    Returns:
        Dataset on `problem.dims` (or dim_0, ...) with, for each of error, overlap (R),
        probe_overlap (rho), downstream_overlap (R'), margin (kappa) and support_fraction,
        `*_mean`, `*_stderr` over the solved draws and the values per draw; counts `solved`,
        `not_separable`, `failed`, `empty`; `theta_mean`, `theta_std` of the realised probe angle;
        `bracket_max`; per draw `support_count`, `kept_count` (distinct rows), `status`,
        `bracket`. Unsolved draws are NaN with their status.

    Raises:
        ValueError: an argument outside its range; f alpha_total N < 1.
    """
    check_range("dim", dim, 2, np.inf)
    check_range("draws", draws, 1, np.inf)
    check_range("seed", seed, 0, np.inf)
    for name, value, known in (("overlap", overlap, OVERLAPS), ("solver", solver, tuple(SOLVERS))):
        if value not in known:
            raise ValueError(f"{name} = {value!r} is not one of {', '.join(known)}")
    if memory_gb is not None:
        check_range("memory_gb", memory_gb, 0, np.inf, open_low=True, unit="GiB")
    if cache is not None and isinstance(problem.policy, Custom):
        raise ValueError("cache cannot hold a Custom policy: a function has no name to find it by")
    shift = problem.downstream
    if overlap == "pearson" and (
        np.any(np.asarray(shift.along_teacher) != 0) or np.any(np.asarray(shift.along_plane) != 0)
    ):
        raise ValueError("overlap = 'pearson' knows no direction of the shift, only its delta")
    cells, shifts = problem_cells(problem, dim), problem_shifts(problem, dim)
    store = RecordCache(cache, dim=dim, seed=seed, solver=solver) if cache is not None else None
    students = len({cell.identity() for cell in cells}) * draws
    with tqdm(
        total=students, unit="student", file=sys.stderr, disable=not progress, leave=False
    ) as bar:
        records = simulate_students(
            cells,
            dim,
            draws,
            seed,
            solver=solver,
            memory_gb=memory_gb,
            cache=store,
            advance=bar.update,
        )
    dataset = to_dataset(problem, records, shifts, dim, overlap)
    return dataset.assign_attrs(
        dim=dim,
        draws=draws,
        seed=seed,
        overlap=overlap,
        solver=solver,
        policy=json.dumps({"name": problem.policy.name}),
    )
