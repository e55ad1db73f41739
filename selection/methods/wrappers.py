"""Puts any method under conditions.

The conditions are partitions, a proxy, quotas, a cut-off and lists.
"""

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from hardset.cache import Cache
from hardset.checks import check_choice, check_integer, check_range, require
from hardset.progress import bar
from selection.arrays import Floats, Integers
from selection.files import check_writable, read_subset, write_subset
from selection.given import Given, largest_remainder, proportional
from selection.pool import Pool, Scores
from selection.selector import Conditional, Selector, generator, select_among
from selection.subset import Subset

CONNECT_SECONDS = 10
SCHEMA = 2  # of finished parts; to be raised when the same input gives another subset
TASKS_AHEAD = 2  # a thread: parts of the pool that wait in the scheduler's memory

Partition = Literal["labels", "groups"]
Task = tuple[int, tuple[Any, ...]]  # number, and what `_solve` takes


@dataclass(frozen=True, eq=False)
class Wrapper(Conditional):
    """Puts a method under a condition.

    What it compares and reads is what the wrapped method does, unless a condition says otherwise.

    Args:
        inner: the method.
    """

    inner: Selector

    @property
    def compares(self) -> bool:
        """Say whether `inner` counts given examples as picked."""
        return self.inner.compares

    @property
    def reads(self) -> frozenset[str]:
        """Return the fields that `inner` reads.

        A condition may say otherwise.
        """
        return self.inner.reads


@dataclass(frozen=True)
class Partitioned(Wrapper):
    """Applies `inner` to random parts of equal size.

    Each part has its part of the budget.

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

    parts: int = 1
    scheduler: str | None = None
    finished: str | Path | None = None

    name: ClassVar[str] = "partitioned"

    def __post_init__(self) -> None:
        check_integer("parts", self.parts, 1, 2**31)

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
        progress = bar(self.parts, self.inner.name, "part")
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
        """Return the parts' subsets as they come.

        Those that were finished before come first.
        """
        solve = self._here if self.scheduler is None else self._on_cluster
        if self.finished is None:
            yield from solve(tasks)
            return
        folder = check_writable(self.finished)
        stores: list[Cache[Subset]] = []

        def store() -> Cache[Subset]:
            # The folder is made for the first part that is stored. A refused call leaves none.
            if not stores:
                stores.append(Cache(folder, ".parquet", read_subset, _write_subset))
            return stores[0]

        keys: dict[int, str] = {}
        known: list[tuple[int, Subset]] = []

        def missing() -> Iterator[Task]:
            for number, work in tasks:
                key = _key_of(work)
                subset = store().load(key) if folder.is_dir() else None
                if subset is None:
                    keys[number] = key
                    yield number, work
                else:
                    known.append((number, subset))

        for number, subset in solve(missing()):
            store().store(keys.pop(number), subset)
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
        """Bound the bytes of one part and of `inner` on it.

        The rows of the part have double precision.
        """
        part, share = -(-n // self.parts), -(-budget // self.parts)
        own = self.inner.memory_bytes(part, d, share, classes)
        return 24 * n + 8 * part * (d + 8) + own + 48 * budget


def _solve(
    inner: Selector, pool: Pool, budget: int, seed: int, given: Given | None = None
) -> Subset:
    return inner.select(pool, budget, seed, given)


def _key_of(work: tuple[Any, ...]) -> str:
    """Tell a part from all others by all that its subset is made from.

    Raises:
        ValueError: a value that cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        stream = pickle.dumps(
            (SCHEMA, np.__version__, work), protocol=5, buffer_callback=buffers.append
        )
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"finished parts cannot be told apart: {error}") from None
    digest = hashlib.blake2b(stream, digest_size=16)
    for buffer in buffers:
        digest.update(buffer.raw())
    return digest.hexdigest()


def _write_subset(path: Path, subset: Subset) -> None:
    path.unlink(missing_ok=True)  # a damaged one
    try:
        write_subset(path, subset)
    except ValueError:
        if not path.exists():  # else another process has been faster
            raise


def _client(scheduler: str | None, stack: ExitStack) -> Any:
    """Open a client of the scheduler, or of workers of its own.

    Its own workers end with the stack.
    """
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


