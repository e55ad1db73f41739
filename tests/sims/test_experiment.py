"""Sweeps: what the numbers do not depend on, resumption, the reference solver."""

from pathlib import Path

import numpy as np
import pytest

from hardset.cache import RecordCache
from sims import margins, run
from sims.cells import identity, problem_cells, student_key
from sims.draws import draw_rows
from sims.machine import default_memory_gb
from sims.maxmargin.lanes import SOLVERS, solver_edition
from sims.memory import call_bytes, draw_bytes, result_bytes
from sims.probes import DrawState
from sims.results import RECORD
from sims.sweep import simulate_students
from theory.policies import Random, Window, policy_from_name
from theory.problem import FixedAngle, Independent, PerceptronProblem

DIM, DRAWS = 10, 4
EASY = policy_from_name("easy")
RANDOM = PerceptronProblem(4.0, 0.3, policy=Random())
# 15 and 12 rows: both are padded to 16, one shape to compile.
PROBLEM = PerceptronProblem(3.0, np.array([0.5, 0.4]), FixedAngle(0.3))


def students(**options: object) -> np.ndarray:
    """Records of PROBLEM by one process."""
    cells = problem_cells(PROBLEM, DIM)
    return simulate_students(cells, DIM, DRAWS, 0, processes=1, **options)


def test_no_digit_depends_on_the_memory_limit_or_the_number_of_draws() -> None:
    cells = problem_cells(PROBLEM, DIM)
    one = result_bytes(2, 2, DRAWS) + call_bytes(cells, DIM, DRAWS, 1) + draw_bytes(cells, DIM)
    assert np.array_equal(students(), students(memory_gb=one / 2**30))
    with pytest.raises(ValueError, match="one draw of 30 x 10 at a time"):
        students(memory_gb=(one - 1) / 2**30)
    two = run(PROBLEM, DIM, 2)
    assert np.array_equal(two["error"], run(PROBLEM, DIM, DRAWS)["error"][:, :2])


def test_the_reference_solver_finds_the_same_students() -> None:
    ours, reference = students(), students(solver="cvxpy")
    assert np.all(ours["status"] == 0)
    assert np.allclose(ours["along_teacher"], reference["along_teacher"], rtol=0, atol=1e-7)


def test_an_interrupted_run_resumes_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RecordCache(tmp_path, RECORD, (DIM, 0, "native"))
    finished = []

    def interrupt(count: int) -> None:
        finished.append(count)
        if len(finished) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        students(cache=store, advance=interrupt)
    assert len(list(tmp_path.iterdir())) == 1
    expected = students()
    assert np.array_equal(students(cache=store), expected)

    def never(problems: list) -> list:
        raise AssertionError(f"{len(problems)} students were trained again")

    monkeypatch.setitem(SOLVERS, "native", never)
    assert np.array_equal(students(cache=store), expected)


def test_records_of_an_earlier_solver_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    (cell,) = problem_cells(PROBLEM, DIM)[:1]
    earlier = RecordCache(tmp_path, RECORD, (DIM, 0, "native"))
    earlier.store(identity(cell), range(DRAWS), np.zeros(DRAWS, RECORD))
    earlier.flush()
    found = run(PROBLEM, DIM, DRAWS, cache=tmp_path)
    assert found.identical(run(PROBLEM, DIM, DRAWS))
    assert solver_edition("native") != "native"


def test_less_than_one_example_is_an_error() -> None:
    with pytest.raises(ValueError, match="is below 1: a simulation must keep at least one example"):
        run(PerceptronProblem(5.0, 0.01), DIM, 1)


def test_margins_are_those_of_the_students_of_run() -> None:
    one = PerceptronProblem(3.0, 0.5, FixedAngle(0.3))
    found, swept = margins(one, DIM, DRAWS), run(one, DIM, DRAWS)
    assert [student.margin for student in found] == swept["margin"].values.tolist()
    for student, count in zip(found, swept["support_count"].values, strict=True):
        assert student.margins.shape == student.support.shape == (15,)
        assert np.count_nonzero(student.support) == count
        # The solver's KKT conditions: kappa on the support, more elsewhere.
        assert np.allclose(student.margins[student.support], student.margin, rtol=0, atol=1e-12)
        assert np.min(student.margins[~student.support]) > student.margin
        assert student.status == 0
    with pytest.raises(ValueError, match="problem has 2 points"):
        margins(PROBLEM, DIM, DRAWS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # r copies of every example at constant total volume are alpha_total/r without copies.
        (PerceptronProblem(20.0, 0.3, redundancy=5.0), PerceptronProblem(4.0, 0.3)),
        (PerceptronProblem(4.0, 0.3, policy=Window(lo=0.0)), PerceptronProblem(4.0, 0.3)),
        (
            PerceptronProblem(4.0, 0.3, policy=Window(lo=0.7)),
            PerceptronProblem(4.0, 0.3, policy=EASY),
        ),
        (PerceptronProblem(4.0, 1.0, policy=Random()), PerceptronProblem(4.0, 1.0)),
        (PerceptronProblem(4.0, 1.0, FixedAngle(0.5)), PerceptronProblem(4.0, 1.0)),
        (PerceptronProblem(4.0, 0.3, FixedAngle(0.5), Random()), RANDOM),
    ],
)
def test_cells_that_keep_the_same_rows_share_them(
    one: PerceptronProblem, other: PerceptronProblem
) -> None:
    cells = [problem_cells(problem, DIM)[0] for problem in (one, other)]
    assert student_key(cells[0]) == student_key(cells[1])
    same_probe = cells[0].numbers == cells[1].numbers
    assert (identity(cells[0]) == identity(cells[1])) == same_probe
    kept = []
    for cell in cells:
        state = DrawState(draw_rows(0, DIM, 0, 40))
        state.train_probe(cell, SOLVERS["native"])
        kept.append(state.kept(cell)[0].tolist())
    assert kept[0] == kept[1]


def test_the_default_memory_limit_heeds_the_container(tmp_path: Path) -> None:
    limits = [tmp_path / "memory.max", tmp_path / "absent"]
    limits[0].write_text("max\n")
    free = default_memory_gb(limits)
    limits[0].write_text(f"{2**30}\n")
    assert default_memory_gb(limits) == 0.5 < free


def test_results_count_in_the_memory_limit() -> None:
    with pytest.raises(ValueError, match=r"memory_gb = 0\.1 is below the .* GiB of it for results"):
        run(PROBLEM, DIM, 10**6, memory_gb=0.1)


def test_no_points_and_endless_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no point to simulate"):
        run(PerceptronProblem(np.array([]), 0.3), DIM, DRAWS)
    with pytest.raises(ValueError, match=r"alpha_total \* dim = 1e\+308 \* 10 is no finite"):
        run(PerceptronProblem(1e308, 0.3), DIM, DRAWS)
    with pytest.raises(ValueError, match=r"alpha_probe \* dim = 1e\+308 \* 10 is no finite"):
        run(PerceptronProblem(4.0, 0.3, Independent(1e308)), DIM, DRAWS)
    with pytest.raises(ValueError, match=r"draws = 2\.5 is not a whole number"):
        margins(RANDOM, DIM, 2.5)


def test_draws_are_those_of_earlier_versions() -> None:
    problem = PerceptronProblem(4.0, 0.3, FixedAngle(0.3), policy_from_name("mixture", w=0.5))
    found = run(problem, DIM, 3, seed=2)
    # Printed by version 0.2.0.
    np.testing.assert_allclose(
        found["overlap"], [0.756138777976097, 0.54159102366282, 0.436234833659899], rtol=1e-12
    )
