"""Keeps freed memory in the process, for steps on a processor."""

import ctypes
import sys

# Options of mallopt in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory instead of returning it to the system; elsewhere a no-op.

    XLA allocates a step's temporary arrays as one block and frees it after the step; returned to
    the system, each of its pages is zeroed and mapped anew in every step. To be called before
    other threads allocate, so first of all in a program. The process keeps its largest size.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):
            mallopt(option, value)
