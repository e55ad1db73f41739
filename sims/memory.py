"""What a sweep may use: processors and memory, and how much of it the draws and results take."""

import os
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from sims.cells import Cell, largest_problem
from sims.maxmargin.lanes import lane_count, padded_rows
from sims.results import RECORD

GIB = 2**30
CHUNK_BYTES = 2**29
CHUNK_SIZES = (50, 25, 10, 5, 2, 1)
CALL_COPIES = 4  # of a call's matrices: ours, the device's and the solver's work
OBSERVABLE_BYTES = 160  # a student's observables while they are averaged, and in the dataset

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def processors() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0))


def one_blas_thread() -> threadpool_limits:
    """Return a context in which a matrix factorisation is one thread's work.

    The solves themselves run side by side; BLAS threads beside them spin on a busy machine and
    cost 40 times the arithmetic.
    """
    return threadpool_limits(1, user_api="blas")


def default_memory_gb(cgroup_limits: Sequence[Path] = CGROUP_LIMITS) -> float:
    """Half of the memory that this process may use, in GiB: the machine's or its container's."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in cgroup_limits:
        try:
            size = min(size, int(path.read_text()))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return size / 2 / GIB


def chunk_ranges(distinct: int, dim: int, draws: int) -> list[range]:
    """Draws that are held and cached together: a function of the draw's size alone."""
    size = next((n for n in CHUNK_SIZES if 8 * n * distinct * dim <= CHUNK_BYTES), 1)
    return [range(start, min(start + size, draws)) for start in range(0, draws, size)]


def result_bytes(cells: int, unique: int, draws: int) -> int:
    """Memory of the answer: records of the `unique` cells, and of all of them as a dataset."""
    answer = cells * (RECORD.itemsize + OBSERVABLE_BYTES)
    return draws * (unique * RECORD.itemsize + answer)


def draw_bytes(cells: Sequence[Cell], dim: int) -> int:
    """Memory of one draw that serves all `cells`: its rows, and margins and ranks a probe."""
    rows = max(cell.distinct for cell in cells)
    probe_rows = max(cell.probe_rows for cell in cells)
    ranked = {(cell.probe, cell.distinct) for cell in cells}
    # Labels with the rows; a margin, a rank and a sorted copy a probe; a trained probe's own data.
    return 8 * (rows * (dim + 1) + 3 * sum(count for _, count in ranked) + probe_rows * dim)


def call_bytes(cells: Sequence[Cell], dim: int, draws: int, threads: int) -> int:
    """Return the memory of the largest solver calls of `threads` threads."""
    largest = padded_rows(max(largest_problem(cell) for cell in cells), dim)
    lanes = min(lane_count(largest, dim), draws)
    return threads * lanes * largest * dim * 8 * CALL_COPIES


def draws_in_flight(
    cells: Sequence[Cell], dim: int, draws: int, threads: int, memory_gb: float, results: int
) -> int:
    """How many draws of these cells fit the limit beside the calls that solve them.

    Args:
        cells: cells that share draws.
        dim: N.
        draws: how many draws are wanted, at most.
        threads: solver threads.
        memory_gb: the limit, GiB.
        results: bytes of the answer.

    Raises:
        ValueError: not even one.
    """
    draw = draw_bytes(cells, dim)
    needed = results + call_bytes(cells, dim, draws, threads) + draw
    fit = 1 + int((memory_gb * GIB - needed) // draw)
    if fit < 1:
        rows = max(cell.distinct for cell in cells)
        raise ValueError(
            f"memory_gb = {memory_gb:.3g} is below the {needed / GIB:.3g} GiB that this sweep "
            f"needs with one draw of {rows:.9g} x {dim} at a time, {results / GIB:.3g} GiB of it "
            "for results"
        )
    return fit
