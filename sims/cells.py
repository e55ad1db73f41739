"""A problem's grid points at a finite dimension: integers instead of fractions of N."""

import dataclasses
from typing import Any

import jax
import numpy as np

from hardset.checks import check_range
from sims.draws import check_kept
from theory.policies import Policy
from theory.problem import DownstreamShift, FixedAngle, Independent, PerceptronProblem


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """What is drawn, selected and trained at one grid point.

    Attributes:
        alpha_total: total examples / N.
        keep_fraction: f.
        probe: ("fixed", theta in radians), ("independent", alpha_probe) or ("in-sample", 0.0).
        policy: the policy with scalar parameters.
        copies: redundancy r.
        distinct: number of distinct rows, alpha_total N / r rounded.
        kept: copies to keep, f r * distinct rounded, >= 1; a `Custom` policy keeps by chance.
        probe_rows: rows that an independent probe is trained on, else 0.
    """

    alpha_total: float
    keep_fraction: float
    probe: tuple[str, float]
    policy: Policy
    copies: int
    distinct: int
    kept: int
    probe_rows: int

    @property
    def volume(self) -> int:
        """Examples in all, copies counted."""
        return self.distinct * self.copies


def _rounded(value: float) -> int:
    return int(np.floor(value + 0.5))


def _flat(value: Any, shape: tuple[int, ...]) -> list[float]:
    return [float(v) for v in np.broadcast_to(np.asarray(value, dtype=np.float64), shape).ravel()]


def problem_cells(problem: PerceptronProblem, dim: int) -> list[Cell]:
    """The cells of `problem` at dimension `dim`, in C order of `problem.shape`.

    Raises:
        ValueError: f alpha_total N < 1, or a redundancy that is not an integer.
    """
    shape = problem.shape
    if isinstance(problem.probe, FixedAngle):
        kind, probe_values = "fixed", _flat(problem.probe.theta, shape)
    elif isinstance(problem.probe, Independent):
        kind, probe_values = "independent", _flat(problem.probe.alpha_probe, shape)
    else:
        kind, probe_values = "in-sample", _flat(0.0, shape)
    leaves, structure = jax.tree.flatten(problem.policy)
    leaf_values = [_flat(leaf, shape) for leaf in leaves]
    cells = []
    for index, (alpha, fraction, ratio, probe_value) in enumerate(
        zip(
            _flat(problem.alpha_total, shape),
            _flat(problem.keep_fraction, shape),
            _flat(problem.redundancy, shape),
            probe_values,
            strict=True,
        )
    ):
        policy = jax.tree.unflatten(structure, [values[index] for values in leaf_values])
        cells.append(_cell(dim, alpha, fraction, ratio, (kind, probe_value), policy))
    return cells


def _cell(
    dim: int, alpha: float, fraction: float, ratio: float, probe: tuple[str, float], policy: Policy
) -> Cell:
    if ratio != round(ratio):
        raise ValueError(
            f"redundancy = {ratio:.6g} is not an integer >= 1; simulations copy whole examples"
        )
    check_kept(fraction, alpha, dim)
    copies = int(ratio)
    distinct = _rounded(alpha * dim / copies)
    if distinct < 1:
        raise ValueError(
            f"alpha_total * dim / redundancy = {alpha * dim / copies:.6g} is below 1: "
            "there is no distinct example to copy"
        )
    probe_rows = 0
    if probe[0] == "independent":
        probe_rows = _rounded(probe[1] * dim)
        if probe_rows < 1:
            raise ValueError(
                f"alpha_probe * dim = {probe[1]:.6g} * {dim} is below 1: the probe needs an example"
            )
    volume = distinct * copies
    kept_copies = min(max(_rounded(fraction * volume), 1), volume)
    return Cell(alpha, fraction, probe, policy, copies, distinct, kept_copies, probe_rows)


def problem_shifts(problem: PerceptronProblem, dim: int) -> list[DownstreamShift]:
    """The downstream shift of every cell, in C order of `problem.shape`.

    Raises:
        ValueError: a shift with a part orthogonal to T and J_p at dim = 2, where there is none.
    """
    shift = problem.downstream
    columns = [
        _flat(value, problem.shape)
        for value in (shift.delta, shift.along_teacher, shift.along_plane)
    ]
    # Most grids have one shift.
    known = {values: DownstreamShift(*values) for values in set(zip(*columns, strict=True))}
    if dim == 2:
        for one in known.values():
            if float(np.asarray(one.delta)) > 0:
                outside = 1 - np.hypot(one.along_teacher, one.along_plane)
                check_range("part of the shift outside span(T, J_p) at dim = 2", outside, 0, 1e-9)
    return [known[values] for values in zip(*columns, strict=True)]
