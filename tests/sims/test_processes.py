"""Worker processes: nothing is lost or done twice, whatever becomes of them."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import cloudpickle
import numpy as np
import psutil
import pytest

import sims.sweep
import sims.workers
from sims.cells import problem_cells
from sims.sweep import simulate_students
from sims.workers import Tasks, spread
from theory.problem import FixedAngle, PerceptronProblem

# Workers cannot import a test module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SMALL_SWEEP = """
import numpy as np, sims, sims.sweep
from theory import PerceptronProblem
sims.sweep.WORTH_SHARING = 0
found = sims.run(PerceptronProblem(3.0, np.linspace(0.1, 1, 10)), 10, 20)
print(found.sizes["draw"], int(found["failed"].sum()))
"""


def meet(folder: Path, value: int = 0) -> tuple[int, int]:
    """The value and the process that had it; slow until two processes have come to the folder."""
    (folder / str(os.getpid())).touch()
    if len(list(folder.iterdir())) < 2:
        time.sleep(0.1)
    return value, os.getpid()


def fatal_elsewhere(folder: Path, parent: int) -> bool:
    """Kill every process but this one."""
    (folder / str(os.getpid())).touch()
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    meet(folder)
    return True


def refuse() -> None:
    raise ValueError("no")


def test_every_task_is_done_once_by_two_processes(tmp_path: Path) -> None:
    groups = [[partial(meet, tmp_path, 100 * group + n) for n in range(100)] for group in range(3)]
    found = dict(spread(groups, 2))
    assert {place: value for place, (value, _) in found.items()} == {
        (group, n): 100 * group + n for group in range(3) for n in range(100)
    }
    assert len({process for _, process in found.values()}) == 2


def test_a_process_keeps_its_group_then_begins_another_then_helps() -> None:
    tasks = Tasks([[partial(int, n) for n in range(size)] for size in (2, 1, 4)])
    order = [(0, tasks.take(0)), (1, tasks.take(1)), (1, tasks.take(1)), (0, tasks.take(0))]
    places = [(process, taken[0]) for process, taken in order if taken]
    assert places == [(0, (0, 0)), (1, (1, 0)), (1, (2, 0)), (0, (0, 1))]
    assert [taken[0] for _ in range(3) if (taken := tasks.take(0))] == [(2, 1), (2, 2), (2, 3)]
    assert tasks.take(0) is None


def test_what_a_killed_worker_had_is_done_here_and_the_next_call_has_a_new_one(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    found = dict(spread([[partial(fatal_elsewhere, first, os.getpid())] * 300], 2))
    assert found == {(0, n): True for n in range(300)}
    assert len(list(first.iterdir())) == 2
    assert len({process for _, (_, process) in spread([[partial(meet, second)] * 300], 2)}) == 2


def test_what_cannot_be_sent_is_done_here(tmp_path: Path) -> None:
    lock = threading.Lock()

    def locked(value: int) -> tuple[int, int]:
        with lock:
            return meet(tmp_path, value)

    # The worker is there once it has done a task of the other group.
    groups = [[partial(meet, tmp_path)] * 300, [partial(locked, n) for n in range(5)]]
    found = dict(spread(groups, 2))
    assert [found[1, n] for n in range(5)] == [(n, os.getpid()) for n in range(5)]
    assert len(found) == 305


def test_an_error_of_a_task_is_raised() -> None:
    for processes in (1, 2):
        with pytest.raises(ValueError, match="no"):
            list(spread([[refuse]], processes))


def test_no_digit_depends_on_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = []
    monkeypatch.setattr(
        sims.sweep, "spread", lambda tasks, count: shared.append(count) or spread(tasks, count)
    )
    cells = problem_cells(PerceptronProblem(4.0, np.linspace(0.2, 1, 9), FixedAngle(0.3)), 20)
    one, two = (simulate_students(cells, 20, 6, 0, processes=count) for count in (1, 2))
    assert np.array_equal(one, two)
    assert shared == [1, 2]


def test_a_script_without_a_guard_and_its_workers_end(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SMALL_SWEEP)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["20", "0"], "")


@pytest.mark.parametrize("signal_sent", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_a_stopped_run(signal_sent: signal.Signals, tmp_path: Path) -> None:
    fractions = " ".join(f"{f:.2f}" for f in np.linspace(0.1, 1, 40))
    arguments = f"run --alpha-total 20 --keep-fraction {fractions} --dim 100 --draws 400"
    with subprocess.Popen(
        [sys.executable, "-m", "sims", *arguments.split(), "--out", str(tmp_path / "a.nc")],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        process = psutil.Process(running.pid)
        deadline = time.monotonic() + 60
        while not process.children(recursive=True) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)
        workers = process.children(recursive=True)
        assert workers
        os.killpg(running.pid, signal_sent) if signal_sent == signal.SIGINT else running.kill()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
