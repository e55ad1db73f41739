"""Starts a command line, and prepares memory allocation for training.

It imports little, so that Ctrl-C is caught even while the first modules are loaded.
"""

import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

INTERRUPTED = 130
# New containers after which Python looks for cycles of dead ones. Imports and JAX's tracing make
# hundreds of thousands that live on; Python's own 700 costs a tenth of a command's processor time.
BETWEEN_COLLECTIONS = 10_000
# Options of mallopt in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def start(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Run a command line and end the process with its exit code.

    Args:
        main: takes the arguments, returns the exit code; what it needs it imports itself.
    """
    gc.set_threshold(BETWEEN_COLLECTIONS)
    # OpenMP, which faiss and torch use, reads this when it is loaded. Threads that spin while they
    # wait take the processor from those they wait for: on a busy machine k-means took twenty times
    # as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for name in ("stdout", "stderr"):
        # Python has None for one that the shell closed, and a file would get its number.
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    try:
        from hardset.cli import run

        code = run(main)
    except KeyboardInterrupt:  # while modules are loaded, or a second one while the first is told
        sys.stderr.write("interrupted\n")
        code = INTERRUPTED
    sys.exit(code)


def keep_freed_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the system.

    Nothing happens where there is no glibc. XLA allocates a step's temporary arrays as one block
    and frees it after the step. If the block is returned to the system, each of its pages is zeroed
    and mapped anew in every step. Call this first of all in a program, before other threads
    allocate. The process keeps its largest size.
    """
    import ctypes  # not for those who do not train

    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):
            mallopt(option, value)
