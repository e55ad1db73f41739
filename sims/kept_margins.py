"""`margins`: what the trained student makes of the examples that were kept."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_range
from sims.cells import problem_cells
from sims.draws import draw_rows
from sims.engine import DrawState, one_blas_thread, processors, solve_native
from sims.maxmargin import MaxMarginStatus
from theory._float64 import float64
from theory.problem import PerceptronProblem

__all__ = ["StudentMargins", "margins"]


@dataclasses.dataclass(frozen=True)
class StudentMargins:
    """One draw's student and the distinct examples that it was trained on.

    Attributes:
        margin: kappa, the smallest margin.
        margins: y J.x/norm(J) of every kept row, shape (P,), in the data's order.
        support: which rows hold the separator, boolean of shape (P,); their margin is kappa.
        status: a `MaxMarginStatus`; only SOLVED has numbers that mean something.
    """

    margin: float
    margins: NDArray[np.float64]
    support: NDArray[np.bool_]
    status: MaxMarginStatus


@float64
def margins(
    problem: PerceptronProblem, dim: int, draws: int, seed: int = 0
) -> list[StudentMargins]:
    """Margins y J.x/norm(J) of the kept examples x ~ N(0, I_N), J the student trained on them.

    Args:
        problem: one point; its redundancy must be an integer.
        dim: N >= 2.
        draws: number of draws >= 1.
        seed: >= 0.

    Returns:
        One entry a draw; the draws, the kept rows and the students are those of `run`.

    Raises:
        ValueError: more than one point, or an argument outside its range; f alpha_total N < 1.
    """
    check_range("dim", dim, 2, np.inf)
    check_range("draws", draws, 1, np.inf)
    check_range("seed", seed, 0, np.inf)
    cells = problem_cells(problem, dim)
    if len(cells) != 1:
        raise ValueError(f"problem has {len(cells)} points; margins are computed for one")
    cell = cells[0]

    def student(number: int) -> StudentMargins:
        state = DrawState(draw_rows(seed, dim, number, cell.distinct))
        state.train_probe(cell, solve_native)
        rows = state.kept(cell)
        (found,) = solve_native([(state.draw.rows, rows)])
        trained = state.probe(cell).status
        return StudentMargins(
            margin=found.margin,
            margins=state.draw.rows[rows] @ found.direction,
            support=found.dual > 0,
            status=MaxMarginStatus(found.status if trained == 0 else trained),
        )

    with one_blas_thread(), ThreadPoolExecutor(processors()) as pool:
        return list(pool.map(student, range(draws)))
