"""Max-margin solves of many row subsets at once.

On a processor the batch goes through LAPACK, which compiles nothing; the compiled solver takes the
rare problems which that leaves open. On an accelerator all of them are the compiled solver's, in
fixed shapes, so that a sweep compiles few of them.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from hardset.float64 import float64
from sims.maxmargin.host import solve_on_host
from sims.maxmargin.solver import MaxMarginResult, MaxMarginStatus, max_margin

Floats = NDArray[np.float64]

SMALLEST = 16

Key = tuple[str, int, int, int]


def shape_of(count: int, dim: int) -> int:
    """Smallest power of two that holds `count` rows, and at least 16 and dim / 4."""
    # Few rows are cheap beside compiling another shape for them.
    least = max(count, SMALLEST, dim // 4)
    return 1 << (least - 1).bit_length()


def default_device() -> Any:
    """This thread's default device, None if JAX is to choose."""
    return jax.config.jax_default_device  # type: ignore[attr-defined]


def _one_lane(matrices: Array, masks: Array) -> MaxMarginResult:
    found: MaxMarginResult = jax.tree.map(
        lambda leaf: leaf[None], max_margin(matrices[0], masks[0])
    )
    return found


class _Executables:
    """Compiled calls by shape; threads that need the same one wait for one compilation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shape_locks: dict[Key, threading.Lock] = {}
        self._compiled: dict[Key, jax.stages.Compiled] = {}

    def get(self, lanes: int, padded: int, dim: int) -> jax.stages.Compiled:
        shape = (lanes, padded, dim)
        # What is compiled stays on the device that was the thread's default then.
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
    """Compile the call for `lanes` problems of `padded` rows, once a process."""
    _EXECUTABLES.get(lanes, padded, dim)


@float64
def solve_on_device(matrices: list[Floats], lanes: int) -> MaxMarginResult:
    """Solve for the rows of at most `lanes` matrices (P, N) whose `shape_of` is one.

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


MAX_LANES = 50
LANE_ENTRIES = 2**22  # matrix entries that one call carries at most, unless one lane needs more


class Separator(NamedTuple):
    """One solved lane on the host; `dual` has one entry a row."""

    direction: Floats
    margin: float
    bracket: float
    dual: Floats
    status: int


def on_processor() -> bool:
    """Whether this thread's solves run on the processor: where JAX's default is no accelerator."""
    device = default_device()
    platform = jax.default_backend() if device is None else getattr(device, "platform", device)
    return bool(platform == "cpu")


def padded_rows(count: int, dim: int) -> int:
    """Rows of the call that solves for `count` of them: no more on a processor."""
    return count if on_processor() else shape_of(count, dim)


def lane_count(padded: int, dim: int) -> int:
    """Lanes of one call: a function of the lane's shape only."""
    return int(np.clip(LANE_ENTRIES // (padded * dim), 1, MAX_LANES))


def compile_shape(shape: tuple[int, int]) -> None:
    """Compile the call for `shape` = (padded rows, N), once a process, where one is needed."""
    if not on_processor():
        compile_on_device(lane_count(*shape), *shape)


def solve_lanes(
    problems: Sequence[tuple[Floats, NDArray[np.int64]]],
) -> list[Separator]:
    """Max-margin separators of several row subsets.

    Args:
        problems: pairs (rows, index): the matrix rows[index] of label-signed rows, same N for
            all. At most `lane_count` problems, all of the same `padded_rows(len(index), N)`.

    Returns:
        One separator a problem, in order; a problem's digits do not depend on the others.
    """
    matrices = [rows.take(index, axis=0) for rows, index in problems]
    if not on_processor():
        count, dim = matrices[0].shape
        return _compiled(matrices, lane_count(shape_of(count, dim), dim))
    solved = []
    for matrix, found in zip(matrices, solve_on_host(matrices), strict=True):
        if found is None:
            solved += _compiled([matrix], 1)
            continue
        dual = np.zeros(len(matrix))
        dual[found.support] = found.dual
        status = int(MaxMarginStatus.SOLVED)
        solved.append(Separator(found.direction, found.margin, found.bracket, dual, status))
    return solved


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
    """The result for no row at all."""
    return Separator(np.zeros(dim), np.nan, np.nan, np.empty(0), int(MaxMarginStatus.EMPTY))


Problem = tuple[Floats, NDArray[np.int64]]
Solver = Callable[[list[Problem]], list[Separator]]


def solve_native(problems: list[Problem]) -> list[Separator]:
    """The package's own solver, in batches of equal shape."""
    dim = problems[0][0].shape[1]
    solved: list[Separator | None] = [None] * len(problems)
    shapes: dict[int, list[int]] = {}
    for position, (_, index) in enumerate(problems):
        if len(index):
            shapes.setdefault(padded_rows(len(index), dim), []).append(position)
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
    """The reference solver, one problem at a time."""
    return [_solve_one_cvxpy(rows[index]) for rows, index in problems]


def _solve_one_cvxpy(matrix: Floats) -> Separator:
    # A third of the package's start-up time; nothing else needs it.
    from sims.maxmargin.oracle import OracleError, max_margin_cvxpy

    if not len(matrix):
        return empty_separator(matrix.shape[1])
    try:
        direction, margin, dual = max_margin_cvxpy(matrix)
    except OracleError:
        return empty_separator(matrix.shape[1])._replace(status=int(MaxMarginStatus.STALLED))
    # An interior point leaves a little weight on every row; support vectors stand far above it.
    dual = np.where(dual > 1e-7 * np.max(dual), dual, 0.0)
    bracket = 1 - margin * float(np.sum(dual) / np.linalg.norm(dual @ matrix))
    return Separator(direction, margin, bracket, dual, int(MaxMarginStatus.SOLVED))


SOLVERS: dict[str, Solver] = {"native": solve_native, "cvxpy": solve_cvxpy}


def compile_shapes(
    counts: Iterable[int], dim: int, pool: Executor, devices: Iterable[jax.Device | None] = (None,)
) -> None:
    """Compile the calls for these numbers of rows, side by side instead of one by one."""
    shapes = sorted({(padded_rows(count, dim), dim) for count in counts}, reverse=True)

    def compile_on(device: jax.Device | None, shape: tuple[int, int]) -> None:
        with nullcontext() if device is None else jax.default_device(device):
            compile_shape(shape)

    for future in [pool.submit(compile_on, d, shape) for shape in shapes for d in devices]:
        future.result()
