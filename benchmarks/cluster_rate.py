"""Cells a second of a sweep on a dask.distributed cluster, and the time of a million cells.

    python benchmarks/cluster_rate.py [--workers 2] [--scheduler ADDRESS]

Without an address it starts worker processes of its own. The same cells by this process alone, one
thread, are the yardstick.
"""

import argparse
import os
import time
from contextlib import nullcontext

import numpy as np
from distributed import Client, LocalCluster

import sims
from theory import PerceptronProblem

MILLION = 1e6
# Dimension, draws, and what the grid's ends are.
DIM, DRAWS = 50, 20
ALPHAS, FRACTIONS, ANGLES = np.geomspace(2, 50, 10), np.geomspace(0.05, 1, 10), (0.0, 0.2, 0.4, 0.6)
SHARE_ALONE = 5  # this process alone does every fifth alpha_t


def grid(alphas: np.ndarray) -> PerceptronProblem:
    """The benchmark's cells for some alpha_t."""
    return PerceptronProblem.grid(alpha_total=alphas, keep_fraction=FRACTIONS, theta=ANGLES)


def main() -> None:
    """Print rates and the prediction."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scheduler", metavar="ADDRESS")
    options = parser.parse_args()
    own = {"n_workers": options.workers, "threads_per_worker": 1, "dashboard_address": None}
    problem = grid(ALPHAS)
    cells = int(np.prod(problem.shape))
    with nullcontext() if options.scheduler else LocalCluster(**own) as cluster:
        address = options.scheduler or cluster.scheduler_address
        with Client(address, set_as_default=False) as client:
            threads = sum(client.ncores().values())
            for seed in (1, 0):  # the workers import in the first one
                used, start = processor_seconds(client), time.perf_counter()
                sims.run(problem, DIM, DRAWS, seed, scheduler=address)
                seconds = time.perf_counter() - start
                used = processor_seconds(client) - used
    start = time.process_time()
    sims.run(grid(ALPHAS[::SHARE_ALONE]), DIM, DRAWS)
    alone = (time.process_time() - start) * SHARE_ALONE
    print(
        f"{cells} cells of {DRAWS} draws, N = {DIM}, alpha_t {ALPHAS[0]:g} to {ALPHAS[-1]:g}, load "
        f"average {os.getloadavg()[0]:.1f}: {seconds:.1f} s on {threads} threads"
    )
    print(
        f"processor time: workers {used:.1f} s, {cells / used:.1f} cells/s a thread; this process "
        f"alone {alone:.1f} s for as many"
    )
    hours = [MILLION / cells * used / count / 3600 for count in (1, 100, 500)]
    print("a million cells on 1, 100, 500 threads: {:.3g}, {:.2g}, {:.2g} h".format(*hours))


def processor_seconds(client: Client) -> float:
    """Processor time of all workers so far."""
    return float(sum(client.run(time.process_time).values()))


if __name__ == "__main__":
    main()
