"""Draw, select and train: student records of many cells, streamed over draws."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sims.cache import RecordCache
from sims.cells import Cell
from sims.draws import Draw, draw_rows
from sims.lanes import (
    MAX_LANES,
    Separator,
    compile_shape,
    empty_separator,
    lane_count,
    padded_rows,
    solve_lanes,
)
from sims.maxmargin import MaxMarginStatus
from sims.oracle import OracleError, max_margin_cvxpy
from sims.records import RECORD, ProbeFrame, student_record
from sims.selection import SIGNED, keep_rows, kept_rows, rank_rows
from theory.policies import Custom

__all__ = ["SOLVERS", "compile_ahead", "one_blas_thread", "processors", "simulate_students"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Problem = tuple[Floats, Integers]

CHUNK_DRAWS = 10
CHUNK_BYTES = 2**29
GIB = 2**30
LANE_COPIES = 4  # of a call's matrices: ours, the device's and the solver's work


def solve_native(problems: list[Problem]) -> list[Separator]:
    """The package's own solver, in compiled batches of equal shape."""
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


Solver = Callable[[list[Problem]], list[Separator]]

SOLVERS: dict[str, Solver] = {"native": solve_native, "cvxpy": solve_cvxpy}


class Trained(NamedTuple):
    """A probe of one draw: its frame, its dual variables if in-sample, how its solve ended."""

    frame: ProbeFrame
    dual: Floats | None
    status: int


class DrawState:
    """One draw with its probes and rankings; all cells of the draw share it."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self._probes: dict[tuple[str, float], Trained] = {}
        self._margins: dict[tuple[str, float], Floats] = {}
        self._orders: dict[tuple[tuple[str, float], bool], Integers] = {}

    def train_probe(self, cell: Cell, solve: Solver) -> None:
        """Make the cell's probe; called once per probe before the cells are solved."""
        kind, parameter = cell.probe
        if cell.probe in self._probes:
            return
        draw = self.draw
        if kind == "fixed":
            trained = Trained(ProbeFrame.fixed(draw, parameter), None, MaxMarginStatus.SOLVED)
        else:
            data = draw
            if kind == "independent":
                rows = (draw.seed, draw.dim, draw.number, cell.probe_rows)
                data = draw_rows(*rows, stream="probe")
            found = solve([(data.rows, np.arange(len(data.rows)))])[0]
            dual = found.dual if kind == "in-sample" else None
            trained = Trained(ProbeFrame(draw, found.direction), dual, found.status)
        self._margins[cell.probe] = draw.rows @ trained.frame.probe
        self._probes[cell.probe] = trained

    def probe(self, cell: Cell) -> Trained:
        """The cell's probe."""
        return self._probes[cell.probe]

    def kept(self, cell: Cell) -> Integers:
        """Rows that the cell keeps."""
        margins = self._margins[cell.probe]

        def order() -> Integers:
            key = (cell.probe, isinstance(cell.policy, SIGNED))
            if key not in self._orders:
                self._orders[key] = rank_rows(margins, cell.policy, self.probe(cell).dual)
            return self._orders[key]

        return keep_rows(self.draw, cell, margins, order)


def solve_cell(cell: Cell, states: list[DrawState], solve: Solver) -> NDArray[np.void]:
    """Records of one cell for the given draws, shape (len(states),)."""
    problems = [(state.draw.rows, state.kept(cell)) for state in states]
    records = np.empty(len(states), RECORD)
    for position, (state, problem, found) in enumerate(
        zip(states, problems, solve(problems), strict=True)
    ):
        trained = state.probe(cell)
        records[position] = student_record(
            trained.frame,
            found.direction,
            status=found.status if trained.status == MaxMarginStatus.SOLVED else trained.status,
            kept_count=len(problem[1]),
            support_count=int(np.count_nonzero(found.dual > 0)),
            margin=found.margin,
            bracket=found.bracket,
        )
    return records


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def one_blas_thread() -> threadpool_limits:
    """Context in which a matrix factorisation is one thread's work.

    The solves themselves run side by side; BLAS threads beside them spin on a busy machine and
    cost 40 times the arithmetic.
    """
    return threadpool_limits(1, user_api="blas")


