"""A selection in random parts of the pool, in this process or as Dask tasks."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from hardset.checks import check_integer
from selection.core.arrays import Integers
from selection.core.classes import proportional
from selection.core.finished import Finished
from selection.core.given import Given
from selection.core.optional import require
from selection.core.pool import Pool
from selection.core.selector import Conditional, Selector, generator
from selection.core.subset import Subset

__all__ = ["Partitioned"]

CONNECT_SECONDS = 10
TASKS_AHEAD = 2  # a thread: parts of the pool that wait in the scheduler's memory

Task = tuple[int, tuple[Any, ...]]  # number, and what `_solve` takes


@dataclass(frozen=True)
class Partitioned(Conditional):
    """`inner` applied to random parts of equal size, each with its part of the budget.

    The parts and their seeds depend on the seed alone: one process, a local cluster and a remote
    one give the same subset. An objective of parts is none of the whole. Given examples are divided
    no further: every part has all of them.

    Args:
        inner: the method.
        parts: number of parts; the authors of InfoMax advise at least a million examples in each.
        scheduler: None works in this process; "local" starts one Dask worker for each processor;
            otherwise the address of a Dask scheduler, such as tcp://host:8786.
        finished: folder in which finished parts are kept. The same selection later, after a kill
            for instance, takes what it finds there; a part is known by its data, given examples,
            method and seed.

    Memory: that of `inner` on one part and a copy of the part; on a cluster this on each worker,
    and two parts a thread in this process.

    Source: Tan et al., arXiv:2506.01701, section 3.2.
    """

    inner: Selector
    parts: int = 1
    scheduler: str | None = None
    finished: str | Path | None = None

    name: ClassVar[str] = "partitioned"

    def __post_init__(self) -> None:
        check_integer("parts", self.parts, 1, 2**31)

    @property
    def compares(self) -> bool:
        """As `inner`."""
        return self.inner.compares

    @property
    def reads(self) -> frozenset[str]:
        """As `inner`."""
        return self.inner.reads

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        if self.parts > budget:
            raise ValueError(
                f"parts = {self.parts} is more than the budget {budget}; every part keeps at least "
                "one example"
            )
        rest = given.rest(len(pool))
        order = rest[generator(seed, 0).permutation(len(rest))]
        groups = [np.sort(rows) for rows in np.array_split(order, self.parts)]
        counts = proportional(groups, budget)
        found: list[Subset | None] = [None] * self.parts
        progress = tqdm(total=self.parts, desc=self.inner.name, unit="part", disable=None)
        if len(given.rows) and self.compares:
            groups = [np.union1d(rows, given.rows) for rows in groups]
        with progress:
            for number, part in self._solved(self._tasks(pool, groups, counts, seed, given)):
                found[number] = part.at(groups[number])
                progress.update()
        parts = [part for part in found if part is not None]
        return Subset.of(
            np.concatenate([part.indices for part in parts]),
            weights=np.concatenate([part.weights for part in parts]),
            requested=budget,
            parts=[{"objective": part.objective, **part.diagnostics} for part in parts],
        )

    def _tasks(
        self, pool: Pool, groups: list[Integers], counts: list[int], seed: int, given: Given
    ) -> Iterator[Task]:
        for number, (rows, count) in enumerate(zip(groups, counts, strict=True)):
            own = int(generator(seed, 1, number).integers(2**62))
            held = given.among(rows, len(pool))
            besides = (held,) if len(held) else ()
            yield number, (self.inner, pool.take(rows), count, own, *besides)

    def _solved(self, tasks: Iterator[Task]) -> Iterator[tuple[int, Subset]]:
        """The parts' subsets as they come, those first that were finished before."""
        solve = self._here if self.scheduler is None else self._on_cluster
        if self.finished is None:
            yield from solve(tasks)
            return
        store = Finished(self.finished)
        places: dict[int, Path] = {}
        known: list[tuple[int, Subset]] = []

        def missing() -> Iterator[Task]:
            for number, work in tasks:
                place = store.path(*work)
                subset = store.read(place)
                if subset is None:
                    places[number] = place
                    yield number, work
                else:
                    known.append((number, subset))

        for number, subset in solve(missing()):
            store.write(places.pop(number), subset)
            yield number, subset
            while known:
                yield known.pop()
        yield from known

    def _here(self, tasks: Iterator[Task]) -> Iterator[tuple[int, Subset]]:
        for number, work in tasks:
            yield number, _solve(*work)

    def _on_cluster(self, tasks: Iterator[Task]) -> Iterator[tuple[int, Subset]]:
        with ExitStack() as stack:
            client = _client(self.scheduler, stack)
            ahead = TASKS_AHEAD * max(sum(client.ncores().values()), 1)
            done = require("distributed", "cluster").as_completed(loop=client.loop)
            numbers: dict[str, int] = {}

            def submit() -> None:
                for number, (inner, part, *more) in islice(tasks, ahead - len(numbers)):
                    there = client.scatter(part, hash=False)
                    future = client.submit(_solve, inner, there, *more, pure=False)
                    numbers[future.key] = number
                    done.add(future)

            submit()
            while numbers:
                future = next(done)
                yield numbers.pop(future.key), future.result()
                submit()

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """One part: its rows in double precision, and what `inner` takes."""
        part, share = -(-n // self.parts), -(-budget // self.parts)
        own = self.inner.memory_bytes(part, d, share, classes)
        return 24 * n + 8 * part * (d + 8) + own + 48 * budget


def _solve(
    inner: Selector, pool: Pool, budget: int, seed: int, given: Given | None = None
) -> Subset:
    return inner.select(pool, budget, seed, given)


def _client(scheduler: str | None, stack: ExitStack) -> Any:
    """A client of the scheduler, or of workers of its own that end with the stack."""
    distributed = require("distributed", "cluster")
    if scheduler == "local":
        cluster = distributed.LocalCluster(threads_per_worker=1, dashboard_address=None)
        stack.enter_context(cluster)
        address = cluster.scheduler_address
    else:
        address = scheduler
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"no Dask scheduler answers at {address}: {error}") from None
    return stack.enter_context(client)
