"""One draw and the students of all cells that share it: probe, selection, training, records."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sims.cells import Cell
from sims.draws import Draw, draw_rows
from sims.kept import SIGNED, keep_rows, rank_rows
from sims.maxmargin.lanes import Solver
from sims.maxmargin.solver import MaxMarginStatus
from sims.results import ProbeFrame, student_records

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
ProbeKey = tuple[str, float, int]


class Trained(NamedTuple):
    """A probe of one draw: its frame, its dual variables if in-sample, how its solve ended."""

    frame: ProbeFrame
    dual: Floats | None
    status: int


class DrawState:
    """One draw with its probes and rankings; all cells whose rows it holds share it."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self._probes: dict[ProbeKey, Trained] = {}
        self._margins: dict[ProbeKey, Floats] = {}
        self._orders: dict[tuple[ProbeKey, int, bool], Integers] = {}

    @staticmethod
    def _key(cell: Cell) -> ProbeKey:
        # An in-sample probe is one of the cell's own rows.
        kind, parameter = cell.probe
        rows = cell.distinct if kind == "in-sample" else cell.probe_rows
        return kind, 0.0 if cell.probe_rows else parameter, rows

    def train_probe(self, cell: Cell, solve: Solver) -> None:
        """Make the cell's probe; called once per probe before the cells are solved."""
        key = self._key(cell)
        if key in self._probes:
            return
        kind, parameter = cell.probe
        draw = self.draw
        if kind == "fixed":
            trained = Trained(ProbeFrame.fixed(draw, parameter), None, MaxMarginStatus.SOLVED)
        else:
            rows = draw.rows[: cell.distinct]
            if kind == "independent":
                own = (draw.seed, draw.dim, draw.number, cell.probe_rows)
                rows = draw_rows(*own, stream="probe").rows
            found = solve([(rows, np.arange(len(rows)))])[0]
            dual = found.dual if kind == "in-sample" else None
            trained = Trained(ProbeFrame(draw, found.direction), dual, found.status)
        self._margins[key] = row_products(draw.rows, trained.frame.probe)
        self._probes[key] = trained

    def probe(self, cell: Cell) -> Trained:
        """The cell's probe."""
        return self._probes[self._key(cell)]

    def kept(self, cell: Cell) -> Integers:
        """Rows that the cell keeps."""
        key = self._key(cell)
        margins = self._margins[key][: cell.distinct]

        def order() -> Integers:
            ranking = (key, cell.distinct, isinstance(cell.policy, SIGNED))
            if ranking not in self._orders:
                self._orders[ranking] = rank_rows(margins, cell.policy, self._probes[key].dual)
            return self._orders[ranking]

        return keep_rows(self.draw, cell, margins, order)


def row_products(rows: Floats, vector: Floats) -> Floats:
    """rows @ vector, with digits of a row that do not depend on how many rows there are."""
    used = np.flatnonzero(vector)
    if len(used) <= 2:  # a fixed probe
        return np.asarray(sum(vector[column] * rows[:, column] for column in used))
    return np.einsum("ij,j->i", rows, vector)


def train_students(
    cells: Sequence[Cell], states: Sequence[DrawState], solve: Solver
) -> NDArray[np.void]:
    """Records of cells that keep the same rows, shape (len(cells), len(states))."""
    kept = [state.kept(cells[0]) for state in states]
    found = solve([(state.draw.rows, rows) for state, rows in zip(states, kept, strict=True)])
    records = []
    for cell in cells:
        probes = [state.probe(cell) for state in states]
        frames = [probe.frame for probe in probes]
        row = student_records(frames, np.stack([one.direction for one in found]))
        solved = [probe.status == MaxMarginStatus.SOLVED for probe in probes]
        status = [one.status for one in found]
        row["status"] = np.where(solved, status, [probe.status for probe in probes])
        row["kept_count"] = [len(rows) for rows in kept]
        row["support_count"] = [np.count_nonzero(one.dual > 0) for one in found]
        row["margin"] = [one.margin for one in found]
        row["bracket"] = [one.bracket for one in found]
        records.append(row)
    return np.stack(records)