def default_memory_gb() -> float:
    """Half of this machine's memory, in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 / GIB


def chunk_ranges(distinct: int, dim: int, draws: int) -> list[range]:
    """Draws that are cached together: a function of the draw's size, not of the memory limit."""
    size = int(np.clip(CHUNK_BYTES // (8 * distinct * dim), 1, CHUNK_DRAWS))
    return [range(start, min(start + size, draws)) for start in range(0, draws, size)]


def draws_in_flight(cells: list[Cell], dim: int, threads: int, memory_gb: float) -> int:
    """How many draws of these cells fit the limit beside the calls that solve them.

    Raises:
        ValueError: not even one.
    """
    rows = max(max(cell.distinct for cell in cells), max(cell.probe_rows for cell in cells))
    largest = padded_rows(max(largest_problem(cell) for cell in cells), dim)
    draw = 8 * rows * (dim + 2 * len({cell.probe for cell in cells}))
    calls = threads * lane_count(largest, dim) * largest * dim * 8 * LANE_COPIES
    fit = int((memory_gb * GIB - calls) // draw)
    if fit < 1:
        raise ValueError(
            f"memory_gb = {memory_gb:.3g} is below the {(calls + draw) / GIB:.3g} GiB that one "
            f"draw of {rows} x {dim} needs"
        )
    return fit


def largest_problem(cell: Cell) -> int:
    """Most rows that a solve for this cell can have."""
    probe = {"fixed": 0, "independent": cell.probe_rows, "in-sample": cell.distinct}[cell.probe[0]]
    kept = kept_rows(cell)
    if kept is None:
        kept = cell.distinct if isinstance(cell.policy, Custom) else min(cell.kept, cell.distinct)
    return max(kept, probe)


def compile_ahead(cells: list[Cell], dim: int, pool: Executor) -> None:
    """Compile the shapes that are known to come, side by side instead of one by one."""
    counts = {largest_problem(cell) for cell in cells}
    counts |= {kept for cell in cells if (kept := kept_rows(cell)) is not None}
    shapes = sorted({(padded_rows(count, dim), dim) for count in counts}, reverse=True)
    list(pool.map(compile_shape, shapes))


def simulate_students(
    cells: list[Cell],
    dim: int,
    draws: int,
    seed: int,
    *,
    solver: str = "native",
    memory_gb: float | None = None,
    cache: RecordCache | None = None,
    advance: Callable[[int], object] = lambda count: None,
    threads: int | None = None,
) -> NDArray[np.void]:
    """Train one student for every cell and draw.

    Args:
        cells: what to simulate; cells with equal `identity` share their students.
        dim: N.
        draws: number of draws; draw d is the same whatever the other arguments are.
        seed: of all random numbers.
        solver: a key of SOLVERS.
        memory_gb: limit in GiB for draws and solver together; default half of the memory.
        cache: finished parts are read from and written to it.
        advance: called with the number of students that were finished.
        threads: solver threads, default one a processor; no digit depends on it.

    Returns:
        Records, shape (len(cells), draws).

    Raises:
        ValueError: the memory limit does not hold one draw.
    """
    threads = threads or processors()
    memory_gb = default_memory_gb() if memory_gb is None else memory_gb
    unique = {cell.identity(): cell for cell in cells}
    groups: dict[int, dict[str, Cell]] = {}
    for identity, cell in unique.items():
        groups.setdefault(cell.distinct, {})[identity] = cell
    in_flight = {
        distinct: draws_in_flight(list(group.values()), dim, threads, memory_gb)
        for distinct, group in groups.items()
    }
    done = {identity: np.empty(draws, RECORD) for identity in unique}
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        compiled: set[str] = set()
        for distinct, chunk in _chunks(groups, dim, draws):
            missing: dict[str, Cell] = {}
            for identity, cell in groups[distinct].items():
                loaded = cache.load(identity, chunk) if cache else None
                if loaded is None:
                    missing[identity] = cell
                else:
                    done[identity][chunk.start : chunk.stop] = loaded
                    advance(len(chunk))
            new = [cell for identity, cell in missing.items() if identity not in compiled]
            if new and solver == "native":
                compile_ahead(new, dim, pool)
                compiled |= set(missing)
            size = min(in_flight[distinct], len(chunk))
            for start in range(chunk.start, chunk.stop, size):
                part = range(start, min(start + size, chunk.stop))
                found = _solve_part(missing, dim, seed, part, SOLVERS[solver], pool)
                for identity, records in found:
                    done[identity][part.start : part.stop] = records
                    advance(len(part))
                    if cache and part.stop == chunk.stop:
                        cache.store(identity, chunk, done[identity][chunk.start : chunk.stop])
    return np.stack([done[cell.identity()] for cell in cells])


def _chunks(
    groups: dict[int, dict[str, Cell]], dim: int, draws: int
) -> Iterator[tuple[int, range]]:
    for distinct in sorted(groups):
        for chunk in chunk_ranges(distinct, dim, draws):
            yield distinct, chunk


def _solve_part(
    cells: dict[str, Cell], dim: int, seed: int, part: range, solve: Solver, pool: Executor
) -> Iterator[tuple[str, NDArray[np.void]]]:
    """Yield the records of each cell for the draws of `part`, as soon as they are complete."""
    if not cells:
        return
    distinct = next(iter(cells.values())).distinct
    probes = {cell.probe: cell for cell in cells.values()}

    def prepare(number: int) -> DrawState:
        state = DrawState(draw_rows(seed, dim, number, distinct))
        for cell in probes.values():
            state.train_probe(cell, solve)
        return state

    states = list(pool.map(prepare, part))
    futures = {
        identity: [
            pool.submit(solve_cell, cell, states[start : start + MAX_LANES], solve)
            for start in range(0, len(states), MAX_LANES)
        ]
        for identity, cell in cells.items()
    }
    try:
        for identity, parts in futures.items():
            yield identity, np.concatenate([future.result() for future in parts])
    finally:
        for parts in futures.values():
            for future in parts:
                future.cancel()
