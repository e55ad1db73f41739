"""Turns a problem's grid points into cells of a simulation.

A cell says how many rows a draw has, and which of them are kept.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_range
from hardset.float64 import float64
from sims.draws import Draw, check_kept
from sims.examples import check_dim
from theory.inputs import Inputs, Isotropic
from theory.labels import Clean, Labels
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
from theory.problem import (
    CrossFitted,
    DownstreamShift,
    FixedAngle,
    Independent,
    InSample,
    OutOfFold,
    PerceptronProblem,
    has_vectors,
)
from theory.students import ERM, MaxMargin, Student

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ERM_EDITION = 1  # of the students that minimise a loss; records of others are not taken for them
FOLDED = (CrossFitted.name, OutOfFold.name)  # probes that come one for each fold
TRAINED_HERE = (InSample.name, OutOfFold.name)  # on the rows that they rank
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
        probe: the probe's kind.
        numbers: those of the probe: (theta in radians,) of a fixed one, (alpha_probe,) of an
            independent one, (theta, folds, overlap) of cross-fitted ones.
        policy: the policy, with scalar parameters.
        copies: redundancy r.
        distinct: number of distinct rows, alpha_total N / r rounded.
        kept: copies to keep, f r * distinct rounded, >= 1; a `Custom` policy keeps by chance.
        probe_rows: rows that an independent probe is trained on, else 0.
        student: the student, with scalar parameters.
        labels: the label channel, with scalar parameters.
        inputs: the law of the inputs, with scalar parameters.
    """

    alpha_total: float
    keep_fraction: float
    probe: str
    numbers: tuple[float, ...]
    policy: Policy
    copies: int
    distinct: int
    kept: int
    probe_rows: int
    student: Student = dataclasses.field(default_factory=MaxMargin)
    labels: Labels = dataclasses.field(default_factory=Clean)
    inputs: Inputs = dataclasses.field(default_factory=Isotropic)

    @property
    def volume(self) -> int:
        """Number of all examples, copies included."""
        return self.distinct * self.copies


def _rounded(value: float) -> int:
    return int(np.floor(value + 0.5))


def _flat(value: Any, shape: tuple[int, ...]) -> list[float]:
    return [float(v) for v in np.broadcast_to(np.asarray(value, dtype=np.float64), shape).ravel()]


def _points(part: Any, shape: tuple[int, ...]) -> list[Any]:
    """Return a problem's part at every point, its vectors whole."""
    leaves, structure = jax.tree.flatten(part)
    columns = []
    for leaf in leaves:
        values = np.asarray(leaf, np.float64)
        own = values.shape[values.ndim - 1 :] if has_vectors(part) else ()
        columns.append(np.broadcast_to(values, (*shape, *own)).reshape(-1, *own))
    count = int(np.prod(shape))
    return [jax.tree.unflatten(structure, [c[point] for c in columns]) for point in range(count)]


def problem_cells(problem: PerceptronProblem, dim: int) -> list[Cell]:
    """Return the cells of `problem` at dimension `dim`, in C order of `problem.shape`.

    Raises:
        ValueError: f alpha_total N < 1, a redundancy or a number of folds that is no integer, or
            inputs of another dimension.
    """
    shape = problem.shape
    check_dim(problem.inputs, dim)
    probe = problem.probe
    numbers: tuple[Any, ...] = ()
    if isinstance(probe, FixedAngle):
        numbers = (probe.theta,)
    elif isinstance(probe, Independent):
        numbers = (probe.alpha_probe,)
    elif isinstance(probe, CrossFitted):
        numbers = (probe.theta, probe.folds, probe.overlap)
    elif isinstance(probe, OutOfFold):
        numbers = (probe.folds,)
    count = int(np.prod(shape))
    columns = [_flat(values, shape) for values in numbers]
    probes = list(zip(*columns, strict=True)) if columns else [()] * count
    return [
        _cell(dim, probe.name, *parts)
        for parts in zip(
            _flat(problem.alpha_total, shape),
            _flat(problem.keep_fraction, shape),
            _flat(problem.redundancy, shape),
            probes,
            _points(problem.policy, shape),
            _points(problem.student, shape),
            _points(problem.labels, shape),
            _points(problem.inputs, shape),
            strict=True,
        )
    ]


