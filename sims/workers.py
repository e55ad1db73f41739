"""Spreads tasks over this process and worker processes.

Many small solves hold Python's lock, so that threads would only take turns. Workers start while
this process works, and stay for later calls.
"""

import atexit
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pickle import PicklingError
from typing import Generic, TypeVar

import jax
import numpy as np
from loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

from hardset.checks import check_integer

T = TypeVar("T")
IDLE_SECONDS = 60  # after which a worker ends
AHEAD = 2  # tasks of a worker: one runs, one waits
# Workers share the processors with this process: one thread each, whatever BLAS was built with.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # Draws that are held are no leak.
    "LOKY_MAX_MEMORY_LEAK_SIZE": "1e15",
}


def local_devices(count: int | None) -> list[jax.Device | None]:
    """Return the first `count` JAX devices of this process.

    Without `count` the list holds None, which stands for JAX's default device.

    Raises:
        ValueError: `count` is no whole number from 1 to the number of devices.
    """
    if count is None:
        return [None]
    check_integer("devices", count, 1, np.inf)
    there = jax.local_devices()
    if count > len(there):
        raise ValueError(
            f"devices = {count}, but JAX sees {len(there)} of the kind {there[0].platform}; a CPU "
            f"counts as more with XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        )
    return list(there[: int(count)])


def solver_pool(threads: int, devices: Sequence[jax.Device | None]) -> ThreadPoolExecutor:
    """Return a pool of threads that take the devices in turn.

    It has at least one thread for each device.
    """
    turns = itertools.cycle(devices)

    def take_device() -> None:
        device = next(turns)
        if device is not None:
            # A setting of this thread only, for as long as it lives.
            jax.default_device(device).__enter__()

    return ThreadPoolExecutor(max(threads, len(devices)), initializer=take_device)


def in_order(pool: Executor | None, calls: Sequence[Callable[[], T]]) -> Iterator[T]:
    """Yield the results of calls in order.

    A pool computes them ahead; without a pool they are computed one by one.
    """
    if pool is None:
        for call in calls:
            yield call()
        return
    futures = [pool.submit(call) for call in calls]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


Place = tuple[int, int]


_started: list[ProcessPoolExecutor] = []  # starting one takes seconds: they serve later calls, too


class Tasks(Generic[T]):
    """The tasks that are left, in groups that share what a process makes once.

    A process stays with its group until that is done. Then it begins another group. When all are
    begun, it helps with the one of which most is left.
    """

    def __init__(self, groups: Sequence[Sequence[Callable[[], T]]]) -> None:
        self._left = {n: deque(enumerate(group)) for n, group in enumerate(groups) if group}
        self._fresh = deque(self._left)
        self._group: dict[int, int] = {}

    def take(self, process: int) -> tuple[Place, Callable[[], T]] | None:
        """Return a process's next task with its place, or None if none is left."""
        if not self._left:
            return None
        group = self._group.get(process)
        if group not in self._left:
            while self._fresh and self._fresh[0] not in self._left:
                self._fresh.popleft()
            if self._fresh:
                group = self._fresh.popleft()
            else:
                group = max(self._left, key=lambda number: len(self._left[number]))
            self._group[process] = group
        position, task = self._left[group].popleft()
        if not self._left[group]:
            del self._left[group]
        return (group, position), task


def spread(
    groups: Sequence[Sequence[Callable[[], T]]], processes: int
) -> Iterator[tuple[Place, T]]:
    """Yield the results of all tasks as they are finished, with their places.

    A place is (group, position).

    This process works from the start and the workers join it when they are ready. What a worker
    had taken when it was lost, and what cannot be sent to one, is done here.

    Args:
        groups: tasks; see `Tasks`.
        processes: how many work, this one included.

    Raises:
        Exception: what a task raises.
    """
    tasks = Tasks(groups)
    lost: list[tuple[Place, Callable[[], T]]] = []
    running: dict[Future[T], tuple[int, Place, Callable[[], T]]] = {}
    workers = dict(enumerate(_workers(processes - 1), start=1))
    starting = {_submit(worker, _ready): number for number, worker in workers.items()}

    def feed(number: int) -> None:
        taken = tasks.take(number) if number in workers else None
        if taken is not None:
            running[_submit(workers[number], taken[1])] = (number, *taken)

    try:
        while True:
            for ready in [ready for ready in starting if ready.done()]:
                number = starting.pop(ready)
                if isinstance(ready.exception(), BrokenProcessPool):
                    _forget(workers.pop(number, None))
                for _ in range(AHEAD):
                    feed(number)
            mine = lost.pop() if lost else tasks.take(0)
            if mine is not None:
                yield mine[0], mine[1]()
            elif running:
                wait(running, return_when=FIRST_COMPLETED)
            else:
                return
            for future in [future for future in running if future.done()]:
                number, place, task = running.pop(future)
                failure = future.exception()
                if isinstance(failure, BrokenProcessPool):
                    _forget(workers.pop(number, None))
                if isinstance(failure, BrokenProcessPool | PicklingError):
                    lost.append((place, task))
                else:
                    yield place, future.result()
                feed(number)
    finally:
        for future in running:
            future.cancel()


def _ready() -> None:
    """Answer that the worker has started."""


def _end_with(parent: int) -> None:
    """End this worker when its parent has been killed.

    Otherwise it would end only when it has been idle.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _workers(count: int) -> list[ProcessPoolExecutor]:
    """Return `count` workers, and start those that are missing.

    Each is a pool of one process, with which a group of tasks can stay.
    """
    if multiprocessing.current_process().daemon:  # which may not have children
        return []
    while len(_started) < count:
        _started.append(
            ProcessPoolExecutor(
                1,
                timeout=IDLE_SECONDS,
                env=ENVIRONMENT,
                initializer=_end_with,
                initargs=(os.getpid(),),
            )
        )
    return _started[:count]


@atexit.register
def _end_all() -> None:
    for worker in _started:
        worker.shutdown(kill_workers=True)


def _forget(worker: ProcessPoolExecutor | None) -> None:
    if worker in _started:
        _started.remove(worker)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Block Ctrl-C while a worker may start.

    The worker inherits the block, since Ctrl-C is meant for this process alone.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it, Python lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _submit(worker: ProcessPoolExecutor, task: Callable[[], T]) -> Future[T]:
    """Submit a task to a worker and return its future.

    If the worker is gone, the future holds that error.
    """
    try:
        with _interrupts_held_back():
            return worker.submit(task)
    except (RuntimeError, OSError) as error:
        broken: Future[T] = Future()
        broken.set_exception(BrokenProcessPool(str(error)))
        return broken
