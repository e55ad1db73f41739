"""Students that several figures, panels or fractions ask for are trained once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from figures import angle, fitting_error, policies
from figures.figure import CurveSettings, PolicySettings
from sims.maxmargin.lanes import SOLVERS
from theory.problem import PerceptronProblem

DRAWS = 3


def settings(*theta_deg: float, kind: type = CurveSettings) -> Any:
    """Two curves of two points, one of them f = 1."""
    grid = {"alpha_total": (2, 3), "keep_fraction": (0.5, 1.0), "theta_deg": theta_deg}
    return kind(**grid, dim=12, draws=DRAWS)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of rows of all students that are trained; theory is left out."""
    solve, counts = SOLVERS["native"], []

    def counted(problems: list) -> list:
        counts.extend(len(index) for _, index in problems)
        return solve(problems)

    def nothing(problem: PerceptronProblem) -> SimpleNamespace:
        return SimpleNamespace(error=np.zeros(problem.shape), status=np.zeros(problem.shape, int))

    monkeypatch.setitem(SOLVERS, "native", counted)
    monkeypatch.setattr("figures.curves.replica.solve", nothing)
    return counts


def test_what_figures_have_in_common(trained: list[int], tmp_path: Path) -> None:
    fitting_error.compute(settings(0), cache=tmp_path)
    assert sorted(trained) == sorted([12, 24, 18, 36] * DRAWS)
    trained.clear()
    angle.compute(settings(0, 20), cache=tmp_path)  # its first panel is there
    assert sorted(trained) == sorted([12, 24, 18, 36] * DRAWS)
    trained.clear()
    # Hard is there, and so is f = 1 of all policies, which all keep the same examples.
    policies.compute(settings(20, kind=PolicySettings), cache=tmp_path)
    assert sorted(trained) == sorted([12, 18] * 3 * DRAWS)


def test_angles_share_what_keeps_everything(trained: list[int], tmp_path: Path) -> None:
    angle.compute(settings(0, 20, 40), cache=tmp_path)
    assert sorted(trained) == sorted([24, 36, *[12, 18] * 3] * DRAWS)
