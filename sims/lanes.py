"""Max-margin solves of many row subsets at once.

On a processor the batch goes through LAPACK, which compiles nothing; the compiled solver takes the
rare problems which that leaves open. On an accelerator all of them are the compiled solver's, in
fixed shapes, so that a sweep compiles few of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from sims._maxmargin_device import (
    compile_on_device,
    default_device,
    shape_of,
    solve_on_device,
)
from sims._maxmargin_host import solve_on_host
from sims.maxmargin import MaxMarginStatus

__all__ = [
    "MAX_LANES",
    "Separator",
    "compile_shape",
    "empty_separator",
    "lane_count",
    "padded_rows",
    "solve_lanes",
]

Floats = NDArray[np.float64]

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