def _cell(
    dim: int,
    probe: str,
    alpha: float,
    fraction: float,
    ratio: float,
    numbers: tuple[float, ...],
    policy: Policy,
    student: Student,
    labels: Labels,
    inputs: Inputs,
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
    if probe == Independent.name:
        if not np.isfinite(numbers[0] * dim):
            raise ValueError(
                f"alpha_probe * dim = {numbers[0]:.6g} * {dim} is no finite number of examples"
            )
        probe_rows = _rounded(numbers[0] * dim)
        if probe_rows < 1:
            raise ValueError(
                f"alpha_probe * dim = {numbers[0]:.6g} * {dim} is below 1: the probe needs an "
                "example"
            )
    sizes = (copies, distinct, _kept_copies(fraction, distinct * copies), probe_rows)
    cell = Cell(alpha, fraction, probe, numbers, policy, *sizes, student, labels, inputs)
    if probe not in FOLDED:
        return cell
    _check_folds(cell)
    if probe == CrossFitted.name:
        _check_directions(cell, dim)
    return dataclasses.replace(cell, kept=sum(fold.kept for fold in fold_cells(cell)))


def _kept_copies(fraction: float, volume: int) -> int:
    return min(max(_rounded(fraction * volume), 1), volume)


def _folds(cell: Cell) -> float:
    """Return the number of folds of a cell with a probe for each."""
    return cell.numbers[1] if cell.probe == CrossFitted.name else cell.numbers[0]


def _check_folds(cell: Cell) -> None:
    folds = _folds(cell)
    if folds != np.floor(folds) or np.isinf(folds):
        raise ValueError(f"folds = {folds:g} is not a whole number, which simulations need")
    kept = cell.keep_fraction * cell.volume / folds
    if folds > cell.distinct or kept < 1 - 1e-9:
        raise ValueError(
            f"folds = {folds:g} leaves {kept:.3g} kept examples in a fold of {cell.distinct} "
            "distinct ones altogether: each fold must keep one"
        )


def _check_directions(cell: Cell, dim: int) -> None:
    _, folds, overlap = cell.numbers
    # Directions beside the teacher's: one for each fold, and what they have in common.
    needed = 1 + (folds if overlap == 0 else 1 if overlap == 1 else folds + 1)
    spaces = 1 if isinstance(cell.inputs, Isotropic) else cell.inputs.size()
    if dim < spaces * needed:
        raise ValueError(
            f"dim = {dim} is too small for {folds:g} probes: with {spaces} different eigenvalues "
            f"it must be {spaces * needed:g} or more"
        )


def fold_cells(cell: Cell) -> list[Cell]:
    """Return the folds of a cell, each a cell with one probe.

    They follow each other in the draw. A cell with one probe is its own only fold.
    """
    if cell.probe not in FOLDED:
        return [cell]
    folds = _folds(cell)
    exact = cell.probe == CrossFitted.name
    one = (FixedAngle.name, cell.numbers[:1]) if exact else (InSample.name, ())
    ends = [_rounded(fold * cell.distinct / folds) for fold in range(int(folds) + 1)]
    return [
        dataclasses.replace(
            cell,
            probe=one[0],
            numbers=one[1],
            distinct=size,
            kept=_kept_copies(cell.keep_fraction, size * cell.copies),
        )
        for size in (stop - start for start, stop in pairwise(ends))
    ]


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

    See `keep_copies`.
    """
    return keep_copies(draw, cell, margins, order)[0]


def keep_copies(
    draw: Draw,
    cell: Cell,
    margins: Floats,
    order: Callable[[], Integers],
    labels: Floats | None = None,
    first: int = 0,
) -> tuple[Integers, Integers]:
    """Return the distinct rows that are kept, in ascending order, and how often.

    Args:
        draw: the draw, of which `cell.distinct` rows stand, each in `cell.copies` copies.
        cell: policy and number of copies to keep.
        margins: signed probe margins of those rows, shape (distinct,).
        order: gives the rows hardest first, as `rank_rows` does; called only if needed.
        labels: their observed labels, by default the draw's own.
        first: place of the first of them in the draw; rows are counted from it.

    Returns:
        Rows of which at least one copy is kept, and the number of their kept copies, same shape.
    """
    ranked = _ranked_copies(cell)
    if ranked is None:
        scores = draw.scores(first + cell.distinct, cell.copies)[first:]
        if not isinstance(cell.policy, BY_RANK):
            given = draw.labels[first : first + cell.distinct] if labels is None else labels
            return _kept_by_weight(scores, cell, margins, given)
        hardest = _certain_copies(cell)
        ranking = order() if hardest else np.empty(0, np.int64)
        return _kept_by_chance(scores, cell, ranking, hardest)
    # Copies of a row are neighbours in the ranking.
    begin, end = ranked[0] // cell.copies, -(-ranked[1] // cell.copies)
    counts = np.full(end - begin, cell.copies)
    counts[0] -= ranked[0] - begin * cell.copies
    counts[-1] -= end * cell.copies - ranked[1]
    if cell.kept == cell.volume:
        return np.arange(end), counts
    rows = order()[begin:end]
    ascending = np.argsort(rows)
    return rows[ascending], counts[ascending]


def kept_rows(cell: Cell) -> int | None:
    """Return how many distinct rows the cell keeps, or None if draws differ in it."""
    kept = 0
    for fold in fold_cells(cell):
        ranked = _ranked_rows(fold)
        if ranked is not None:
            kept += ranked[1] - ranked[0]
        elif isinstance(cell.policy, Random | Mixture) and cell.copies == 1:
            kept += fold.kept
        else:
            return None
    return kept


def largest_problem(cell: Cell) -> int:
    """Return the most rows that a solve for this cell can have."""
    probe = cell.distinct if cell.probe in TRAINED_HERE else cell.probe_rows
    kept = kept_rows(cell)
    if kept is None:
        by_rank = isinstance(cell.policy, BY_RANK)
        kept = min(cell.kept, cell.distinct) if by_rank else cell.distinct
    return max(kept, probe)


def student_key(cell: Cell) -> str:
    """Return a text that is equal for cells which train the same students.

    They keep the same rows of every draw, with the same labels, for the same loss.
    """
    folds = fold_cells(cell)
    rows = [_rows_key(fold) for fold in folds] if len(folds) > 1 else _rows_key(folds[0])
    # Copies count in a sum of losses.
    copies = [(fold.copies, fold.kept, _ranked_copies(fold)) for fold in folds]
    own = [] if isinstance(cell.student, MaxMargin) else [*_loss_key(cell.student), copies]
    probes = _probe_key(cell) if len(folds) > 1 else []
    return json.dumps([*rows, *_examples_key(cell), *own, *probes], default=float)


def _rows_key(cell: Cell) -> list[Any]:
    if not isinstance(cell.policy, BY_RANK):
        rule = cell.policy.parameters() | cell.policy.record()
        if not isinstance(cell.policy, Custom | Steps):
            rule["keep_fraction"] = cell.keep_fraction
        if isinstance(cell.policy, Custom):
            rule["weight"] = id(cell.policy.function)  # a function has no content to compare
        return [cell.policy.name, cell.distinct, rule, cell.copies, *_probe_key(cell)]
    ranked = _ranked_rows(cell)
    if ranked == (0, cell.distinct):
        return ["all", cell.distinct]
    if ranked is not None:
        kind = "signed rank" if isinstance(cell.policy, SIGNED) else "rank"
        return [kind, cell.distinct, *ranked, *_probe_key(cell)]
    hardest = _certain_copies(cell)
    chance = ["chance", cell.distinct, cell.copies, cell.kept, hardest]
    return chance + (_probe_key(cell) if hardest else [])


def examples_name(cell: Cell) -> str:
    """Return a text that is equal for cells with the same label channel and inputs."""
    return json.dumps(_examples_key(cell), default=float)


def probe_name(cell: Cell) -> str:
    """Return a text that is equal for cells with the same probe.

    It ranks the same examples with the same labels.
    """
    key: list[Any] = [cell.probe, *cell.numbers, cell.probe_rows, *_examples_key(cell)]
    if cell.probe == CrossFitted.name:
        key.append(cell.distinct)
    if cell.probe in TRAINED_HERE:
        # It is trained as the student is, on the cell's own rows.
        key.append(cell.distinct)
        if isinstance(cell.student, ERM):
            key += [*_loss_key(cell.student), cell.copies]
    return json.dumps(key, default=float)


def _examples_key(cell: Cell) -> list[Any]:
    """Return what tells label channels and inputs apart, nothing for plain ones."""
    key: list[Any] = []
    if not isinstance(cell.labels, Clean):
        key.append({"name": cell.labels.name} | cell.labels.parameters())
    if not isinstance(cell.inputs, Isotropic):
        numbers = [np.asarray(leaf, np.float64).tobytes() for leaf in jax.tree.leaves(cell.inputs)]
        content = hashlib.sha256(b"".join(numbers)).hexdigest()
        key.append(cell.inputs.record() | {"content": content})
    return key


def _loss_key(student: ERM) -> list[Any]:
    """Return what tells students with a loss apart."""
    return [student.record() | student.parameters(), ERM_EDITION]


def identity(cell: Cell) -> str:
    """Return a text that is equal for cells with the same records.

    Such cells have the same probe and keep the same rows.
    """
    return json.dumps([*_probe_key(cell), student_key(cell)])


def _probe_key(cell: Cell) -> list[str | float]:
    return [cell.probe, *([cell.probe_rows] if cell.probe_rows else cell.numbers)]


def _ranked_rows(cell: Cell) -> tuple[int, int] | None:
    """Return the range of ranked rows that have a kept copy.

    It is (first, last + 1), or None where chance decides.
    """
    ranked = _ranked_copies(cell)
    if ranked is None:
        return None
    return ranked[0] // cell.copies, -(-ranked[1] // cell.copies)


def _ranked_copies(cell: Cell) -> tuple[int, int] | None:
    """Return the range of kept positions among the ranked copies, None where chance decides."""
    if not isinstance(cell.policy, BY_RANK):
        return None
    start = _window_start(cell.policy, cell)
    if start is None and cell.kept == cell.volume:
        start = 0
    return None if start is None else (start, start + cell.kept)


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


def _kept_by_chance(
    scores: Floats, cell: Cell, order: Integers, hardest: int
) -> tuple[Integers, Integers]:
    """Keep the `hardest` first copies of the ranking, and a uniform choice of others."""
    whole, part = divmod(hardest, cell.copies)
    scores[order[:whole]] = -1.0
    if part:
        scores[order[whole], :part] = -1.0
    flat = np.argsort(scores.ravel(), kind="stable")[: cell.kept]
    return np.unique(flat // cell.copies, return_counts=True)


@float64
def _kept_by_weight(
    scores: Floats, cell: Cell, margins: Floats, labels: Floats
) -> tuple[Integers, Integers]:
    """Keep copies by chance, each with the policy's weight."""
    policy = cell.policy
    if isinstance(policy, Custom | Steps):
        signed = isinstance(policy, Custom) and policy.variable == "yz"
        field = margins if signed else margins * labels
        weight = np.asarray(policy.weight(jnp.asarray(field)), dtype=np.float64)
    else:
        # The weight of one copy, in the gauge in which the margin is the field.
        theta = jnp.asarray(cell.numbers[0] if cell.probe == FixedAngle.name else np.nan)
        given = (jnp.asarray(cell.keep_fraction), theta, jnp.ones(()))
        noise = () if isinstance(cell.labels, Clean) else (cell.labels.kernel(),)
        weight = np.asarray(policy.kept_weight(*given, *noise)(jnp.asarray(margins)), np.float64)
        if np.any(np.isnan(weight)):
            raise ValueError(
                f"policy {policy.name!r} needs the probe's angle: give the problem a FixedAngle"
            )
    counts = np.sum(scores < weight[:, None], axis=1)
    rows = np.flatnonzero(counts)
    return rows, counts[rows]
