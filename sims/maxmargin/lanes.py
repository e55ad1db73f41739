"""Finds max-margin separators of many row subsets at once.

On a processor the batch goes through LAPACK, which compiles nothing. The compiled solver takes the
rare problems that are left open there. On an accelerator the compiled solver takes all problems, in
fixed shapes, so that a sweep compiles few of them. The reference solver is cvxpy with Clarabel.
"""

import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike, NDArray

from hardset.float64 import float64
from sims.maxmargin.exact import Separator
from sims.maxmargin.host import solve_on_host
from sims.maxmargin.solver import MaxMarginResult, MaxMarginStatus, max_margin

Floats = NDArray[np.float64]
# A problem consists of label-signed rows, and the places of those that belong to it.
Problem = tuple[Floats, NDArray[np.int64]]
Solver = Callable[[list[Problem]], list[Separator]]
Key = tuple[str, int, int, int]

SMALLEST = 16
MAX_LANES = 50
LANE_ENTRIES = 2**22  # matrix entries that one call carries at most, unless one lane needs more
# Tolerances that the reference solver is asked for, and that are accepted from it.
TOLERANCE = 1e-12
ACCEPTED = 1e-10
# Clarabel's tolerances are partly absolute, so the unit of the rows matters. Their typical norm
# keeps all digits. With small margins (norm(w) >> 1) Clarabel may fail there and succeed in a
# smaller unit.
UNITS = (1.0, 1e-2, 1e-4)


