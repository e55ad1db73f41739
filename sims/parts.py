"""Parts of a sweep: cells that share draws, for a range of draws, solved side by side."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sims.cells import Cell
from sims.devices import in_order
from sims.draws import draw_rows
from sims.lanes import lane_count, padded_rows
from sims.limits import chunk_ranges, draws_in_flight
from sims.selection import largest_problem, rows_key
from sims.solvers import SOLVERS
from sims.students import DrawState, train_students

__all__ = ["Part", "draw_families", "solve_part"]


@dataclasses.dataclass(frozen=True)
class Part:
    """Cells by identity, and the draws for which they are simulated together."""

    cells: dict[str, Cell]
    draws: range


def draw_families(cells: dict[str, Cell], dim: int, draws: int) -> list[Part]:
    """All (cell, draw) pairs as parts whose cells share draws.

    A draw of few rows is the beginning of one of many: cells share it where equally many draws
    are held together, so that the parts of a cell do not depend on the other cells.
    """
    families: dict[tuple[range, ...], dict[str, Cell]] = {}
    for name, cell in sorted(cells.items(), key=lambda item: item[1].distinct):
        chunks = tuple(chunk_ranges(cell.distinct, dim, draws))
        families.setdefault(chunks, {})[name] = cell
    return [Part(family, chunk) for chunks, family in families.items() for chunk in chunks]


def solve_part(
    part: Part,
    dim: int,
    seed: int,
    solver: str,
    pool: Executor | None,
    threads: int,
    memory_gb: float,
    results: int = 0,
) -> Iterator[tuple[str, NDArray[np.void]]]:
    """Yield the records of each cell, shape (len(draws),), as soon as they are complete.

    Args:
        part: what to solve.
        dim: N.
        seed: of all random numbers.
        solver: a key of SOLVERS.
        pool: solver threads, or None for the calling one.
        threads: how many they are.
        memory_gb: limit in GiB.
        results: bytes of it that the sweep's answer takes.

    Raises:
        ValueError: the memory limit does not hold one draw.
    """
    cells = list(part.cells.values())
    size = draws_in_flight(cells, dim, len(part.draws), threads, memory_gb, results)
    blocks = [part.draws[start : start + size] for start in range(0, len(part.draws), size)]
    if len(blocks) == 1:
        yield from _solve_block(part, dim, seed, solver, pool, threads)
        return
    found: dict[str, list[NDArray[np.void]]] = {name: [] for name in part.cells}
    for block in blocks:
        piece = Part(part.cells, block)
        for name, records in _solve_block(piece, dim, seed, solver, pool, threads):
            found[name].append(records)
    for name, pieces in found.items():
        yield name, np.concatenate(pieces)


def _solve_block(
    part: Part, dim: int, seed: int, solver: str, pool: Executor | None, threads: int
) -> Iterator[tuple[str, NDArray[np.void]]]:
    solve = SOLVERS[solver]
    rows = max(cell.distinct for cell in part.cells.values())
    probes = {(cell.probe, cell.probe_rows, cell.distinct): cell for cell in part.cells.values()}

    def prepare(number: int) -> DrawState:
        state = DrawState(draw_rows(seed, dim, number, rows))
        for cell in probes.values():
            state.train_probe(cell, solve)
        return state

    states = list(in_order(pool, [partial(prepare, number) for number in part.draws]))
    jobs: dict[str, list[str]] = {}
    for name, cell in part.cells.items():
        jobs.setdefault(rows_key(cell), []).append(name)
    # The longest first: the threads end together.
    order = sorted(jobs.values(), key=lambda names: -largest_problem(part.cells[names[0]]))
    share = -(-len(states) * len(order) // (2 * threads))  # no thread waits for a long call
    calls = []
    for names in order:
        shared = [part.cells[name] for name in names]
        lanes = min(lane_count(padded_rows(largest_problem(shared[0]), dim), dim), share)
        for start in range(0, len(states), lanes):
            calls.append(partial(train_students, shared, states[start : start + lanes], solve))
    found = in_order(pool, calls)
    for names in order:
        pieces: list[NDArray[np.void]] = []
        while sum(piece.shape[1] for piece in pieces) < len(states):
            pieces.append(next(found))
        yield from zip(names, np.concatenate(pieces, axis=1), strict=True)
