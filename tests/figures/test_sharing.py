"""Students that several figures, panels or fractions ask for are trained once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from figures import FIGURES
from sims.maxmargin.lanes import SOLVERS
from theory.problem import PerceptronProblem

DRAWS = 3


def compute(name: str, *theta_deg: float, cache: Path) -> None:
    """Compute two curves of two points, one of them f = 1."""
    spec = FIGURES[name]
    grid: dict[str, Any] = {"alpha_total": (2, 3), "keep_fraction": (0.5, 1.0)}
    spec.compute(spec.settings(theta_deg=theta_deg, dim=12, draws=DRAWS, **grid), cache=cache)


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
    compute("fitting-error", 0, cache=tmp_path)
    assert sorted(trained) == sorted([12, 24, 18, 36] * DRAWS)
    trained.clear()
    compute("angle", 0, 20, cache=tmp_path)  # its first panel is there
    assert sorted(trained) == sorted([12, 24, 18, 36] * DRAWS)
    trained.clear()
    # Hard is there, and so is f = 1 of all policies, which all keep the same examples.
    compute("policies", 20, cache=tmp_path)
    assert sorted(trained) == sorted([12, 18] * 3 * DRAWS)


def test_angles_share_what_keeps_everything(trained: list[int], tmp_path: Path) -> None:
    compute("angle", 0, 20, 40, cache=tmp_path)
    assert sorted(trained) == sorted([24, 36, *[12, 18] * 3] * DRAWS)
