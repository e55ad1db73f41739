"""Measures what students of fewer rows lose on held-out rows."""

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np

from selection.advice.bound import increase_bound, mean_bound, rows_for_certificate
from selection.advice.folds import fold_numbers
from selection.advice.paths import kept_rows
from selection.advice.students import Answer, Students, hardness_margin
from selection.arrays import Array, Floats, Integers
from selection.selector import generator

# Random choices of one seed: each kind has a stream of its own.
OUTER, NESTED, KEPT, LAST = range(4)


@dataclass(frozen=True, eq=False)
class Measurement:
    """Says what one policy costs at one kept fraction, by nested cross validation.

    Attributes:
        policy: which rows are kept, a key of `selection.advice.paths.MEANINGS`.
        keep_fraction: of the rows that a student is trained on.
        only_all: rows that only the student of all data gets right, by fold and true class,
            shape (K, C).
        only_kept: rows that only the student of the kept rows gets right, shape (K, C).
        rows: held-out rows that both were tried on, shape (K, C).
        error: error of the students of the kept rows.
        increase: `error` less that of the students of all data.
        bound: upper bound of the true increase at the level `failure`.
        failure: level of the bound.
    """

    policy: str
    keep_fraction: float
    only_all: Integers
    only_kept: Integers
    rows: Integers
    error: float
    increase: float
    bound: float
    failure: float


@dataclass(frozen=True)
class LastCheck:
    """Says how the student that will be handed over does on the rows thrown away.

    Attributes:
        extra_errors: errors of the student of the kept rows there, less those of students of all
            data that were not trained on the row in question.
        thrown_away: rows that are not kept.
        increase: the extra errors over all rows, or the mean over classes of those of a class over
            its rows.
        passed: whether the increase is within the tolerance.
    """

    extra_errors: int
    thrown_away: int
    increase: float
    passed: bool


