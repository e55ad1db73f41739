"""Student records of many cells: planned, looked up in a cache, solved here or on a cluster."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext

import jax
import numpy as np
from numpy.typing import NDArray

from sims.cache import RecordCache
from sims.cells import Cell
from sims.cluster import Cluster, split
from sims.devices import local_devices, solver_pool
from sims.lanes import on_processor
from sims.limits import (
    GIB,
    default_memory_gb,
    draws_in_flight,
    one_blas_thread,
    processors,
    result_bytes,
)
from sims.parts import Part, draw_families, solve_part
from sims.records import RECORD
from sims.selection import identity, kept_rows, largest_problem
from sims.solvers import SOLVERS, compile_shapes, solve_native
from sims.students import DrawState

__all__ = [
    "SOLVERS",
    "DrawState",
    "compile_ahead",
    "one_blas_thread",
    "processors",
    "simulate_students",
    "solve_native",
]

SMALL = 100  # two threads gain a third at N = 200, nothing at 100 and lose a third at 30

Found = Iterator[tuple[Part, str, NDArray[np.void]]]


def host_threads(dim: int) -> int:
    """Threads worth having on processors: small problems hold Python's lock, and take turns."""
    return processors() if dim > SMALL else 1


def compile_ahead(
    cells: Sequence[Cell],
    dim: int,
    pool: Executor,
    devices: Sequence[jax.Device | None] = (None,),
) -> None:
    """Compile the shapes that are known to come, side by side instead of one by one."""
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
    threads: int | None = None,
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
        threads: solver threads, default one a processor for dim > 100, or one an accelerator; no
            digit depends on it.
        devices: how many local JAX devices solve; by default JAX's default one.
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
    threads = threads or (host_threads(dim) if on_processor() else len(places))
    if scheduler is None:
        for part in parts:
            own = list(part.cells.values())
            draws_in_flight(own, dim, len(part.draws), threads, limit, results)
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

    if scheduler is None:
        found = _solve_here(missing(), dim, seed, solver, limit, results, threads, places)
    else:
        found = _solve_there(missing(), dim, seed, solver, memory_gb, scheduler)
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
    threads: int,
    devices: Sequence[jax.Device | None],
) -> Found:
    """Solve the parts with this process's threads, or with the calling thread if one is asked."""
    alone = threads == 1 and len(devices) == 1
    with one_blas_thread(), nullcontext() if alone else solver_pool(threads, devices) as pool:
        compiled: set[str] = set()
        for part in parts:
            new = [cell for name, cell in part.cells.items() if name not in compiled]
            if new and solver == "native" and pool is not None:
                compile_ahead(new, dim, pool, devices)
                compiled |= set(part.cells)
            for name, records in solve_part(
                part, dim, seed, solver, pool, threads, memory_gb, results
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
        tasks = split(lacking, cluster.threads(), dim)
        for part, records in cluster.solve(tasks, dim, seed, solver, memory_gb):
            for name, row in zip(part.cells, records, strict=True):
                yield part, name, row