@dataclass(frozen=True, eq=False)
class ViaProxy(Wrapper):
    """Applies `inner` with the scores of a smaller model.

    They stand in the place of the pool's scores.

    Scores belong to ids, so that wrappers that show a part of the pool change nothing. Given
    examples from outside the pool have none.

    Args:
        inner: the method.
        scores: of the smaller model, for every id of the pool at least.
        ids: which example each score belongs to; default 0 ... n-1, the ids of a pool without any.

    Memory: that of `inner`, and 24 bytes a score.

    Source: Coleman et al., Selection via proxy, ICLR 2020, arXiv:1906.11829.
    """

    scores: Scores
    ids: ArrayLike | None = None

    name: ClassVar[str] = "via-proxy"

    @property
    def reads(self) -> frozenset[str]:
        """Return the fields that `inner` reads, without the scores."""
        return self.inner.reads - {"scores"}

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        known = Pool.of(scores=self.scores, ids=self.ids)
        order = np.argsort(known.ids)
        if known.ids.dtype.kind != pool.ids.dtype.kind:
            raise ValueError(
                "the ids of the proxy's scores and of the pool are not of one kind, "
                "integers or strings; give ViaProxy(ids=...)"
            )
        place = np.searchsorted(known.ids, pool.ids, sorter=order)
        rows = order[np.minimum(place, len(order) - 1)]
        missing = known.ids[rows] != pool.ids
        if np.any(missing):
            raise ValueError(
                f"the proxy has no score of the example {pool.ids[np.argmax(missing)]!s}; it has "
                f"{len(known)} scores, the pool {len(pool)} examples"
            )
        if given.outside is not None:
            given = Given(given.rows, replace(given.outside, scores=None))
        scored = replace(pool, scores=self.scores.take(rows))
        return self.inner.select(scored, budget, seed, given)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of `inner` and of the order of the scores."""
        return self.inner.memory_bytes(n, d, budget, classes) + 24 * len(self.scores)


@dataclass(frozen=True)
class Quotas(Wrapper):
    """Applies `inner` within every class or group.

    Each has its own part of the budget.

    Parts are rounded by the largest remainder; a class smaller than its part gives all it has.
    Proportional parts of small classes may be 0; the diagnostics hold the parts. Given examples
    count for none of them: sizes and shares are those of the others. `inner` sees the given
    examples of the class, and those from outside whose class is not known.

    Args:
        inner: the method.
        by: "labels" or "groups", a field of the pool.
        shares: "equal" numbers, "proportional" to the sizes, or a mapping from the class to its
            share >= 0, classes that are not in it get nothing.
        expected: classes that must be there; default those of the pool.

    Memory: that of `inner` on the largest class, and a copy of its rows of the pool.
    """

    by: Partition = "labels"
    shares: Literal["equal", "proportional"] | Mapping[int, float] = "equal"
    expected: tuple[int, ...] | None = None

    name: ClassVar[str] = "quotas"

    def __post_init__(self) -> None:
        check_choice("by", self.by, get_args(Partition))
        if isinstance(self.shares, str) and self.shares not in ("equal", "proportional"):
            raise ValueError(f"shares = {self.shares!r} is not equal, proportional or a mapping")

    @property
    def reads(self) -> frozenset[str]:
        """Return the fields that `inner` reads, and the partition."""
        return self.inner.reads | {self.by}

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        whole = getattr(pool, self.by)
        if whole is None:
            raise ValueError(f"quotas need {self.by}, which the pool lacks")
        left = np.ones(len(pool), dtype=bool)
        left[given.rows] = False
        partition = whole if not len(given.rows) else whole[left]
        found, starts, sizes = np.unique(partition, return_index=True, return_counts=True)
        for one in self.expected or ():
            if one not in whole:
                raise ValueError(f"{self.by} {one} has no example among the {len(pool)} candidates")
        counts = largest_remainder(self._shares(whole, found, sizes), budget, sizes)
        if self.shares == "equal" and not np.all(counts):
            raise ValueError(
                f"budget = {budget} leaves nothing for {self.by} {found[np.argmin(counts)]}; "
                f"{len(found)} of them with equal shares need a larger one"
            )
        parts = []
        # Classes go by their first example, so that their names have no part in the answer.
        for number, place in enumerate(np.argsort(starts)):
            if counts[place]:
                rows = np.flatnonzero((whole == found[place]) & left)
                own_seed = int(generator(seed, number).integers(2**62))
                held = given.of_class(self.by, found[place])
                own = Given(held.rows[whole[held.rows] == found[place]], held.outside)
                count = int(counts[place])
                parts.append(select_among(self.inner, pool, rows, count, own_seed, own))
        quotas = {str(one): int(count) for one, count in zip(found, counts, strict=True)}
        return _joined(parts, budget, quotas=quotas)

    def _shares(self, whole: Integers, found: Integers, sizes: Integers) -> Floats:
        if self.shares == "equal":
            return np.ones(len(found))
        if self.shares == "proportional":
            return sizes.astype(np.float64)
        assert isinstance(self.shares, Mapping)
        for one in self.shares:
            if one not in whole:
                raise ValueError(f"{self.by} {one} has a share but no example in the pool")
        return np.array([float(self.shares.get(int(one), 0.0)) for one in found])

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of one class and of `inner` on it.

        The rows of the class have double precision.
        """
        part = -(-n // classes)
        return 16 * n + 8 * part * (d + 4) + self.inner.memory_bytes(part, d, budget) + 48 * budget


@dataclass(frozen=True)
class DRoP(Wrapper):
    """Applies `inner` within every class, and gives more to the classes of high error.

    Class k of N_k examples with the error e_k is kept at the density c e_k, so that its part of the
    budget is in proportion to N_k e_k. A class whose part is larger than itself is kept whole, and
    the others share what is left in the same proportions. Parts are rounded as those of `Quotas`.
    Classes without an error of their own get nothing, and given examples count for none.

    Args:
        inner: the method; `RandomSample` for the method of the authors.
        errors: of each class, 1 - recall of a model on validation data, in [0, 1].
        by: "labels" or "groups", the field of the pool that holds the classes.

    Memory: that of `Quotas`.

    Raises:
        ValueError: an error outside [0, 1], a class that has an error but no example, classes with
            errors above 0 that hold fewer examples than the budget.

    Source: Vysogorets, Ahuja and Kempe, DRoP: distributionally robust data pruning,
    arXiv:2404.05579, algorithm 1.
    """

    errors: Mapping[int, float]
    by: Partition = "labels"

    name: ClassVar[str] = "drop"

    def __post_init__(self) -> None:
        check_choice("by", self.by, get_args(Partition))
        for one, error in self.errors.items():
            check_range(f"errors of {one}", error, 0.0, 1.0)

    @property
    def reads(self) -> frozenset[str]:
        """Return the fields that `inner` reads, and the partition."""
        return self.inner.reads | {self.by}

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        partition = getattr(pool, self.by)
        if partition is None:
            raise ValueError(f"DRoP needs {self.by}, which the pool lacks")
        found, sizes = np.unique(partition[given.rest(len(pool))], return_counts=True)
        known = dict(zip(found.tolist(), sizes.tolist(), strict=True))
        shares = {one: known.get(one, 0) * error for one, error in self.errors.items()}
        return Quotas(self.inner, self.by, shares).select(pool, budget, seed, given)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of `Quotas` and of the classes' sizes."""
        return 16 * n + Quotas(self.inner, self.by).memory_bytes(n, d, budget, classes)


@dataclass(frozen=True)
class Cutoff(Wrapper):
    """Applies `inner` without the examples that are most likely mislabelled.

    The floor(fraction * n) most likely ones are left out.

    They are those of highest `mislabel` score, or of highest score in a pool without one. Given
    examples are neither counted nor dropped.

    Args:
        inner: the method.
        fraction: share that is dropped, in [0, 1).

    Memory: that of `inner` on the rest, and a copy of its rows of the pool.
    """

    fraction: float

    name: ClassVar[str] = "cutoff"

    def __post_init__(self) -> None:
        check_range("fraction", self.fraction, 0.0, 1.0, open_high=True)

    @property
    def reads(self) -> frozenset[str]:
        """Return the fields that `inner` reads, and the likelihood of wrong labels."""
        return self.inner.reads | {"mislabel", "scores"}

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        suspicion = pool.mislabel or pool.scores
        if suspicion is None:
            raise ValueError("a cut-off needs mislabel or scores, which the pool lacks")
        rest = given.rest(len(pool))
        n = len(rest)
        dropped = int(np.floor(self.fraction * n))
        if n - dropped < budget:
            raise ValueError(
                f"a cut-off of {self.fraction:g} drops {dropped} of {n} examples and leaves "
                f"{n - dropped}, fewer than the budget {budget}"
            )
        rows = np.sort(rest[np.argsort(-suspicion.values[rest], kind="stable")[dropped:]])
        return select_among(self.inner, pool, rows, budget, seed, given)

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of the order, the remaining rows and `inner`.

        The rows that stay have double precision.
        """
        return 32 * n + 8 * n * (d + 4) + self.inner.memory_bytes(n, d, budget, classes)


@dataclass(frozen=True)
class Listed(Wrapper):
    """Keeps `include` first, in its order, then what `inner` picks without `exclude`.

    `inner` counts the included examples, and those that are given, as kept already. Included ones
    have weight 1.

    Args:
        inner: the method.
        include: ids that must be kept.
        exclude: ids that must not.

    Memory: that of `inner`, and a copy of its rows of the pool.
    """

    include: tuple[int | str, ...] = field(default=())
    exclude: tuple[int | str, ...] = field(default=())

    name: ClassVar[str] = "listed"

    def __post_init__(self) -> None:
        for one in self.include:
            if one in self.exclude:
                raise ValueError(f"id {one!r} is both included and excluded")
        if len(set(self.include)) < len(self.include):
            raise ValueError("include holds an id more than once")

    def _select_given(self, pool: Pool, budget: int, seed: int, given: Given) -> Subset:
        first, away = (_rows(pool, name, getattr(self, name)) for name in ("include", "exclude"))
        if len(first) > budget:
            raise ValueError(f"include holds {len(first)} ids, more than the budget {budget}")
        again = np.isin(first, given.rows)
        if np.any(again):
            raise ValueError(
                f"include holds the id {self.include[int(np.argmax(again))]!r}, which is given "
                "already"
            )
        kept = np.union1d(first, given.rows)
        there = np.ones(len(pool), dtype=bool)
        there[away] = there[kept] = False
        rows = np.flatnonzero(there)
        left = budget - len(first)
        if left > len(rows):
            raise ValueError(
                f"include and exclude leave {len(rows)} examples, fewer than the {left} "
                f"that the budget {budget} still asks for"
            )
        parts = [Subset.of(first, requested=len(first))] if len(first) else []
        if left:
            held = Given(kept, given.outside)
            parts.append(select_among(self.inner, pool, rows, left, seed, held))
        return _joined(parts, budget, included=len(first))

    def memory_bytes(self, n: int, d: int = 0, budget: int = 0, classes: int = 1) -> int:
        """Bound the bytes of the remaining rows and of `inner`.

        The rows that stay have double precision.
        """
        return 16 * n + 8 * n * (d + 4) + self.inner.memory_bytes(n, d, budget, classes)


def _rows(pool: Pool, name: str, wanted: tuple[int | str, ...]) -> Integers:
    """Find the rows of ids in a pool that is sorted by them.

    They stand in the order of the list.
    """
    rows = np.empty(len(wanted), np.int64)
    words = pool.ids.dtype.kind == "U"
    for place, one in enumerate(wanted):
        row = int(np.searchsorted(pool.ids, one)) if isinstance(one, str) == words else len(pool)
        if row == len(pool) or pool.ids[row] != one:
            raise ValueError(f"{name} holds the id {one!r}, which the pool lacks")
        rows[place] = row
    return rows


def _joined(parts: list[Subset], budget: int, **diagnostics: Any) -> Subset:
    """Join one subset after the other.

    An objective of parts is no objective of the whole, and is left out.
    """
    return Subset.of(
        np.concatenate([part.indices for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        requested=budget,
        parts=[dict(part.diagnostics) for part in parts if part.diagnostics],
        **diagnostics,
    )