class Trial:
    """Tries students of kept rows against students of all data on the same held-out rows.

    The rows are cut into K stratified folds. Inside each training part, nested folds give every row
    a margin by a student that has not seen it; a policy ranks by these, a student is trained on
    what it keeps, and both students answer the held-out fold.
    """

    def __init__(
        self,
        students: Students,
        codes: Integers,
        *,
        folds: int,
        balanced: bool,
        seed: int,
        store: MutableMapping[str, Array],
        groups: Integers | None = None,
        advance: Callable[[str], object] = lambda what: None,
    ) -> None:
        """Train the students of all data, and rank every training part.

        Args:
            students: trains and asks.
            codes: class positions, shape (n,).
            folds: K, at least 2.
            balanced: whether errors are means over classes.
            seed: of folds and of what is kept at random.
            store: finished work by name, which is not repeated; new work is added.
            groups: group positions, shape (n,): rows of a group are dependent, lie in one fold, and
                count as one row in a bound.
            advance: called after each of K + 1 pieces of work with its name.

        Raises:
            ValueError: a fold without a class whose error is asked for.
        """
        self.students, self.codes, self.folds = students, codes, folds
        self.balanced, self.seed, self.store = balanced, seed, store
        self.groups = groups
        number = fold_numbers(codes, folds, generator(seed, OUTER), groups)
        self.tests = [np.flatnonzero(number == fold) for fold in range(folds)]
        self.trains = [np.flatnonzero(number != fold) for fold in range(folds)]
        for fold, rows in enumerate(self.tests):
            counts = np.bincount(codes[rows], minlength=students.classes)
            if balanced and not np.all(counts):
                raise ValueError(
                    f"groups: fold {fold} of {folds} has no row of the class at position "
                    f"{int(np.argmin(counts))}; a balanced error needs each class in each fold, so "
                    "ask for fewer folds"
                )
        self._answer_all(advance)
        self._nested = [self._rank(fold, advance) for fold in range(folds)]

    def _answer_all(self, advance: Callable[[str], object]) -> None:
        """Let students of all data answer for the fold that they have not seen."""
        if "answers" not in self.store or "values" not in self.store:
            found = self.students.answers(self.trains, self.tests)
            labels = np.empty(len(self.codes), np.int64)
            values = np.empty((len(self.codes), *found[0].values.shape[1:]))
            for rows, answer in zip(self.tests, found, strict=True):
                labels[rows], values[rows] = answer
            self.store["answers"], self.store["values"] = labels, values
        self.labels = np.asarray(self.store["answers"])
        self.values = np.asarray(self.store["values"])
        self.right = self.labels == self.codes
        advance("all data")

    def _rank(self, fold: int, advance: Callable[[str], object]) -> Floats:
        """Rank a training part by students of it that have not seen a row."""
        name = f"nested {fold}"
        if name not in self.store:
            train = self.trains[fold]
            groups = None if self.groups is None else self.groups[train]
            random = generator(self.seed, NESTED, fold)
            number = fold_numbers(self.codes[train], self.folds, random, groups)
            places = [np.flatnonzero(number == j) for j in range(self.folds)]
            learnt = [train[number != j] for j in range(self.folds)]
            found = self.students.answers(learnt, [train[rows] for rows in places])
            values = np.empty((len(train), *self.values.shape[1:]))
            for rows, answer in zip(places, found, strict=True):
                values[rows] = answer.values
            self.store[name] = values
        advance(f"ranking {fold + 1} of {self.folds}")
        return np.asarray(self.store[name])

    def error(self) -> float:
        """Return the cross-validated error of students of all data."""
        wrong = [np.bincount(self.codes[~self.right], minlength=self.students.classes)]
        return self._mean(np.array(wrong), self._rows()[None])

    def measure(
        self, policies: Sequence[str], keep_fraction: float, failures: Sequence[float]
    ) -> list[Measurement]:
        """Try policies at one kept fraction, each with the level of its bound."""
        missing = [one for one in policies if _step(one, keep_fraction) not in self.store]
        lanes = [
            (policy, train[self.kept(policy, keep_fraction, fold)], test)
            for policy in missing
            for fold, (train, test) in enumerate(zip(self.trains, self.tests, strict=True))
        ]
        if lanes:
            _, kept, tests = map(list, zip(*lanes, strict=True))
            found = iter(self.students.answers(kept, tests))
            for policy in missing:
                counts = [self._compare(rows, next(found)) for rows in self.tests]
                self.store[_step(policy, keep_fraction)] = np.stack(counts, axis=1)
        return [
            self._measurement(policy, keep_fraction, failure)
            for policy, failure in zip(policies, failures, strict=True)
        ]

    def kept(self, policy: str, keep_fraction: float, fold: int) -> Integers:
        """List the positions in a training part that a policy keeps."""
        values, codes = self._nested[fold], self.codes[self.trains[fold]]
        random = generator(self.seed, KEPT, fold)
        return _kept(policy, values, codes, keep_fraction, random)

    def handed_over(self, policy: str, keep_fraction: float) -> Integers:
        """List the rows of the whole table that a policy keeps."""
        random = generator(self.seed, LAST)
        return _kept(policy, self.values, self.codes, keep_fraction, random)

    def last_check(self, policy: str, keep_fraction: float, tolerance: float) -> LastCheck:
        """Try the student that will be handed over on the rows thrown away."""
        kept = self.handed_over(policy, keep_fraction)
        away = np.setdiff1d(np.arange(len(self.codes)), kept)
        name = f"last {_step(policy, keep_fraction)}"
        if name not in self.store:
            (found,) = self.students.answers([kept], [away])
            self.store[name] = self._compare(away, found)
        lost, won, _ = np.asarray(self.store[name])
        extra = lost - won
        increase = self._mean(extra[None], self._rows()[None])
        return LastCheck(int(extra.sum()), len(away), increase, increase <= tolerance)

    def rows_needed(self, found: Measurement, tolerance: float) -> float:
        """Estimate how many rows would certify what was measured; infinity where none would."""
        needed = [
            rows_for_certificate(lost, won, rows, tolerance, found.failure) / np.sum(rows)
            for lost, won, rows in self._strata(found.only_all, found.only_kept, found.rows)
        ]
        return len(self.codes) * float(max(needed))

    def _strata(
        self, lost: Integers, won: Integers, rows: Integers
    ) -> list[tuple[Floats, Floats, Floats]]:
        """List what is bounded: counts by fold of all rows, or of each class.

        A group counts as one row.
        """
        counts = np.stack([lost, won, rows]).astype(np.float64)
        if not self.balanced:
            counts = counts.sum(axis=2, keepdims=True)
        if self.groups is not None:
            counts *= self._group_counts() / counts[2]
        return [(one[0], one[1], one[2]) for one in np.moveaxis(counts, 2, 0)]

    def _group_counts(self) -> Integers:
        """Count the groups in each fold, (K, 1), or of each class, (K, C)."""
        assert self.groups is not None
        if not self.balanced:
            return np.array([[len(np.unique(self.groups[rows]))] for rows in self.tests])
        everyone = range(self.students.classes)
        return np.array(
            [
                [len(np.unique(self.groups[rows[self.codes[rows] == one]])) for one in everyone]
                for rows in self.tests
            ]
        )

    def _rows(self) -> Integers:
        return np.bincount(self.codes, minlength=self.students.classes)

    def _compare(self, rows: Integers, found: Answer) -> Integers:
        """Count the rows that one student alone gets right, by class: (3, C)."""
        codes, right = self.codes[rows], found.labels == self.codes[rows]
        only_all, only_kept = self.right[rows] & ~right, right & ~self.right[rows]
        classes = self.students.classes
        return np.stack(
            [np.bincount(codes[which], minlength=classes) for which in (only_all, only_kept)]
            + [np.bincount(codes, minlength=classes)]
        )

    def _mean(self, counts: Integers, rows: Integers) -> float:
        """Return the share of counted rows, or the mean of the classes' shares."""
        if not self.balanced:
            return float(np.sum(counts) / np.sum(rows))
        return float(np.mean(np.sum(counts, axis=0) / np.sum(rows, axis=0)))

    def _measurement(self, policy: str, keep_fraction: float, failure: float) -> Measurement:
        lost, won, rows = (np.asarray(one) for one in self.store[_step(policy, keep_fraction)])
        increase = self._mean(lost - won, rows)
        strata = self._strata(lost, won, rows)
        bounds = [increase_bound(*one, failure) for one in strata]
        means = [float(np.sum(b - c) / np.sum(m)) for b, c, m in strata]
        bound = float(mean_bound(means, bounds))
        return Measurement(
            policy=policy,
            keep_fraction=keep_fraction,
            only_all=lost,
            only_kept=won,
            rows=rows,
            error=self.error() + increase,
            increase=increase,
            bound=bound,
            failure=failure,
        )


def signed_margin(values: Floats, codes: Integers) -> Floats:
    """Return by how much students prefer a row's own class to the best other one.

    Args:
        values: decision values, shape (n,) for two classes and (n, C) for more.
        codes: class positions, shape (n,).
    """
    if values.ndim == 1:
        return np.where(codes == 1, values, -values)
    own = values[np.arange(len(values)), codes]
    others = values.copy()
    others[np.arange(len(values)), codes] = -np.inf
    return np.asarray(own - others.max(axis=1))


def _kept(
    policy: str,
    values: Floats,
    codes: Integers,
    keep_fraction: float,
    random: np.random.Generator,
) -> Integers:
    margins = hardness_margin(values)
    return kept_rows(policy, margins, signed_margin(values, codes), keep_fraction, random)


def _step(policy: str, keep_fraction: float) -> str:
    return f"{policy} {keep_fraction:g}"
