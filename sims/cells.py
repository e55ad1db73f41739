"""Turns a problem's grid points into cells of a simulation.

A cell says how many rows a draw has, and which of them are kept.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_range
from hardset.float64 import float64
from sims.draws import Draw, check_kept
from theory.policies import (
    Custom,
    Easy,
    EasySigned,
    Hard,
    HardSigned,
    Mixture,
    Moderate,
    Policy,
    Random,
    Steps,
    Window,
    WindowSigned,
)
from theory.problem import DownstreamShift, FixedAngle, Independent, PerceptronProblem

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SIGNED = (HardSigned, EasySigned, WindowSigned)
# Policies that keep ranks, an exact number of them; every other one keeps by its weight.
RANKED_BY_SIZE = Hard | Easy | Moderate | Random | Window | Mixture
BY_RANK = RANKED_BY_SIZE | HardSigned | EasySigned | WindowSigned


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """A grid point of a simulation: what is drawn, selected and trained there.

    Attributes:
        alpha_total: total examples / N.
        keep_fraction: f.
        probe: ("fixed", theta in radians), ("independent", alpha_probe) or ("in-sample", 0.0).
        policy: the policy, with scalar parameters.
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
        """Number of all examples, copies included."""
        return self.distinct * self.copies


def _rounded(value: float) -> int:
    return int(np.floor(value + 0.5))


def _flat(value: Any, shape: tuple[int, ...]) -> list[float]:
    return [float(v) for v in np.broadcast_to(np.asarray(value, dtype=np.float64), shape).ravel()]


def problem_cells(problem: PerceptronProblem, dim: int) -> list[Cell]:
    """Return the cells of `problem` at dimension `dim`, in C order of `problem.shape`.

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
    if not np.isfinite(alpha * dim):
        raise ValueError(f"alpha_total * dim = {alpha:.6g} * {dim} is no finite number of examples")
    distinct = _rounded(alpha * dim / copies)
    if distinct < 1:
        raise ValueError(
            f"alpha_total * dim / redundancy = {alpha * dim / copies:.6g} is below 1: "
            "there is no distinct example to copy"
        )
    probe_rows = 0
    if probe[0] == "independent":
        if not np.isfinite(probe[1] * dim):
            raise ValueError(
                f"alpha_probe * dim = {probe[1]:.6g} * {dim} is no finite number of examples"
            )
        probe_rows = _rounded(probe[1] * dim)
        if probe_rows < 1:
            raise ValueError(
                f"alpha_probe * dim = {probe[1]:.6g} * {dim} is below 1: the probe needs an example"
            )
    volume = distinct * copies
    kept_copies = min(max(_rounded(fraction * volume), 1), volume)
    return Cell(alpha, fraction, probe, policy, copies, distinct, kept_copies, probe_rows)


def problem_shifts(problem: PerceptronProblem, dim: int) -> list[DownstreamShift]:
    """Return the downstream shift of every cell, in C order of `problem.shape`.

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


def rank_rows(margins: Floats, policy: Policy, dual: Floats | None = None) -> Integers:
    """Rank the rows, the hardest first.

    Args:
        margins: signed probe margins y J_p.x, shape (P,).
        policy: signed policies rank y z, all others abs(z).
        dual: dual variables of an in-sample probe, shape (P,). Its support vectors all sit at the
            margin; they come first, largest dual variable first.
    """
    ranked = margins if isinstance(policy, SIGNED) else np.abs(margins)
    if dual is None:
        return np.argsort(ranked, kind="stable")
    return np.lexsort((-dual, np.where(dual > 0, -np.inf, ranked)))


def keep_rows(draw: Draw, cell: Cell, margins: Floats, order: Callable[[], Integers]) -> Integers:
    """Return the distinct rows of which at least one copy is kept, in ascending order.

    Args:
        draw: the draw; its first `cell.distinct` rows stand, each in `cell.copies` copies.
        cell: policy and number of copies to keep.
        margins: signed probe margins of those rows, shape (distinct,).
        order: gives the rows hardest first, as `rank_rows` does; called only if needed.

    Returns:
        Row indices. Copies have equal margins and add no constraint, so one row stands for all.
    """
    if not isinstance(cell.policy, BY_RANK):
        return _kept_by_weight(draw, cell, margins)
    ranked = _ranked_rows(cell)
    if ranked is not None:
        first, last = ranked
        whole = (first, last) == (0, cell.distinct)
        return np.arange(last) if whole else np.sort(order()[first:last])
    hardest = _certain_copies(cell)
    return _kept_by_chance(draw, cell, order() if hardest else np.empty(0, np.int64), hardest)


def kept_rows(cell: Cell) -> int | None:
    """Return how many distinct rows the cell keeps, or None if draws differ in it."""
    ranked = _ranked_rows(cell)
    if ranked is not None:
        return ranked[1] - ranked[0]
    by_count = isinstance(cell.policy, Random | Mixture) and cell.copies == 1
    return cell.kept if by_count else None


