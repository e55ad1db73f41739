"""Says which processors and how much memory this process may use.

It imports no solver, so that a command that asks does not wait for one.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

GIB = 2**30
SMALL = 2.0**24  # multiplications that one thread does in about a millisecond

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def processors() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0))


def one_blas_thread(multiplications: float = 0.0) -> threadpool_limits:
    """Return a context in which BLAS uses one thread.

    The solves themselves run side by side. BLAS threads beside them spin on a busy machine and cost
    40 times the arithmetic, as they do between small products.

    Args:
        multiplications: of the largest product; above SMALL, BLAS keeps its threads.
    """
    return threadpool_limits(1 if multiplications <= SMALL else None, user_api="blas")


def default_memory_gb(cgroup_limits: Sequence[Path] = CGROUP_LIMITS) -> float:
    """Return half of the memory that this process may use, in GiB.

    That is the memory of the machine or of its container, whichever is less.
    """
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in cgroup_limits:
        try:
            size = min(size, int(path.read_text()))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return size / 2 / GIB
