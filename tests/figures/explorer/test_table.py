"""The table of the page without a server against SciPy's interpolants and single solutions."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import BarycentricInterpolator

import replica
from figures.explorer import table
from figures.explorer.table import LAST, Lines
from theory.policies import Hard, Random
from theory.problem import FixedAngle, PerceptronProblem

WIDTHS = (0.5, 0.02, 0.002)  # of the steps, over the length of a line


def steps(line: NDArray[np.int64], position: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Steps of three widths, as the error falls at small fractions."""
    return exact(line, position), np.full(len(line), 1e-12)


def exact(line: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.float64]:
    width = np.array(WIDTHS)[line]
    return -np.tanh((position / LAST - 0.37) / width)


@pytest.fixture(scope="module")
def found() -> Lines:
    return table.tabulate(len(WIDTHS), steps, tolerance=1e-4)


def test_an_interpolant_is_scipys_polynomial_through_the_nodes_around_a_place() -> None:
    nodes = np.array([0, 3, 7, 8, 15, 21, 40, 44])
    values = np.cos(nodes / 9.0)
    for place, first in ((0.5, 0), (7.5, 0), (10.0, 1), (20.0, 2), (43.0, 2)):
        part = slice(first, first + table.POINTS)
        expected = BarycentricInterpolator(nodes[part], values[part])(place)
        assert table.interpolate(nodes, values, place)[0] == pytest.approx(expected, abs=1e-13)
    assert table.interpolate(nodes, values, nodes) == pytest.approx(values, abs=1e-13)


def test_steep_lines_are_followed_within_what_was_missed_at_midpoints(found: Lines) -> None:
    assert 0 < found.missed <= 1e-4
    places = np.arange(0, LAST + 1, 101)
    counts = []
    for i in range(len(WIDTHS)):
        nodes, values = found.nodes(i)
        assert nodes[0] == 0 and nodes[-1] == LAST and np.all(np.diff(nodes) > 0)
        gap = table.interpolate(nodes, values, places) - exact(np.full(len(places), i), places)
        assert np.abs(gap).max() <= table.SAFETY * found.missed
        counts.append(len(nodes))
    assert counts[0] < counts[1] < counts[2] < 200
    assert found.tested <= found.missed
    assert found.residual == 1e-12


def test_the_bound_is_a_multiple_of_the_largest_miss(found: Lines) -> None:
    made = table.certified({"hard": found})
    assert made.bound == pytest.approx(np.expm1(3.3 * found.missed), rel=1e-2)
    assert made.bound > 3.3 * found.missed


def test_a_bound_that_does_not_hold_is_refused(found: Lines) -> None:
    with pytest.raises(ValueError, match=r"policy .hard. miss those of the solver by 1\.0e-02"):
        table.certified({"hard": dataclasses.replace(found, tested=0.01)})


def test_a_line_that_jumps_is_refused() -> None:
    def jump(line: NDArray, position: NDArray) -> tuple[NDArray, NDArray]:
        return np.where(position > 0.3 * LAST, 1.0, 0.0), np.zeros(len(line))

    with pytest.raises(ValueError, match="line 0 is not resolved at position"):
        table.tabulate(1, jump)


def test_solutions_are_those_of_single_problems() -> None:
    count, solver = table.solver_of("hard")
    assert count == len(table.THETAS_DEG) * len(table.FRACTIONS)
    angle, kept = table.THETAS_DEG.index(10.0), table.FRACTIONS.index(0.3)
    line = angle * len(table.FRACTIONS) + kept
    values, residuals = solver(np.array([line, line]), np.array([LAST // 2, LAST]))
    for value, alpha in zip(values, (np.sqrt(0.2 * 100.0), 100.0), strict=True):
        problem = PerceptronProblem(alpha, 0.3, FixedAngle(np.pi / 18), Hard())
        expected = replica.solve(problem, throw=True).error
        assert np.exp(value) == pytest.approx(float(expected), rel=1e-9)
    assert np.all(residuals <= 1e-8)


def test_a_table_is_kept_and_interpolates_within_its_bound(tmp_path: Path) -> None:
    made = table.build(tmp_path, ("random",))
    again = table.build(tmp_path, ("random",))
    assert np.array_equal(made.lines["random"].log_error, again.lines["random"].log_error)
    assert (
        dataclasses.astuple(again.lines["random"])[3:]
        == (dataclasses.astuple(made.lines["random"])[3:])
    )
    assert 0 < made.bound < 1e-3
    alphas = np.array([2.2, 7.3, 31.0, 77.0])
    expected = replica.solve(PerceptronProblem(alphas, 0.25, FixedAngle(0.0), Random()), throw=True)
    shown = [made.error("random", float(alpha), 0.0, 0.25) for alpha in alphas]
    assert np.abs(shown / expected.error - 1).max() <= made.bound