def largest_problem(cell: Cell) -> int:
    """Return the most rows that a solve for this cell can have."""
    probe = {"fixed": 0, "independent": cell.probe_rows, "in-sample": cell.distinct}[cell.probe[0]]
    kept = kept_rows(cell)
    if kept is None:
        by_rank = isinstance(cell.policy, BY_RANK)
        kept = min(cell.kept, cell.distinct) if by_rank else cell.distinct
    return max(kept, probe)


def rows_key(cell: Cell) -> str:
    """Return a text that is equal for cells which keep the same rows.

    They keep the same rows of every draw.
    """
    if not isinstance(cell.policy, BY_RANK):
        rule = cell.policy.parameters() | cell.policy.record()
        if not isinstance(cell.policy, Custom | Steps):
            rule["keep_fraction"] = cell.keep_fraction
        if isinstance(cell.policy, Custom):
            rule["weight"] = id(cell.policy.function)  # a function has no content to compare
        key = [cell.policy.name, cell.distinct, rule, cell.copies, *_probe_key(cell)]
        return json.dumps(key, default=float)
    ranked = _ranked_rows(cell)
    if ranked == (0, cell.distinct):
        return json.dumps(["all", cell.distinct])
    if ranked is not None:
        kind = "signed rank" if isinstance(cell.policy, SIGNED) else "rank"
        return json.dumps([kind, cell.distinct, *ranked, *_probe_key(cell)])
    hardest = _certain_copies(cell)
    chance = ["chance", cell.distinct, cell.copies, cell.kept, hardest]
    return json.dumps(chance + (_probe_key(cell) if hardest else []))


def identity(cell: Cell) -> str:
    """Return a text that is equal for cells with the same records.

    Such cells have the same probe and keep the same rows.
    """
    return json.dumps([*_probe_key(cell), rows_key(cell)])


def _probe_key(cell: Cell) -> list[str | float]:
    return [cell.probe[0], cell.probe_rows or cell.probe[1]]


def _ranked_rows(cell: Cell) -> tuple[int, int] | None:
    """Return the range of ranked rows that have a kept copy.

    It is (first, last + 1), or None where chance decides.
    """
    if not isinstance(cell.policy, BY_RANK):
        return None
    start = _window_start(cell.policy, cell)
    if start is None and cell.kept == cell.volume:
        start = 0
    if start is None:
        return None
    # Positions start .. start + kept of the ranked copies, `copies` positions a row.
    return start // cell.copies, -(-(start + cell.kept) // cell.copies)


def _window_start(policy: Policy, cell: Cell) -> int | None:
    """Return the first kept position in the ranking of copies.

    The answer is None where chance has a part in the choice.
    """
    spare = cell.volume - cell.kept
    if isinstance(policy, Random | Mixture):
        return 0 if _certain_copies(cell) == cell.kept else None
    if isinstance(policy, Hard | HardSigned):
        return 0
    if isinstance(policy, Easy | EasySigned):
        return spare
    if isinstance(policy, Moderate):
        return spare // 2
    assert isinstance(policy, Window | WindowSigned)
    return min(int(np.floor(float(np.asarray(policy.lo)) * cell.volume + 0.5)), spare)


def _certain_copies(cell: Cell) -> int:
    """Count how many of the ranked copies are kept before chance decides."""
    if isinstance(cell.policy, Mixture):
        return int(np.floor(float(np.asarray(cell.policy.w)) * cell.kept + 0.5))
    return 0


def _kept_by_chance(draw: Draw, cell: Cell, order: Integers, hardest: int) -> Integers:
    """Keep the `hardest` first copies of the ranking, and a uniform choice of others.

    The answer names the rows of the kept copies.
    """
    scores = draw.scores(cell.distinct, cell.copies)
    whole, part = divmod(hardest, cell.copies)
    scores[order[:whole]] = -1.0
    if part:
        scores[order[whole], :part] = -1.0
    flat = np.argsort(scores.ravel(), kind="stable")[: cell.kept]
    return np.unique(flat // cell.copies)


@float64
def _kept_by_weight(draw: Draw, cell: Cell, margins: Floats) -> Integers:
    """Return the rows of which chance keeps a copy, each with the policy's weight."""
    policy = cell.policy
    if isinstance(policy, Custom | Steps):
        signed = isinstance(policy, Custom) and policy.variable == "yz"
        field = margins if signed else margins * draw.labels[: cell.distinct]
        weight = np.asarray(policy.weight(jnp.asarray(field)), dtype=np.float64)
    else:
        # The weight of one copy, in the gauge in which the margin is the field.
        kind, angle = cell.probe
        theta = jnp.asarray(angle if kind == "fixed" else np.nan)
        of_copy = policy.kept_weight(jnp.asarray(cell.keep_fraction), theta, jnp.ones(()))
        weight = np.asarray(of_copy(jnp.asarray(margins)), dtype=np.float64)
        if np.any(np.isnan(weight)):
            raise ValueError(
                f"policy {policy.name!r} needs the probe's angle: give the problem a FixedAngle"
            )
    scores = draw.scores(cell.distinct, cell.copies)
    return np.flatnonzero(np.any(scores < weight[:, None], axis=1))