def shape_of(count: int, dim: int) -> int:
    """Return the smallest power of two that holds `count` rows.

    It is at least 16 and dim / 4.
    """
    # Few rows are cheap beside compiling another shape for them.
    least = max(count, SMALLEST, dim // 4)
    return 1 << (least - 1).bit_length()


def default_device() -> Any:
    """Return this thread's default device, or None if JAX is to choose."""
    return jax.config.jax_default_device  # type: ignore[attr-defined]


def _one_lane(matrices: Array, masks: Array) -> MaxMarginResult:
    found: MaxMarginResult = jax.tree.map(
        lambda leaf: leaf[None], max_margin(matrices[0], masks[0])
    )
    return found


class _Executables:
    """The compiled calls by shape.

    Threads that need the same call wait for one compilation.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shape_locks: dict[Key, threading.Lock] = {}
        self._compiled: dict[Key, jax.stages.Compiled] = {}

    def get(self, lanes: int, padded: int, dim: int) -> jax.stages.Compiled:
        shape = (lanes, padded, dim)
        # A compiled call stays on the device that was the thread's default when it was compiled.
        key = (str(default_device()), *shape)
        with self._lock:
            shape_lock = self._shape_locks.setdefault(key, threading.Lock())
        with shape_lock:
            if key not in self._compiled:
                matrices = jax.ShapeDtypeStruct(shape, jnp.float64)  # type: ignore[no-untyped-call]
                masks = jax.ShapeDtypeStruct(shape[:2], bool)  # type: ignore[no-untyped-call]
                # Under vmap a branch that no lane takes is computed all the same.
                solve = jax.vmap(max_margin) if lanes > 1 else _one_lane
                self._compiled[key] = jax.jit(solve).lower(matrices, masks).compile()
            return self._compiled[key]


_EXECUTABLES = _Executables()


@float64
def compile_on_device(lanes: int, padded: int, dim: int) -> None:
    """Compile the call for `lanes` problems of `padded` rows, once in a process."""
    _EXECUTABLES.get(lanes, padded, dim)


@float64
def solve_on_device(matrices: list[Floats], lanes: int) -> MaxMarginResult:
    """Solve at most `lanes` problems of one shape by the compiled solver.

    They are matrices (P, N) of rows whose `shape_of` is the same.

    Returns:
        The results, with a leading axis of lanes; `dual` and `support` are padded.
    """
    count, dim = matrices[0].shape
    padded = shape_of(count, dim)
    batch = np.zeros((lanes, padded, dim))
    mask = np.zeros((lanes, padded), bool)
    for lane, matrix in enumerate(matrices):
        batch[lane, : len(matrix)] = matrix
        mask[lane, : len(matrix)] = True
    found: MaxMarginResult = _EXECUTABLES.get(lanes, padded, dim)(batch, mask)
    return found


def on_processor() -> bool:
    """Tell whether this thread's solves run on the processor.

    They do where JAX's default device is no accelerator.
    """
    device = default_device()
    platform = jax.default_backend() if device is None else getattr(device, "platform", device)
    return bool(platform == "cpu")


def padded_rows(count: int, dim: int) -> int:
    """Return the rows of the call that solves for `count` of them.

    On a processor nothing is padded.
    """
    return count if on_processor() else shape_of(count, dim)


def lane_count(padded: int, dim: int) -> int:
    """Return the number of lanes of one call, by the lane's shape alone."""
    return int(np.clip(LANE_ENTRIES // (padded * dim), 1, MAX_LANES))


def compile_shape(shape: tuple[int, int]) -> None:
    """Compile the call for a shape, once in a process.

    The shape is (padded rows, N). Nothing happens where no call needs it.
    """
    if not on_processor():
        compile_on_device(lane_count(*shape), *shape)


def solve_lanes(problems: Sequence[Problem]) -> list[Separator]:
    """Find the max-margin separators of several row subsets.

    Args:
        problems: pairs (rows, index): the matrix rows[index] of label-signed rows, same N for
            all. At most `lane_count` problems, all of the same `padded_rows(len(index), N)`.

    Returns:
        One separator for each problem, in order. Its digits do not depend on the others.
    """
    rows, index = problems[0]
    count, dim = len(index), rows.shape[1]
    if not on_processor():
        matrices = [rows.take(index, axis=0) for rows, index in problems]
        return _compiled(matrices, lane_count(shape_of(count, dim), dim))
    batch = np.empty((len(problems), count, dim))
    for (rows, index), out in zip(problems, batch, strict=True):
        # Any mode but the default one spares a copy.
        rows.take(index, axis=0, out=out, mode="clip")
    return [
        found or _compiled([matrix], 1)[0]
        for matrix, found in zip(batch, solve_on_host(batch), strict=True)
    ]


def _compiled(matrices: list[Floats], lanes: int) -> list[Separator]:
    found = solve_on_device(matrices, lanes)
    return [
        Separator(
            np.asarray(found.direction[lane]),
            float(found.margin[lane]),
            float(found.bracket[lane]),
            np.asarray(found.dual[lane, : len(matrix)]),
            int(found.status[lane]),
        )
        for lane, matrix in enumerate(matrices)
    ]


def empty_separator(dim: int) -> Separator:
    """Return the result for no row at all."""
    return Separator(np.zeros(dim), np.nan, np.nan, np.empty(0), int(MaxMarginStatus.EMPTY))


class OracleError(RuntimeError):
    """The reference solver did not reach its tolerance."""


def max_margin_cvxpy(features: ArrayLike) -> tuple[Floats, float, Floats]:
    """Solve min norm(w)^2 / 2 subject to A w >= 1 by Clarabel.

    It is the reference solver.

    Args:
        features: A, shape (P, N): rows y x, labels already multiplied in.

    Returns:
        Unit direction (N,), margin min(A w) of it, and the dual u >= 0 (P,), normalised to sum 1.

    Raises:
        ValueError: if `features` is not a finite matrix with at least one row.
        OracleError: if Clarabel fails, or the rows are not separable.
    """
    matrix = np.asarray(features, np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape or not np.all(np.isfinite(matrix)):
        raise ValueError(
            f"features has shape {matrix.shape}; it must be (P, N), P >= 1, N >= 1, all finite"
        )
    # A third of the package's start-up time; nothing else needs it.
    import cvxpy as cp

    norms = np.sqrt(np.mean(np.sum(matrix**2, axis=1)))
    if norms == 0.0:
        raise OracleError("every row is zero: nothing separates them")
    failure = ""
    for units in UNITS:
        try:
            weights, dual = _clarabel(matrix / (units * norms))
        except cp.error.SolverError as error:
            failure = str(error).split(".")[0]
            continue
        direction = weights / np.linalg.norm(weights)
        return direction, float(np.min(matrix @ direction)), dual / np.sum(dual)
    raise OracleError(f"Clarabel failed in every unit of the rows tried: {failure}")


def _clarabel(matrix: Floats) -> tuple[Floats, Floats]:
    import cvxpy as cp
    from cvxpy.atoms.sum_squares import sum_squares

    weights: Any = cp.Variable(matrix.shape[1])
    constraint: Any = matrix @ weights >= 1.0
    problem: Any = cp.Problem(cp.Minimize(0.5 * sum_squares(weights)), [constraint])
    tolerances = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), TOLERANCE)
    # Rounding may end Clarabel's progress just above 1e-12; 1e-10 is still accepted.
    reduced = {f"reduced_{name}": ACCEPTED for name in tolerances}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        problem.solve(solver=cp.CLARABEL, **tolerances, **reduced)
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise OracleError(f"Clarabel ended with status {problem.status!r}, not with an optimum")
    return np.asarray(weights.value), np.maximum(constraint.dual_value, 0.0)


def solve_native(problems: list[Problem]) -> list[Separator]:
    """Solve by the package's own methods, in batches of equal shape."""
    dim = problems[0][0].shape[1]
    solved: list[Separator | None] = [None] * len(problems)
    shapes: dict[int, list[int]] = {}
    padded_to = {count: padded_rows(count, dim) for count in {len(index) for _, index in problems}}
    for position, (_, index) in enumerate(problems):
        if len(index):
            shapes.setdefault(padded_to[len(index)], []).append(position)
        else:
            solved[position] = empty_separator(dim)
    for padded, positions in shapes.items():
        lanes = lane_count(padded, dim)
        for start in range(0, len(positions), lanes):
            part = positions[start : start + lanes]
            for position, found in zip(part, solve_lanes([problems[p] for p in part]), strict=True):
                solved[position] = found
    return [one for one in solved if one is not None]


def solve_cvxpy(problems: list[Problem]) -> list[Separator]:
    """Solve by the reference solver, one problem at a time."""
    return [_solve_one_cvxpy(rows[index]) for rows, index in problems]


def _solve_one_cvxpy(matrix: Floats) -> Separator:
    if not len(matrix):
        return empty_separator(matrix.shape[1])
    try:
        direction, margin, dual = max_margin_cvxpy(matrix)
    except OracleError:
        return empty_separator(matrix.shape[1])._replace(status=int(MaxMarginStatus.STALLED))
    # An interior point leaves a little weight on every row; support vectors stand far above it.
    dual = np.where(dual > 1e-7 * np.max(dual), dual, 0.0)
    bracket = 1 - margin * float(np.sum(dual) / np.linalg.norm(dual @ matrix))
    return Separator(direction, margin, bracket, dual)


SOLVERS: dict[str, Solver] = {"native": solve_native, "cvxpy": solve_cvxpy}


def solver_edition(name: str) -> str:
    """Return the edition of a solver, on which its digits depend.

    A cache keeps the records of different editions apart.
    """
    return f"native 2, DAQP {version('daqp')}" if name == "native" else name


def compile_shapes(
    counts: Iterable[int], dim: int, pool: Executor, devices: Iterable[jax.Device | None] = (None,)
) -> None:
    """Compile the calls for these numbers of rows side by side."""
    shapes = sorted({(padded_rows(count, dim), dim) for count in counts}, reverse=True)

    def compile_on(device: jax.Device | None, shape: tuple[int, int]) -> None:
        with nullcontext() if device is None else jax.default_device(device):
            compile_shape(shape)

    for future in [pool.submit(compile_on, d, shape) for shape in shapes for d in devices]:
        future.result()
