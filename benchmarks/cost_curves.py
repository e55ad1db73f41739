"""What a sweep costs: processor time against N, P, draws and grid size, and memory.

    python benchmarks/cost_curves.py [--quick]

Processor seconds of one thread, so that other work on the machine matters little. Exponents are
least squares in the logarithms. Memory: the sweep's own estimate, by which `memory_gb` is checked,
beside the growth of the resident set of a new process that runs it.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import replica
from sims.cells import identity, problem_cells
from sims.draws import draw_rows
from sims.machine import one_blas_thread
from sims.memory import call_bytes, chunk_ranges, draw_bytes, result_bytes
from sims.sweep import simulate_students
from theory import FixedAngle, PerceptronProblem

SECONDS = 0.5  # of repetitions a measurement, at least

# N, alpha_total, cells (values of f), draws of the sweeps whose memory is measured.
MEMORY = ((30, 100.0, 12, 50), (100, 100.0, 4, 20), (200, 50.0, 2, 10), (200, 500.0, 1, 2))


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of one run of `work`, the best of several; the first one warms up."""
    work()
    times: list[float] = []
    while sum(times) < SECONDS:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def sweep(dim: int, alphas: Sequence[float], fractions: Sequence[float], draws: int) -> None:
    """Hard selection at 10 degrees by one thread."""
    problem = PerceptronProblem.grid(
        alpha_total=list(alphas), keep_fraction=list(fractions), theta=np.deg2rad(10.0)
    )
    simulate_students(problem_cells(problem, dim), dim, draws, 0, processes=1)


def curve(
    title: str, values: Sequence[float], unit: str, measure: Callable[[float], float]
) -> None:
    """Print a measurement a value, and the exponent."""
    found = [measure(value) for value in values]
    slope = np.polyfit(np.log(values), np.log(found), 1)[0]
    late = np.log(found[-1] / found[-2]) / np.log(values[-1] / values[-2])
    print(f"\n{title}: exponent {slope:.2f}, {late:.2f} between the last two")
    for value, seconds in zip(values, found, strict=True):
        print(f"  {value:>8g}  {1e3 * seconds:10.3f} ms {unit}", flush=True)


def time_curves(*, quick: bool) -> None:
    """Print the cost of draws, students, sweeps and theory."""
    draws = 4 if quick else 10

    def student(dim: float, kept: float) -> float:
        alpha = kept / dim / 0.5
        return processor_seconds(lambda: sweep(int(dim), [alpha], [0.5], draws)) / draws

    counts = [200, 800, 3200] if quick else [200, 400, 800, 1600, 3200, 6400, 12800]
    dims = [25, 50, 100] if quick else [25, 50, 100, 200, 400]
    curve("students against P, N = 200, f = 0.5", counts, "each", lambda p: student(200, p))
    curve("students against P, N = 30, f = 0.5", counts, "each", lambda p: student(30, p))
    curve("students against N, P = 5 N, f = 0.5", dims, "each", lambda n: student(n, 5 * n))
    rows = [1000, 4000, 16000]
    curve(
        "draws against rows, N = 200",
        rows,
        "each",
        lambda p: processor_seconds(lambda: draw_rows(0, 200, 0, int(p))),
    )
    curve(
        "sweeps against draws, N = 30, alpha_t = 10, 6 values of f",
        [5, 10, 20, 40],
        "in all",
        lambda n: processor_seconds(lambda: sweep(30, [10.0], np.geomspace(0.1, 1, 6), int(n))),
    )
    curve(
        "sweeps against cells, N = 30, alpha_t = 10, 10 draws",
        [2, 8, 32],
        "in all",
        lambda n: processor_seconds(lambda: sweep(30, [10.0], np.geomspace(0.1, 1, int(n)), 10)),
    )
    curve(
        "theory against points",
        [100, 1000] if quick else [100, 1000, 10000],
        "in all",
        lambda n: processor_seconds(
            lambda: replica.solve(
                PerceptronProblem(10.0, np.geomspace(0.01, 1, int(n)), FixedAngle.degrees(10.0))
            )
        ),
    )


def memory_child(dim: int, alpha: float, fractions: int, draws: int) -> None:
    """Run a sweep and print its estimate and the growth of the peak, in bytes."""
    problem = PerceptronProblem.grid(
        alpha_total=alpha, keep_fraction=np.geomspace(0.1, 1, fractions), theta=np.deg2rad(10.0)
    )
    cells = problem_cells(problem, dim)
    simulate_students(problem_cells(PerceptronProblem(3.0, 0.5), 10), 10, 2, 0, processes=1)
    unique = len({identity(cell) for cell in cells})
    held = len(chunk_ranges(cells[0].distinct, dim, draws)[0])
    estimate = result_bytes(len(cells), unique, draws) + held * draw_bytes(cells, dim)
    before, peaks, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peaks.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    simulate_students(cells, dim, draws, 0, processes=1)
    done.set()
    watcher.join()
    print(json.dumps([estimate + call_bytes(cells, dim, held, 1), max(peaks) - before]))


def resident() -> int:
    """Resident set of this process now, bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory() -> None:
    """Print estimated and measured memory."""
    print(
        "\nmemory in MiB: 264 B a student and cell for results; 8 (P (N + 1) + 3 P a probe) B for"
        "\neach draw that is held; the calls' matrices and the solver's work"
    )
    for case in MEMORY:
        command = [sys.executable, __file__, "--memory", *map(str, case)]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        estimate, measured = (value / 2**20 for value in json.loads(found))
        print(
            f"  N = {case[0]}, alpha_t = {case[1]:g}, {case[2]} cells, {case[3]} draws: estimate "
            f"{estimate:.0f}, measured {measured:.0f}",
            flush=True,
        )


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller sizes")
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        dim, alpha, fractions, draws = options.memory
        memory_child(int(dim), float(alpha), int(fractions), int(draws))
        return
    with one_blas_thread():
        time_curves(quick=options.quick)
    memory()


if __name__ == "__main__":
    main()
