"""Makes the probes of a draw, and ranks and keeps its examples by them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sims.cells import (
    SIGNED,
    Cell,
    examples_name,
    fold_cells,
    keep_copies,
    probe_name,
    rank_rows,
)
from sims.draws import Draw, draw_rows
from sims.examples import Examples
from sims.fitting import fit
from sims.maxmargin.lanes import Solver
from sims.maxmargin.solver import MaxMarginStatus
from sims.results import ProbeFrame
from theory.inputs import Inputs, Isotropic, Spectrum
from theory.labels import Clean
from theory.problem import CrossFitted, FixedAngle, Independent, InSample, OutOfFold
from theory.students import MaxMargin

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
        key = examples_name(cell)
        if key not in self._examples:
            self._examples[key] = Examples(self.draw, cell.labels, cell.inputs)
        return self._examples[key]

    def train_probe(self, cell: Cell, solve: Solver) -> None:
        """Make the cell's probe, unless it is there already.

        This comes before the cells are solved.
        """
        key = probe_name(cell)
        if key not in self._probes:
            self._probes[key] = self._make_probe(cell, solve)

    def _make_probe(self, cell: Cell, solve: Solver) -> Trained:
        draw, examples = self.draw, self.examples(cell)
        kind = cell.probe
        if kind == FixedAngle.name:
            frame = ProbeFrame.fixed(examples, cell.numbers[0])
            return Trained(frame, examples.margins(frame.probe), None, MaxMarginStatus.SOLVED)
        if kind == CrossFitted.name:
            probes = cross_fitted_probes(examples, cell.inputs, *cell.numbers)
            margins = [
                examples.margins(probe)[rows.start : rows.stop]
                for probe, (_, rows) in zip(probes, folds_of(cell), strict=True)
            ]
            teacher = None if examples.scale is None else examples.teacher
            mean = np.mean(probes, axis=0)
            frame = ProbeFrame(draw, mean, cell.numbers[0], teacher=teacher)
            return Trained(frame, np.concatenate(margins), None, MaxMarginStatus.SOLVED)
        if kind == OutOfFold.name:
            return self._train_out_of_fold(cell, solve)
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

    def _train_out_of_fold(self, cell: Cell, solve: Solver) -> Trained:
        """Train a probe for each fold on the other folds."""
        examples = self.examples(cell)
        margins = np.empty(cell.distinct)
        probes, status = [], int(MaxMarginStatus.SOLVED)
        for _, own in folds_of(cell):
            rows = np.r_[: own.start, own.stop : cell.distinct]
            copies = np.full(len(rows), cell.copies)
            (found,) = fit(cell.student, [(examples, rows, copies)], solve)
            probes.append(examples.whitened(found.direction[None])[0][0])
            margins[own.start : own.stop] = examples.margins(probes[-1])[own.start : own.stop]
            if found.status != MaxMarginStatus.SOLVED:
                status = found.status
        along = np.array(probes) @ examples.teacher
        teacher = None if examples.scale is None else examples.teacher
        theta = float(np.mean(np.arccos(np.clip(along, -1, 1))))
        frame = ProbeFrame(self.draw, np.mean(probes, axis=0), theta, teacher=teacher)
        return Trained(frame, margins, None, status)

    def probe(self, cell: Cell) -> Trained:
        """Return the cell's probe."""
        return self._probes[probe_name(cell)]

    def kept(self, cell: Cell) -> tuple[Integers, Integers]:
        """Return the rows that the cell keeps, and how many copies of each."""
        key, probe = probe_name(cell), self.probe(cell)
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


def folds_of(cell: Cell) -> Iterator[tuple[Cell, range]]:
    """Yield the folds of a cell with their rows."""
    start = 0
    for fold in fold_cells(cell):
        yield fold, range(start, start + fold.distinct)
        start += fold.distinct


def cross_fitted_probes(
    examples: Examples, inputs: Inputs, theta: float, folds: float, overlap: float
) -> list[Floats]:
    """Return the whitened probes cos(theta) t + sin(theta) n_k.

    The n_k are unit vectors orthogonal to t with n_j.n_k = overlap. Each has the components v_j of
    a spectrum, along a direction of its own in every eigenspace: sum_j t_j n_kj g(c_j) = 0.
    """
    dim = examples.draw.dim
    profile = np.asarray(inputs.direction) if isinstance(inputs, Spectrum) else np.ones(1)
    profile = profile / np.linalg.norm(profile)
    repeats = dim // len(profile)

    def beside(place: int) -> Floats:
        vector = np.zeros(dim)
        vector[place::repeats] = profile
        return vector

    common, own = np.zeros(dim), 1
    if overlap > 0:
        common, own = np.sqrt(overlap) * beside(1), 2
    probes = []
    for fold in range(int(folds)):
        alone = np.sqrt(1 - overlap) * beside(own + fold) if overlap < 1 else 0.0
        probes.append(np.cos(theta) * examples.teacher + np.sin(theta) * (common + alone))
    return probes
