"""Trains the students of cells that share draws, side by side.

It trains probes, selects examples, trains students, and makes their records.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sims.cells import Cell, largest_problem, probe_name, student_key
from sims.draws import draw_rows
from sims.fitting import fit
from sims.maxmargin.lanes import SOLVERS, Solver, lane_count, padded_rows
from sims.maxmargin.solver import MaxMarginStatus
from sims.memory import chunk_ranges, draws_in_flight
from sims.probes import DrawState
from sims.results import student_records
from sims.workers import in_order

STUDENT_ENTRIES = 2000  # what a student costs besides its matrix, in matrix entries


def train_students(
    cells: Sequence[Cell], states: Sequence[DrawState], solve: Solver
) -> NDArray[np.void]:
    """Train the students of cells that keep the same rows, and return their records.

    The records have the shape (len(cells), len(states)).
    """
    examples = [state.examples(cells[0]) for state in states]
    kept = [(own, *state.kept(cells[0])) for own, state in zip(examples, states, strict=True)]
    found = fit(cells[0].student, kept, solve)
    # All have the same covariance.
    directions, stretch = examples[0].whitened(np.stack([one.direction for one in found]))
    length = np.array([one.length for one in found])
    records = []
    for cell in cells:
        probes = [state.probe(cell) for state in states]
        row = student_records([probe.frame for probe in probes], directions)
        solved = [probe.status == MaxMarginStatus.SOLVED for probe in probes]
        status = [one.status for one in found]
        row["status"] = np.where(solved, status, [probe.status for probe in probes])
        row["kept_count"] = [len(rows) for _, rows, _ in kept]
        row["support_count"] = [np.count_nonzero(one.dual > 0) for one in found]
        row["margin"] = [
            one.margin / one_stretch for one, one_stretch in zip(found, stretch, strict=True)
        ]
        row["bracket"] = [one.bracket for one in found]
        row["norm"] = length * stretch
        row["weight_norm2"] = length**2
        row["training_loss"] = [one.loss for one in found]
        row["training_error"] = [one.wrong for one in found]
        records.append(row)
    return np.stack(records)


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a sweep: cells by identity, and the draws that they share."""

    cells: dict[str, Cell]
    draws: range


def draw_families(cells: dict[str, Cell], dim: int, draws: int) -> list[Part]:
    """Split a sweep into parts whose cells share draws.

    All pairs of a cell and a draw are covered. A draw of few rows is the beginning of one of many
    rows. Cells share it where equally many draws are held together, so that the draws of a cell's
    parts do not depend on the other cells.
    """
    families: dict[tuple[range, ...], dict[str, Cell]] = {}
    for name, cell in sorted(cells.items(), key=lambda item: item[1].distinct):
        chunks = tuple(chunk_ranges(cell.distinct, dim, draws))
        families.setdefault(chunks, {})[name] = cell
    return [Part(family, chunk) for chunks, family in families.items() for chunk in chunks]


def split(part: Part, dim: int, limit: float) -> Iterator[Part]:
    """Split a part into smaller ones that cost at most `limit`, the longest first.

    A part that trains one student per draw is not split, whatever it costs.
    Cells that keep the same rows share their students and stay together.
    """
    cells: dict[str, Cell] = {}
    spent = 0.0
    for names in _jobs(part.cells):
        spent += cost(part.cells[names[0]], part.draws, dim)
        if cells and spent > limit:
            yield Part(cells, part.draws)
            cells, spent = {}, cost(part.cells[names[0]], part.draws, dim)
        cells |= {name: part.cells[name] for name in names}
    if cells:
        yield Part(cells, part.draws)


def cost(cell: Cell, draws: range, dim: int) -> float:
    """Return the cost of a cell's students, in matrix entries.

    About ten million entries are solved in a second.
    """
    return float(len(draws) * (largest_problem(cell) * dim + STUDENT_ENTRIES))


def total_cost(parts: Iterable[Part], dim: int) -> float:
    """Return the cost of the students of all parts, in the unit of `cost`."""
    return sum(
        cost(part.cells[names[0]], part.draws, dim) for part in parts for names in _jobs(part.cells)
    )


def _jobs(cells: dict[str, Cell]) -> list[list[str]]:
    """Group the names of cells that keep the same rows, the most rows first."""
    jobs: dict[str, list[str]] = {}
    for name, cell in cells.items():
        jobs.setdefault(student_key(cell), []).append(name)
    return sorted(jobs.values(), key=lambda names: -largest_problem(cells[names[0]]))


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
    """Yield the records of each cell of a part as soon as they are complete.

    They have the shape (len(draws),).

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
    rows = most_rows(part)
    if len(blocks) == 1:
        states = hold_draws(seed, dim, part.draws, rows, pool)
        yield from train_cells(part.cells, states, solver, pool, threads)
        return
    found: dict[str, list[NDArray[np.void]]] = {name: [] for name in part.cells}
    for block in blocks:
        states = hold_draws(seed, dim, block, rows, pool)
        for name, records in train_cells(part.cells, states, solver, pool, threads):
            found[name].append(records)
    for name, pieces in found.items():
        yield name, np.concatenate(pieces)


def most_rows(part: Part) -> int:
    """Return the rows that a draw must have to serve all cells."""
    return max(cell.distinct for cell in part.cells.values())


def hold_draws(
    seed: int, dim: int, draws: range, rows: int, pool: Executor | None = None
) -> list[DrawState]:
    """Draw the data of several draws, with `rows` rows each.

    The answer has room for the probes of the cells.
    """

    def hold(number: int) -> DrawState:
        return DrawState(draw_rows(seed, dim, number, rows))

    return list(in_order(pool, [partial(hold, number) for number in draws]))


def train_cells(
    cells: dict[str, Cell],
    states: list[DrawState],
    solver: str,
    pool: Executor | None,
    threads: int,
) -> Iterator[tuple[str, NDArray[np.void]]]:
    """Yield the records of each cell on held draws as soon as they are complete.

    They have the shape (len(states),).
    """
    solve = SOLVERS[solver]
    probes = {(probe_name(cell), cell.distinct): cell for cell in cells.values()}

    def train_probes(state: DrawState) -> None:
        for cell in probes.values():
            state.train_probe(cell, solve)

    for _ in in_order(pool, [partial(train_probes, state) for state in states]):
        pass
    dim = states[0].draw.dim
    jobs = _jobs(cells)
    share = -(-len(states) * len(jobs) // (2 * threads))  # no thread waits for a long call
    calls = []
    for names in jobs:
        shared = [cells[name] for name in names]
        lanes = min(lane_count(padded_rows(largest_problem(shared[0]), dim), dim), share)
        for start in range(0, len(states), lanes):
            calls.append(partial(train_students, shared, states[start : start + lanes], solve))
    found = in_order(pool, calls)
    for names in jobs:
        pieces: list[NDArray[np.void]] = []
        while sum(piece.shape[1] for piece in pieces) < len(states):
            pieces.append(next(found))
        yield from zip(names, np.concatenate(pieces, axis=1), strict=True)
