"""Makes the probes of a draw, and ranks and keeps its examples by them."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sims.cells import (
    SIGNED,
    Cell,
    examples_key,
    fold_cells,
    keep_copies,
    loss_key,
    rank_rows,
)
from sims.draws import Draw, draw_rows
from sims.examples import Examples, axis
from sims.fitting import fit
from sims.maxmargin.lanes import Solver
from sims.maxmargin.solver import MaxMarginStatus
from sims.results import ProbeFrame
from theory.inputs import Isotropic
from theory.labels import Clean
from theory.problem import CrossFitted, FixedAngle, Independent, InSample
from theory.students import ERM, MaxMargin

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Trained(NamedTuple):
    """A probe of one draw.

    It holds its frame, the signed margins of the rows that it ranks, its dual variables if they
    break ties, and the status of its solve.
    """

    frame: ProbeFrame
    margins: Floats
    dual: Floats | None
    status: int


class DrawState:
    """One draw with its probes and rankings.

    All cells whose rows it holds share it.
    """

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self._examples: dict[str, Examples] = {}
        self._probes: dict[str, Trained] = {}
        self._orders: dict[tuple[str, range, bool], Integers] = {}

    def examples(self, cell: Cell) -> Examples:
        """Return the draw's rows with the cell's labels and covariance."""
        key = json.dumps(examples_key(cell), default=float)
        if key not in self._examples:
            self._examples[key] = Examples(self.draw, cell.labels, cell.inputs)
        return self._examples[key]

    def train_probe(self, cell: Cell, solve: Solver) -> None:
        """Make the cell's probe, unless it is there already.

        This comes before the cells are solved.
        """
        key = probe_key(cell)
        if key not in self._probes:
            self._probes[key] = self._make_probe(cell, solve)

    def _make_probe(self, cell: Cell, solve: Solver) -> Trained:
        draw, examples = self.draw, self.examples(cell)
        kind = cell.probe
        if kind == FixedAngle.name:
            frame = ProbeFrame.fixed(examples, cell.numbers[0])
            return Trained(frame, examples.margins(frame.probe), None, MaxMarginStatus.SOLVED)
        if kind == CrossFitted.name:
            probes = cross_fitted_probes(examples, *cell.numbers)
            margins = [
                examples.margins(probe)[rows.start : rows.stop]
                for probe, (_, rows) in zip(probes, folds_of(cell), strict=True)
            ]
            frame = ProbeFrame(draw, np.mean(probes, axis=0), cell.numbers[0])
            return Trained(frame, np.concatenate(margins), None, MaxMarginStatus.SOLVED)
        student, trained_on, rows = cell.student, examples, np.arange(cell.distinct)
        if kind == Independent.name:
            # Its labels are clean, as the theory takes them.
            own = (draw.seed, draw.dim, draw.number, cell.probe_rows)
            other = Examples(draw_rows(*own, stream="probe"), Clean(), Isotropic())
            student, trained_on, rows = MaxMargin(), other, np.arange(cell.probe_rows)
        (found,) = fit(student, [(trained_on, rows, np.full(len(rows), cell.copies))], solve)
        whitened = trained_on.whitened(found.direction[None])[0][0]
        teacher = None if examples.scale is None else examples.teacher
        frame = ProbeFrame(draw, whitened, teacher=teacher)
        ties = kind == InSample.name and isinstance(student, MaxMargin)
        dual = found.dual if ties else None
        return Trained(frame, examples.margins(whitened), dual, found.status)

    def probe(self, cell: Cell) -> Trained:
        """Return the cell's probe."""
        return self._probes[probe_key(cell)]

    def kept(self, cell: Cell) -> tuple[Integers, Integers]:
        """Return the rows that the cell keeps, and how many copies of each."""
        key, probe = probe_key(cell), self.probe(cell)
        labels = self.examples(cell).labels
        parts = []
        for fold, rows in folds_of(cell):
            margins = probe.margins[rows.start : rows.stop]

            def order(rows: range = rows, margins: Floats = margins) -> Integers:
                ranking = (key, rows, isinstance(cell.policy, SIGNED))
                if ranking not in self._orders:
                    self._orders[ranking] = rank_rows(margins, cell.policy, probe.dual)
                return self._orders[ranking]

            own = labels[rows.start : rows.stop]
            kept, copies = keep_copies(self.draw, fold, margins, order, own, rows.start)
            parts.append((kept + rows.start, copies))
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def probe_key(cell: Cell) -> str:
    """Return a text that is equal for cells with the same probe.

    It ranks the same examples with the same labels.
    """
    key: list[Any] = [cell.probe, *cell.numbers, cell.probe_rows, *examples_key(cell)]
    if cell.probe == CrossFitted.name:
        key.append(cell.distinct)
    if cell.probe == InSample.name:
        # It is trained as the student is, on the cell's own rows.
        key.append(cell.distinct)
        if isinstance(cell.student, ERM):
            key += [*loss_key(cell.student), cell.copies]
    return json.dumps(key, default=float)


def folds_of(cell: Cell) -> Iterator[tuple[Cell, range]]:
    """Yield the folds of a cell with their rows."""
    start = 0
    for fold in fold_cells(cell):
        yield fold, range(start, start + fold.distinct)
        start += fold.distinct


def cross_fitted_probes(
    examples: Examples, theta: float, folds: float, overlap: float
) -> list[Floats]:
    """Return the whitened probes cos(theta) t + sin(theta) n_k of isotropic examples.

    The n_k are unit vectors orthogonal to t with n_j.n_k = overlap.
    """
    dim = examples.draw.dim
    common, own = np.zeros(dim), 1
    if overlap > 0:
        common[1], own = np.sqrt(overlap), 2
    probes = []
    for fold in range(int(folds)):
        beside = common.copy()
        if overlap < 1:
            beside += np.sqrt(1 - overlap) * axis(dim, own + fold)
        probes.append(np.cos(theta) * examples.teacher + np.sin(theta) * beside)
    return probes
