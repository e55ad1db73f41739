"""Says how much memory a sweep needs, and how many draws fit at a time."""

from collections.abc import Sequence

from sims.cells import Cell, examples_name, largest_problem, probe_name
from sims.fitting import erm_lanes, erm_rows
from sims.machine import GIB
from sims.maxmargin.lanes import lane_count, padded_rows
from sims.results import RECORD
from theory.students import ERM

CHUNK_BYTES = 2**29
CHUNK_SIZES = (50, 25, 10, 5, 2, 1)
# Copies of a call's matrices: label-signed rows, our batch, the device's and the solver's work.
CALL_COPIES = 5
OBSERVABLE_BYTES = 160  # for a student's observables while they are averaged, and in the dataset


def chunk_ranges(distinct: int, dim: int, draws: int) -> list[range]:
    """Split draws into ranges that are held and cached together.

    The ranges depend on the size of a draw alone.
    """
    size = next((n for n in CHUNK_SIZES if 8 * n * distinct * dim <= CHUNK_BYTES), 1)
    return [range(start, min(start + size, draws)) for start in range(0, draws, size)]


def result_bytes(cells: int, unique: int, draws: int) -> int:
    """Return the bytes of a sweep's answer.

    It consists of the records of the `unique` cells and of a dataset of all cells.
    """
    answer = cells * (RECORD.itemsize + OBSERVABLE_BYTES)
    return draws * (unique * RECORD.itemsize + answer)


def draw_bytes(cells: Sequence[Cell], dim: int) -> int:
    """Return the bytes of one draw that serves all `cells`.

    It has rows, and for each probe margins and ranks.
    """
    rows = max(cell.distinct for cell in cells)
    probe_rows = max(cell.probe_rows for cell in cells)
    channels = {examples_name(cell) for cell in cells}
    ranked = {(probe_name(cell), cell.distinct) for cell in cells}
    # The rows with their labels, those of each channel; for each probe a margin, a rank and a
    # sorted copy of each row; and the own data of a trained probe.
    ranks = 3 * sum(count for _, count in ranked)
    return 8 * (rows * (dim + len(channels)) + ranks + probe_rows * dim)


def call_bytes(cells: Sequence[Cell], dim: int, draws: int, threads: int) -> int:
    """Return the bytes of the largest solver calls of `threads` threads."""
    most = 0
    for cell in cells:
        if isinstance(cell.student, ERM):
            padded = erm_rows(largest_problem(cell))
            lanes = erm_lanes(padded, dim)
        else:
            padded = padded_rows(largest_problem(cell), dim)
            lanes = min(lane_count(padded, dim), draws)
        most = max(most, lanes * padded)
    return threads * most * dim * 8 * CALL_COPIES


def draws_in_flight(
    cells: Sequence[Cell], dim: int, draws: int, threads: int, memory_gb: float, results: int
) -> int:
    """Return how many draws of these cells fit the memory limit.

    The calls that solve them and the answer need room beside them.

    Args:
        cells: cells that share draws.
        dim: N.
        draws: how many draws are wanted, at most.
        threads: solver threads.
        memory_gb: the limit, GiB.
        results: bytes of the answer.

    Raises:
        ValueError: not even one draw fits.
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
