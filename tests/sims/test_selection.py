"""Selection against a sort written out by hand."""

import numpy as np
import pytest

from sims.cells import keep_rows, kept_rows, problem_cells, rank_rows
from sims.draws import draw_rows
from theory.policies import policy_from_name
from theory.problem import FixedAngle, PerceptronProblem

DIM, ALPHA, FRACTION, THETA = 10, 4.0, 0.3, 0.4


def kept(name: str, redundancy: int = 1, **parameters: float) -> tuple[list[int], list[float]]:
    """Kept rows of one draw, and the signed probe margins of all its rows."""
    policy = policy_from_name(name, **parameters)
    problem = PerceptronProblem(ALPHA, FRACTION, FixedAngle(THETA), policy, float(redundancy))
    (cell,) = problem_cells(problem, DIM)
    draw = draw_rows(3, DIM, 0, cell.distinct)
    margins = np.cos(THETA) * draw.rows[:, 0] + np.sin(THETA) * draw.rows[:, 1]
    rows = keep_rows(draw, cell, margins, lambda: rank_rows(margins, cell.policy))
    assert kept_rows(cell) == len(rows)
    return rows.tolist(), margins.tolist()


# 40 examples, 12 kept.
@pytest.mark.parametrize(
    ("name", "signed", "start", "parameters"),
    [
        ("hard", False, 0, {}),
        ("easy", False, 28, {}),
        ("moderate", False, 14, {}),
        ("hard-signed", True, 0, {}),
        ("easy-signed", True, 28, {}),
        ("window", False, 8, {"lo": 0.2}),
    ],
)
def test_ranked_policies(name: str, signed: bool, start: int, parameters: dict) -> None:
    rows, margins = kept(name, **parameters)
    ranked = sorted(range(40), key=lambda i: margins[i] if signed else abs(margins[i]))
    assert rows == sorted(ranked[start : start + 12])


def test_random_keeps_the_right_number() -> None:
    rows, _ = kept("random")
    assert len(rows) == len(set(rows)) == 12


def test_half_of_a_mixture_is_the_hardest() -> None:
    rows, margins = kept("mixture", w=0.5)
    hardest = sorted(range(40), key=lambda i: abs(margins[i]))[:6]
    assert len(rows) == 12
    assert set(hardest) <= set(rows)


def test_copies_fill_the_hard_selection() -> None:
    rows, margins = kept("hard", redundancy=4)
    # 10 distinct rows in 4 copies each: 12 copies are the 3 hardest rows.
    assert rows == sorted(sorted(range(10), key=lambda i: abs(margins[i]))[:3])


def test_dual_variables_break_the_tie_of_support_vectors() -> None:
    policy = policy_from_name("hard")
    order = rank_rows(np.array([0.5, 0.1, 0.5, 0.9]), policy, np.array([0.2, 0.0, 0.8, 0.0]))
    assert order.tolist() == [2, 0, 1, 3]
