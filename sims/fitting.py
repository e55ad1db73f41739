"""Trains students on kept examples, of largest margin or of least loss, many at once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sims.erm.solver import ERMStatus, erm
from sims.examples import Examples
from sims.maxmargin.lanes import SMALLEST, Solver, lane_count, on_processor
from sims.maxmargin.solver import MaxMarginStatus
from theory.students import ERM, Student

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# The examples of a draw, the kept rows and the number of kept copies of each.
Kept = tuple[Examples, Integers, Integers]

STATUSES = {
    ERMStatus.SOLVED: MaxMarginStatus.SOLVED,
    ERMStatus.NOT_CONVERGED: MaxMarginStatus.STALLED,
    ERMStatus.EMPTY: MaxMarginStatus.EMPTY,
    ERMStatus.NOT_FINITE: MaxMarginStatus.NOT_FINITE,
}
LANES = 10  # of one call on a processor, where more gain nothing
PARTS = 4  # an octave of row numbers is compiled for so many
SUPPORT = 1e-7  # of the largest dual variable: an interior point leaves a little on every row


class Fit(NamedTuple):
    """A student W of one draw.

    Attributes:
        direction: W over its length, shape (N,).
        length: its Euclidean length.
        margin: min y W.x over its length, NaN for a student with a loss.
        bracket: certificate, a relative gap: see `MaxMarginResult` and `ERMResult`.
        dual: dual variables of the kept rows, shape (P,).
        loss: mean loss over the kept copies.
        wrong: share of the kept copies with y W.x < 0.
        status: a `MaxMarginStatus`.
    """

    direction: Floats
    length: float
    margin: float
    bracket: float
    dual: Floats
    loss: float
    wrong: float
    status: int


def fit(student: Student, kept: Sequence[Kept], solve: Solver) -> list[Fit]:
    """Train a student on the kept examples of each draw.

    Args:
        student: its numbers must be scalars.
        kept: examples, rows and copies of every draw.
        solve: solver of max-margin students.

    Returns:
        One fit for each draw, whose digits do not depend on the others.
    """
    if isinstance(student, ERM):
        return _fit_loss(student, kept)
    found = solve([examples.problem(rows) for examples, rows, _ in kept])
    # The student's smallest margin is 1: its loss is the limit of a hinge's.
    return [
        Fit(
            direction=one.direction,
            length=1 / one.margin if one.margin else np.nan,
            margin=one.margin,
            bracket=one.bracket,
            dual=one.dual,
            loss=0.0,
            wrong=0.0,
            status=one.status,
        )
        for one in found
    ]


def erm_rows(count: int) -> int:
    """Return the rows of the call that minimises a loss over `count` of them."""
    octave = 1 << max(count - 1, SMALLEST - 1).bit_length() - 1
    step = max(octave // PARTS, 1)
    return -(-count // step) * step if count > SMALLEST else SMALLEST


def erm_lanes(padded: int, dim: int) -> int:
    """Return the draws of one call, by the shape of one alone; missing ones are left empty."""
    lanes = lane_count(padded, dim)
    return min(lanes, LANES) if on_processor() else lanes


def _fit_loss(student: ERM, kept: Sequence[Kept]) -> list[Fit]:
    dim = kept[0][0].draw.dim
    fits: list[Fit | None] = [None] * len(kept)
    shapes: dict[int, list[int]] = {}
    for place, (_, rows, _) in enumerate(kept):
        shapes.setdefault(erm_rows(len(rows)), []).append(place)
    for padded, places in shapes.items():
        lanes = erm_lanes(padded, dim)
        for start in range(0, len(places), lanes):
            part = places[start : start + lanes]
            for place, one in zip(
                part, _minimise(student, [kept[p] for p in part], lanes, padded, dim), strict=True
            ):
                fits[place] = one
    return [one for one in fits if one is not None]


def _minimise(student: ERM, kept: Sequence[Kept], lanes: int, padded: int, dim: int) -> list[Fit]:
    """Fit at most `lanes` draws in one call of a fixed shape."""
    inputs, copies = np.zeros((lanes, padded, dim)), np.zeros((lanes, padded))
    for lane, (examples, rows, counts) in enumerate(kept):
        inputs[lane, : len(rows)] = examples.signed_inputs(rows)
        copies[lane, : len(rows)] = counts
    lam = float(np.asarray(student.lam))
    found = erm(inputs, np.ones((lanes, padded)), loss=student.loss, lam=lam, sample_weight=copies)
    weights, dual, margins = (np.asarray(a) for a in (found.weights, found.dual, found.margins))
    length = np.linalg.norm(weights, axis=1)
    total = np.sum(copies, axis=1)
    with np.errstate(invalid="ignore"):
        loss = np.maximum(np.asarray(found.objective) - 0.5 * lam * dim * length**2, 0) / total
        wrong = np.sum(copies * (margins < 0), axis=1) / total
    return [
        Fit(
            direction=weights[lane] / length[lane] if length[lane] > 0 else weights[lane],
            length=float(length[lane]),
            margin=np.nan,
            bracket=float(found.certificate[lane]),
            dual=_supported(dual[lane, : len(rows)]),
            loss=float(loss[lane]),
            wrong=float(wrong[lane]),
            status=int(STATUSES[ERMStatus(int(found.status[lane]))]),
        )
        for lane, (_, rows, _) in enumerate(kept)
    ]


def _supported(dual: Floats) -> Floats:
    return np.where(dual > SUPPORT * np.max(np.abs(dual), initial=0.0), dual, 0.0)
