"""Solvers of a list of max-margin problems, by name."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import nullcontext

import jax
import numpy as np
from numpy.typing import NDArray

from sims.lanes import (
    Separator,
    compile_shape,
    empty_separator,
    lane_count,
    padded_rows,
    solve_lanes,
)
from sims.maxmargin import MaxMarginStatus

__all__ = ["SOLVERS", "Solver", "compile_shapes", "solve_native"]

Floats = NDArray[np.float64]
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
    from sims.oracle import OracleError, max_margin_cvxpy

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
