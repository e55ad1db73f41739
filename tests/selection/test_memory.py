"""Peak memory of every method at 200,000 examples against its own formula: no n x n array."""

import subprocess
import sys

from selection import SELECTORS

# Each method first runs on few examples, so that only arrays are left to allocate.
SCRIPT = """
from dataclasses import replace

import numpy as np

from selection import SELECTORS, Pool
from selection.graph import knn_graph

N, D, BUDGET, CLASSES = 200_000, 48, 20, 100

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))

def pool(n):
    rng = np.random.default_rng(0)
    # Far apart groups: their neighbours are found in few cells, in little time.
    centres = 10 * rng.standard_normal((500, D))
    rows = (rng.standard_normal((n, D)) + centres[rng.integers(500, size=n)]).astype(np.float32)
    return Pool.of(scores=rng.random(n), features=rows, labels=rng.integers(CLASSES, size=n),
                   texts=rows, gradients=rows, trajectories=rows)

small, large = pool(1000), pool(N)
graphs = {one: knn_graph(one.features, 5) for one in (small, large)}
outside = {"validation": large.features[:500], "targets": large.labels[:500]}
options = {"sas": {"clusters": 20}, "glister": outside, "facility-location": {"neighbours": 5}}
for name, kind in SELECTORS.items():
    if name == "optimal-window":  # a ranking, whose theory compiles for longer than all this takes
        continue
    method = kind(**options.get(name, {}))
    # InfoMax finds its neighbours itself; the others with such a graph are handed it.
    one, other = (replace(pool, graph=graphs[pool] if name in ("d2", "k-median") else None)
                  for pool in (small, large))
    method.select(one, BUDGET)
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = status("VmRSS")
    method.select(other, BUDGET)
    used = status("VmHWM") - before
    print(name, used, method.memory_bytes(N, D, BUDGET, CLASSES), flush=True)
"""
# Freed memory that the allocator keeps, threads' stacks, code that runs for the first time: not
# much more than one copy of the features in single precision, less than one in double.
SLACK = 48 << 20


def test_no_method_takes_more_memory_than_its_formula() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, _, _ in lines] == [
        name for name in SELECTORS if name != "optimal-window"
    ]
    for name, used, formula in lines:
        assert int(used) <= int(formula) + SLACK, (name, int(used) >> 20, int(formula) >> 20)
        # One byte for each pair would be 40 GB.
        assert int(formula) < 2 << 30, name
