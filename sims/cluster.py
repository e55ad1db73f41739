"""Solves parts of a sweep on the workers of a dask.distributed scheduler."""

import asyncio
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.float64 import float64
from sims.machine import GIB, default_memory_gb, one_blas_thread
from sims.students import Part, solve_part, split, total_cost

CONNECT_SECONDS = 10
TASKS_AHEAD = 3  # for each thread, so that a worker has the next task while it solves
TASK_ENTRIES = 2**24  # of the matrices that a task solves, a few seconds' work


class Cluster:
    """A connection to a scheduler.

    It is used as a context.

    Args:
        address: of the scheduler, such as tcp://host:8786.

    Raises:
        ValueError: dask.distributed is not installed.
        OSError: nothing answers at the address, or it has no worker.
    """

    def __init__(self, address: str) -> None:
        try:
            self._dask = importlib.import_module("distributed")
        except ImportError:
            raise ValueError(
                "--scheduler needs dask.distributed, which is not installed: "
                "pip install 'hardset[cluster]'"
            ) from None
        self._address = address
        try:
            # A client that finds no scheduler fails to close, so the address is tried first.
            asyncio.run(asyncio.wait_for(self._greet(), CONNECT_SECONDS))
        except (OSError, ValueError) as error:  # of which a timeout is one
            raise OSError(f"no dask scheduler answers at {address}: {_reason(error)}") from None
        self._client = self._dask.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)

    async def _greet(self) -> None:
        comm = await self._dask.core.connect(self._address, timeout=CONNECT_SECONDS)
        await comm.close()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def threads(self) -> int:
        """Return the number of threads of all workers that are there now.

        Raises:
            OSError: there is none within ten seconds.
        """
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError:
            raise OSError(
                f"the dask scheduler at {self._address} has no worker; start one with "
                f"`dask worker {self._address}`"
            ) from None
        return max(sum(self._client.ncores().values()), 1)

    def solve(
        self, parts: Iterator[Part], dim: int, seed: int, solver: str, memory_gb: float | None
    ) -> Iterator[tuple[Part, NDArray[np.void]]]:
        """Yield each part with its records as soon as it is finished.

        The records have the shape (cells, draws). A part whose worker is lost goes to another
        one.

        Args:
            parts: what to solve; see `split_for`.
            dim: N.
            seed: of all random numbers.
            solver: a key of SOLVERS.
            memory_gb: limit of every worker, GiB; default half of its memory.

        Raises:
            OSError: the scheduler is gone, or a part outlives none of several workers.
        """
        running: dict[Any, Part] = {}
        done = self._dask.as_completed(loop=self._client.loop)
        ahead = TASKS_AHEAD * self.threads()

        def submit() -> None:
            for part in parts:
                future = self._client.submit(
                    solve_on_worker, part, dim, seed, solver, memory_gb, pure=False
                )
                running[future] = part
                done.add(future)
                if len(running) >= ahead:
                    return

        try:
            submit()
            while running:
                future = next(done)
                yield running.pop(future), future.result()
                ahead = TASKS_AHEAD * sum(self._client.ncores().values())
                submit()
        except self._dask.KilledWorker as error:
            raise OSError(
                f"one part of the sweep ended several workers, probably for want of memory ({error}"
                "); finished parts are kept in the cache"
            ) from None
        except ModuleNotFoundError as error:
            raise OSError(f"a worker lacks a module: {error}; install hardset on all") from None
        except (self._dask.comm.CommClosedError, self._dask.client.FutureCancelledError) as error:
            raise OSError(
                f"the dask scheduler at {self._address} is gone ({_reason(error)}); finished "
                "parts are kept in the cache"
            ) from None


def _reason(error: BaseException) -> str:
    return (str(error) or f"nothing within {CONNECT_SECONDS} s").splitlines()[0]


def split_for(threads: int, parts: Sequence[Part], dim: int) -> Iterator[Part]:
    """Split parts into tasks of a few seconds.

    A task is at most a quarter of a thread's share of the work.
    """
    limit = min(TASK_ENTRIES, total_cost(parts, dim) / (4 * threads))
    for part in parts:
        yield from split(part, dim, limit)


@float64
def solve_on_worker(
    part: Part, dim: int, seed: int, solver: str, memory_gb: float | None
) -> NDArray[np.void]:
    """Return the records of a part, shape (cells, draws), by one thread of a worker."""
    worker = importlib.import_module("distributed").get_worker()
    allowed = worker.memory_manager.memory_limit  # bytes; None if dask was told not to mind
    free = allowed / 2 / GIB if allowed else default_memory_gb()
    share = (free if memory_gb is None else memory_gb) / worker.state.nthreads
    with one_blas_thread():
        found = dict(solve_part(part, dim, seed, solver, None, 1, share))
    return np.stack([found[name] for name in part.cells])
