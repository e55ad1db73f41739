"""Computes the student records of many cells, here or on a cluster.

Cells are split into parts, and parts that a cache holds are not solved again.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import lru_cache, partial

import jax
import numpy as np
from numpy.typing import NDArray

from hardset.cache import RecordCache
from hardset.float64 import float64
from sims.cells import Cell, identity, kept_rows, largest_problem
from sims.cluster import Cluster, split_for
from sims.machine import GIB, default_memory_gb, one_blas_thread, processors
from sims.maxmargin.lanes import compile_shapes, on_processor
from sims.memory import draws_in_flight, result_bytes
from sims.results import RECORD
from sims.students import (
    Part,
    draw_families,
    hold_draws,
    most_rows,
    solve_part,
    split,
    total_cost,
    train_cells,
)
from sims.workers import local_devices, solver_pool, spread
from theory.students import MaxMargin

WORTH_SHARING = 2**23  # matrix entries, a second's work; a worker takes two seconds to start
TASK_ENTRIES = 2**21  # of a process: a few tenths of a second
TASKS_PER_PROCESS = 16  # at least, if there is enough to do

Found = Iterator[tuple[Part, str, NDArray[np.void]]]


def compile_ahead(
    cells: Sequence[Cell],
    dim: int,
    pool: Executor,
    devices: Sequence[jax.Device | None] = (None,),
) -> None:
    """Compile the shapes that max-margin students are known to need, side by side."""
    cells = [cell for cell in cells if isinstance(cell.student, MaxMargin)]
    counts = {largest_problem(cell) for cell in cells}
    counts |= {kept for cell in cells if (kept := kept_rows(cell)) is not None}
    compile_shapes(counts, dim, pool, devices)


def simulate_students(
    cells: Sequence[Cell],
    dim: int,
    draws: int,
    seed: int,
    *,
    solver: str = "native",
    memory_gb: float | None = None,
    cache: RecordCache | None = None,
    advance: Callable[[int], object] = lambda count: None,
    processes: int | None = None,
    devices: int | None = None,
    scheduler: str | None = None,
) -> NDArray[np.void]:
    """Train one student for every cell and draw.

    Args:
        cells: what to simulate; cells with equal `identity` share their students.
        dim: N.
        draws: number of draws; draw d is the same whatever the other arguments are.
        seed: of all random numbers.
        solver: a key of SOLVERS.
        memory_gb: limit in GiB for draws, solver and results together; default half of the
            memory. With a scheduler: of the results here, and of each worker.
        cache: finished parts are read from and written to it.
        advance: called with the number of students that were finished.
        processes: how many processes solve, this one included, unless JAX devices do; by default
            one for each processor. Short sweeps stay in this one. No digit depends on it.
        devices: how many local JAX devices solve, with a thread each; by default JAX's default one
            if it is an accelerator.
        scheduler: address of a dask.distributed scheduler whose workers solve.

    Returns:
        Records, shape (len(cells), draws).

    Raises:
        ValueError: the memory limit does not hold one draw, or there are fewer devices.
        OSError: the scheduler does not answer, or the cache cannot be written.
    """
    names = [identity(cell) for cell in cells]
    unique = dict(zip(names, cells, strict=True))
    results = result_bytes(len(cells), len(unique), draws)
    limit = default_memory_gb() if memory_gb is None else memory_gb
    parts = draw_families(unique, dim, draws)
    places = local_devices(devices)
    by_processes = places == [None] and on_processor()
    if scheduler is None:
        for part in parts:
            own = list(part.cells.values())
            draws_in_flight(own, dim, len(part.draws), len(places), limit, results)
    elif results > limit * GIB:
        raise ValueError(
            f"memory_gb = {limit:.3g} is below the {results / GIB:.3g} GiB of the results"
        )
    done = {name: np.empty(draws, RECORD) for name in unique}

    def missing() -> Iterator[Part]:
        for part in parts:
            lacking: dict[str, Cell] = {}
            for name, cell in part.cells.items():
                loaded = cache.load(name, part.draws) if cache else None
                if loaded is None:
                    lacking[name] = cell
                else:
                    done[name][part.draws.start : part.draws.stop] = loaded
                    advance(len(part.draws))
            if lacking:
                yield Part(lacking, part.draws)

    if scheduler is not None:
        found = _solve_there(missing(), dim, seed, solver, memory_gb, scheduler)
    elif by_processes:
        found = _solve_here(missing(), dim, seed, solver, limit, results, processes)
    else:
        found = _solve_on(places, missing(), dim, seed, solver, limit, results)
    try:
        for part, name, records in found:
            done[name][part.draws.start : part.draws.stop] = records
            if cache:
                cache.store(name, part.draws, records)
            advance(len(part.draws))
    finally:
        if cache:
            cache.flush()
    return np.stack([done[name] for name in names])


def _solve_here(
    parts: Iterator[Part],
    dim: int,
    seed: int,
    solver: str,
    memory_gb: float,
    results: int,
    processes: int | None,
) -> Found:
    """Solve the parts in this process, and in others if there is enough to do."""
    lacking = list(parts)
    total = total_cost(lacking, dim)
    count = processes or (processors() if total > WORTH_SHARING else 1)
    # Every process holds draws of its own.
    share = (memory_gb - results / GIB) / count
    count, share = (count, share) if _fits(lacking, dim, share) else (1, count * share)
    limit = min(TASK_ENTRIES, total / (TASKS_PER_PROCESS * count))
    pieces = [list(split(part, dim, limit)) for part in lacking]
    tasks = [
        [partial(solve_piece, piece, most_rows(part), dim, seed, solver, share) for piece in group]
        for part, group in zip(lacking, pieces, strict=True)
    ]
    try:
        with one_blas_thread():
            for (number, position), found in spread(tasks, count):
                for name, records in zip(pieces[number][position].cells, found, strict=True):
                    yield lacking[number], name, records
    finally:
        _held_draws.cache_clear()


def _fits(parts: Sequence[Part], dim: int, memory_gb: float) -> bool:
    """Tell whether one draw of every part fits the memory limit."""
    try:
        for part in parts:
            draws_in_flight(list(part.cells.values()), dim, len(part.draws), 1, memory_gb, 0)
    except ValueError:
        return False
    return True


@float64
def solve_piece(
    piece: Part, rows: int, dim: int, seed: int, solver: str, memory_gb: float
) -> NDArray[np.void]:
    """Solve a piece of a part, and return records of shape (cells, draws).

    The draws of the part have `rows` rows.
    """
    cells = list(piece.cells.values())
    if draws_in_flight(cells, dim, len(piece.draws), 1, memory_gb, 0) < len(piece.draws):
        found = dict(solve_part(piece, dim, seed, solver, None, 1, memory_gb))
    else:
        states = _held_draws(seed, dim, piece.draws, rows)
        found = dict(train_cells(piece.cells, states, solver, None, 1))
    return np.stack([found[name] for name in piece.cells])


# One part is held at a time, since the pieces of a part come one after the other.
_held_draws = lru_cache(maxsize=1)(hold_draws)


def _solve_on(
    devices: Sequence[jax.Device | None],
    parts: Iterator[Part],
    dim: int,
    seed: int,
    solver: str,
    memory_gb: float,
    results: int,
) -> Found:
    """Solve the parts with one thread for each device."""
    with one_blas_thread(), solver_pool(len(devices), devices) as pool:
        compiled: set[str] = set()
        for part in parts:
            new = [cell for name, cell in part.cells.items() if name not in compiled]
            if new and solver == "native":
                compile_ahead(new, dim, pool, devices)
                compiled |= set(part.cells)
            for name, records in solve_part(
                part, dim, seed, solver, pool, len(devices), memory_gb, results
            ):
                yield part, name, records


def _solve_there(
    parts: Iterator[Part],
    dim: int,
    seed: int,
    solver: str,
    memory_gb: float | None,
    scheduler: str,
) -> Found:
    """Solve the parts on the workers of a scheduler."""
    lacking = list(parts)
    if not lacking:
        return
    with Cluster(scheduler) as cluster:
        tasks = split_for(cluster.threads(), lacking, dim)
        for part, records in cluster.solve(tasks, dim, seed, solver, memory_gb):
            for name, row in zip(part.cells, records, strict=True):
                yield part, name, row
