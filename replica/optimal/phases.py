"""Which selection wins: hard, easy, the best window between them, or a random choice."""

from enum import IntEnum

import numpy as np
from jax.typing import ArrayLike

from hardset.checks import check_range
from hardset.pytree import pytree_dataclass
from replica.optimal.search import SearchStatus
from replica.optimal.window import optimal_window
from theory.problem import DownstreamShift

TIE = 1e-6


class Phase(IntEnum):
    """The selection of least error."""

    UNKNOWN = -1
    TIE = 0
    RANDOM = 1
    HARD = 2
    WINDOW = 3
    EASY = 4


@pytree_dataclass
class PhaseDiagram:
    """Errors of the rival selections and the winner, arrays of the arguments' shape.

    Attributes:
        phase: the best of all windows and random selection, a `Phase`: WINDOW where one that is
            neither hard nor easy wins, TIE where the winner's lead is below 1e-6, relatively.
        named_phase: the best of hard, easy and random selection alone.
        alpha_total: total examples over N.
        alpha_kept: kept examples over N, f * alpha_total.
        lo: offset of the best window.
        window_error: its error; never above those of hard and easy selection, its ends.
        hard_error: the error of `Hard`.
        easy_error: the error of `Easy`.
        random_error: the error of `Random`.
        status: a `SearchStatus`.
    """

    phase: ArrayLike
    named_phase: ArrayLike
    alpha_total: ArrayLike
    alpha_kept: ArrayLike
    lo: ArrayLike
    window_error: ArrayLike
    hard_error: ArrayLike
    easy_error: ArrayLike
    random_error: ArrayLike
    status: ArrayLike


def phase_diagram(
    keep_fraction: ArrayLike,
    theta: ArrayLike = 0.0,
    *,
    alpha_total: ArrayLike | None = None,
    alpha_kept: ArrayLike | None = None,
    downstream: DownstreamShift | None = None,
) -> PhaseDiagram:
    """The winner at each fraction, at equal alpha_total or at equal alpha_kept.

    Args:
        keep_fraction: kept fraction f, in (0, 1]; the arguments broadcast against each other.
        theta: probe angle in radians, in [0, pi/2].
        alpha_total: total examples / N, > 0: the data are given, f says how many are kept.
        alpha_kept: kept examples / N, > 0, instead: the training budget is given, f says from how
            many, alpha_kept/f, they are chosen.
        downstream: shift between the labels' teacher and the one that judges the student.

    Returns:
        Arrays of the common shape.

    Raises:
        ValueError: an argument outside its range, or not exactly one of the two volumes.
    """
    if (alpha_total is None) == (alpha_kept is None):
        raise ValueError("exactly one of alpha_total and alpha_kept must be given")
    check_range("keep_fraction", keep_fraction, 0.0, 1.0, open_low=True)
    if alpha_total is None:
        check_range("alpha_kept", alpha_kept, 0.0, np.inf, open_low=True)
        alpha_total = np.asarray(alpha_kept, float) / np.asarray(keep_fraction, float)
    best = optimal_window(alpha_total, keep_fraction, theta, downstream=downstream)
    lo, spare = np.asarray(best.lo), 1 - np.asarray(keep_fraction, float)
    window, random = np.asarray(best.error), np.asarray(best.random_error)
    hard, easy = np.asarray(best.hard_error), np.asarray(best.easy_error)
    interior = np.where((lo > 0) & (lo < spare), window, np.inf)
    known = (np.asarray(best.status) == SearchStatus.FOUND) & ~np.isnan(random)
    named = {Phase.RANDOM: random, Phase.HARD: hard, Phase.EASY: easy}
    volume = np.broadcast_to(np.asarray(alpha_total, float), lo.shape)
    return PhaseDiagram(
        phase=np.where(known, _winner(named | {Phase.WINDOW: interior}), Phase.UNKNOWN.value),
        named_phase=np.where(known, _winner(named), Phase.UNKNOWN.value),
        alpha_total=volume,
        alpha_kept=volume * np.asarray(keep_fraction, float),
        lo=lo,
        window_error=window,
        hard_error=hard,
        easy_error=easy,
        random_error=random,
        status=best.status,
    )


def _winner(errors: dict[Phase, np.ndarray]) -> np.ndarray:
    """The rival of least error, TIE where the next one is as good."""
    ranked = np.array(list(errors))
    table = np.stack(list(errors.values()))
    first, second = np.sort(table, axis=0)[:2]
    winner = ranked[np.argmin(table, axis=0)]
    return np.where(second <= first * (1 + TIE), Phase.TIE.value, winner)
