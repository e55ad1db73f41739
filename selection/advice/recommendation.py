"""Recommends how much of a labelled data set to keep, tested on itself."""

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_choice, check_integer, check_range
from selection.advice.paths import FRACTIONS, MEANINGS
from selection.advice.students import (
    RegularisedStudents,
    Students,
    make_students,
)
from selection.advice.verdict import LastCheck, Measurement, Trial
from selection.arrays import Array, Integers, class_codes
from selection.selector import check_seed

if TYPE_CHECKING:
    from selection.advice.explanation import Explanation

DEFAULT = ("hard", "mixture")
# The share of the failure rate that each path of the default menu has.
SHARES = {"hard": 0.8, "mixture": 0.2}
SCORE = (
    "margin: the absolute decision value of a student that was not trained on the row, or the gap "
    "between the best two classes; small is hard"
)
FEW = 30  # kept rows of a class below which its error is hardly known
MOST_CLASSES = 100
# The tolerance is this share of the error of all data, within these limits.
SHARE, LEAST, MOST = 0.1, 0.005, 0.02

Advance = Callable[[str], object]


@dataclass(frozen=True, eq=False)
class Advice:
    """Says how much of a table to keep, and what was measured to say so.

    Attributes:
        keep_fraction: 1 where nothing smaller was certified.
        policy: which rows are kept, a key of MEANINGS; "all" where nothing was certified.
        score: what the policy ranks by.
        indices: rows to keep, ascending.
        tolerance: accepted increase of the error.
        failure: accepted probability of advice whose true increase is above the tolerance.
        bound: upper bound of the increase at the advice; NaN for all data.
        last_check: of the student trained on the kept rows; None where none was certified.
        error_all: cross-validated error of students of all data.
        error_kept: that of students of the kept rows.
        curve: what was measured, in the order in which it was tried.
        beside: what was measured for comparison only.
        classes: names of the classes.
        class_shares_all: their shares of all rows.
        class_shares_kept: their shares of the kept rows.
        kept_per_class: kept rows of each.
        rows_needed: rows that would about certify the first step of a path, where none was
            certified; None where more rows of this kind would not.
        student: name of the student.
        lam: its ridge strength; NaN for a user's own.
        balanced: whether errors are means over classes.
        folds: of the cross validation.
        seed: of folds and of what is kept at random.
        explanation: what the theory says of these data; None where it was not asked, or has no
            answer.
        warnings: sentences on what to beware of.
    """

    keep_fraction: float
    policy: str
    score: str
    indices: Integers
    tolerance: float
    failure: float
    bound: float
    last_check: LastCheck | None
    error_all: float
    error_kept: float
    curve: tuple[Measurement, ...]
    beside: tuple[Measurement, ...]
    classes: tuple[Any, ...]
    class_shares_all: tuple[float, ...]
    class_shares_kept: tuple[float, ...]
    kept_per_class: tuple[int, ...]
    rows_needed: int | None
    student: str
    lam: float
    balanced: bool
    folds: int
    seed: int
    explanation: "Explanation | None" = None
    warnings: tuple[str, ...] = ()

    @property
    def examples(self) -> int:
        """Return the number of rows that the advice is about."""
        rows = self.curve[0].rows if self.curve else np.zeros(0)
        return int(np.sum(rows))

    def sentence(self) -> str:
        """Say what to do, and why, in one sentence."""
        kind = "balanced error" if self.balanced else "error"
        everything = f"the cross-validated {kind} of all data is {self.error_all:.3g}"
        if self.policy == "all":
            return (
                f"keep all {self.examples} rows: {everything}, and no smaller part was shown to "
                f"raise it by less than {self.tolerance:.3g}"
            )
        return (
            f"keep {100 * self.keep_fraction:.3g} % ({len(self.indices)} of {self.examples} rows), "
            f"{MEANINGS[self.policy]}: {everything}, that of what is kept {self.error_kept:.3g}, "
            f"an increase of at most {self.bound:.2g} by the bound where {self.tolerance:.2g} is "
            "accepted"
        )


@dataclass(frozen=True, eq=False)
class Curve:
    """Says what policies cost at every kept fraction, without advice.

    Attributes:
        tolerance: what advice would accept, for comparison.
        failure: level of each bound alone; the bounds do not hold all together at this level.
        error_all: cross-validated error of students of all data.
        curve: what was measured, by descending fraction.
        balanced: whether errors are means over classes.
        student: name of the student.
        lam: its ridge strength; NaN for a user's own.
        folds: of the cross validation.
        seed: of folds and of what is kept at random.
    """

    tolerance: float
    failure: float
    error_all: float
    curve: tuple[Measurement, ...]
    balanced: bool
    student: str
    lam: float
    folds: int
    seed: int


def recommend(
    features: Any,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    student: Any = "logistic",
    lam: float | Literal["auto"] | None = None,
    tolerance: float | None = None,
    failure: float = 0.05,
    policies: Sequence[str] = DEFAULT,
    beside: Sequence[str] = (),
    balanced: bool = False,
    folds: int = 5,
    seed: int = 0,
    explain: bool = True,
    store: MutableMapping[str, Array] | None = None,
    advance: Advance = lambda what: None,
) -> Advice:
    """Recommend how much of a labelled table to keep, and which rows.

    Each policy is tried down the fractions .7, .5, .35, .25, .18, .125, .09, .06, .04, by nested
    cross validation, while an upper bound of the increase of the error stays within the tolerance.
    The advice is the smallest fraction that was certified. Last, the student of the kept rows is
    tried on the rows thrown away; where its error has risen by more than the tolerance, the next
    larger fraction is taken. A path of tests that stops at its first failure needs no correction;
    between policies `failure` is shared, 4 to 1 for hard and mixture, equally otherwise.

    The guarantee is approximate, see docs/advice.md. It is about rows like these; rows that depend
    on each other need `groups`.

    Args:
        features: shape (n, d), an array or a scipy.sparse CSR matrix; rows are independent.
        labels: whole numbers or strings, shape (n,); each class has at least `folds` rows.
        groups: whole numbers or strings, shape (n,): rows of one group depend on each other, as
            those of a patient do. They lie in one fold, so that new groups are what is tested, and
            count as one row in a bound. By default every row is a group of its own.
        student: "logistic", "hinge", "squared-hinge" or "square" with a ridge and an intercept, on
            standardised features; or an estimator of scikit-learn's kind.
        lam: ridge strength > 0 of (lam d/2) norm(W)^2 beside the sum of the losses; default 1/d,
            which is C = 1; "auto" for that of least cross-validated error of all data.
        tolerance: accepted increase of the error, in (0, 1); default a tenth of the error of all
            data, but at least .005 and at most .02.
        failure: accepted probability of an increase beyond the tolerance, in (0, .5).
        policies: what is tried, keys of `selection.advice.paths.MEANINGS`.
        beside: policies that are measured at the same fractions for comparison, without a part in
            the advice.
        balanced: whether errors are means over classes.
        folds: K of the cross validation, 2 to 100.
        seed: of folds and of what is kept at random, >= 0.
        explain: whether the theory's curve is computed beside.
        store: finished work by name, so that an interrupted call goes on; new work is added. It
            belongs to one table and one set of arguments.
        advance: called after each piece of work with its name.

    Raises:
        ValueError: arrays that do not fit, one class or a class with too few rows, labels that are
            quantities, an argument outside its range.
    """
    menu, extra = _check(policies, beside, tolerance, failure, folds, seed)
    trial, names = _trial(
        features,
        labels,
        groups,
        (*menu, *extra),
        student=student,
        lam=lam,
        balanced=balanced,
        folds=folds,
        seed=seed,
        store=store,
        advance=advance,
    )
    students, codes = trial.students, trial.codes
    error_all = trial.error()
    accepted = _tolerance(tolerance, error_all)
    curve: list[Measurement] = []
    compared: list[Measurement] = []
    certified: dict[str, list[Measurement]] = {policy: [] for policy in menu}
    walking = list(menu)
    for fraction in FRACTIONS:
        if not walking:
            break
        tried = [*walking, *(one for one in extra if one not in walking)]
        levels = [failure * _share(policy, menu) for policy in walking]
        levels += [failure] * (len(tried) - len(walking))
        found = trial.measure(tried, fraction, levels)
        compared += found[len(walking) :]
        for one in found[: len(walking)]:
            curve.append(one)
            if one.bound <= accepted:
                certified[one.policy].append(one)
            else:
                walking.remove(one.policy)
        advance(f"{fraction:g}")
    chosen, check = _last_checks(trial, certified, accepted, advance)
    n = len(codes)
    kept = (
        np.arange(n) if chosen is None else trial.handed_over(chosen.policy, chosen.keep_fraction)
    )
    per_class = np.bincount(codes[kept], minlength=len(names))
    # Always answering the largest class, or any one of them, errs on this share.
    trivial = 1 - 1 / len(names) if balanced else 1 - np.bincount(codes).max() / n
    blind = error_all > trivial - 1e-9  # whole rows apart, or equal up to rounding
    explanation = None
    if explain:
        explanation = _explained(students, trial, curve + compared, seed)
        advance("theory")
    return Advice(
        keep_fraction=1.0 if chosen is None else chosen.keep_fraction,
        policy="all" if chosen is None else chosen.policy,
        score=SCORE,
        indices=kept,
        tolerance=accepted,
        failure=failure,
        bound=np.nan if chosen is None else chosen.bound,
        last_check=check,
        error_all=error_all,
        error_kept=error_all if chosen is None else chosen.error,
        curve=tuple(curve),
        beside=tuple(compared),
        classes=tuple(names.tolist()),
        class_shares_all=tuple((np.bincount(codes) / n).tolist()),
        class_shares_kept=tuple((per_class / len(kept)).tolist()),
        kept_per_class=tuple(per_class.tolist()),
        rows_needed=_rows_needed(trial, curve, accepted, n) if chosen is None else None,
        student=students.name,
        lam=students.lam,
        balanced=balanced,
        folds=folds,
        seed=seed,
        explanation=explanation,
        warnings=tuple(_warnings(students, explanation, names, per_class, chosen, blind)),
    )


def measure_curve(
    features: Any,
    labels: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    student: Any = "logistic",
    lam: float | Literal["auto"] | None = None,
    tolerance: float | None = None,
    failure: float = 0.05,
    policies: Sequence[str] = (*DEFAULT, "random"),
    balanced: bool = False,
    folds: int = 5,
    seed: int = 0,
    store: MutableMapping[str, Array] | None = None,
    advance: Advance = lambda what: None,
) -> Curve:
    """Measure what policies cost at every fraction, without stopping at a failure.

    The arguments are those of `recommend`. Every bound has the level `failure` on its own: who
    picks the best of all these points has no guarantee.
    """
    menu, _ = _check(policies, (), tolerance, failure, folds, seed)
    trial, _ = _trial(
        features,
        labels,
        groups,
        menu,
        student=student,
        lam=lam,
        balanced=balanced,
        folds=folds,
        seed=seed,
        store=store,
        advance=advance,
    )
    curve: list[Measurement] = []
    for fraction in FRACTIONS:
        curve += trial.measure(menu, fraction, [failure] * len(menu))
        advance(f"{fraction:g}")
    error_all = trial.error()
    return Curve(
        tolerance=_tolerance(tolerance, error_all),
        failure=failure,
        error_all=error_all,
        curve=tuple(curve),
        balanced=balanced,
        student=trial.students.name,
        lam=trial.students.lam,
        folds=folds,
        seed=seed,
    )


def _check(
    policies: Sequence[str],
    beside: Sequence[str],
    tolerance: float | None,
    failure: float,
    folds: int,
    seed: int,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for name, listed in (("policies", policies), ("beside", beside)):
        for one in listed:
            check_choice(name, one, MEANINGS)
            if list(listed).count(one) > 1:
                raise ValueError(f"{name} names {one!r} twice; once is enough")
    if not policies:
        raise ValueError("policies is empty; name one at least")
    if tolerance is not None:
        check_range("tolerance", tolerance, 0.0, 1.0, open_low=True, open_high=True)
    check_range("failure", failure, 0.0, 0.5, open_low=True, open_high=True)
    check_integer("folds", folds, 2, 100)
    check_seed(seed)
    return tuple(policies), tuple(beside)


def _classes(labels: ArrayLike, folds: int) -> tuple[Array, Integers]:
    """Return class names and positions.

    Raises:
        ValueError: one class, labels that are quantities, a class with too few rows.
    """
    values = np.asarray(labels)
    if values.dtype.kind == "f" and values.ndim == 1:
        broken = np.isfinite(values) & (values != np.floor(values))
        if np.any(broken):
            index = int(np.argmax(broken))
            raise ValueError(
                f"labels holds {values[index]:g} at index {index}, a fraction: a quantity to "
                "predict has no classes; advice is for classes, whole numbers or strings"
            )
    numbers, words = class_codes("labels", labels)
    found, codes, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    names = found if words is None else words[found]
    if len(names) < 2:
        raise ValueError(f"labels holds one class alone, {names[0]}; advice needs two or more")
    if len(names) > MOST_CLASSES:
        raise ValueError(
            f"labels holds {len(names)} different values in {len(codes)} rows; advice is for 2 to "
            f"{MOST_CLASSES} classes, and a quantity to predict has none"
        )
    few = int(np.argmin(counts))
    if counts[few] < folds:
        raise ValueError(
            f"class {names[few]} has {counts[few]} rows; {folds} folds need {folds} of each class: "
            "leave the class out, join it with another, or ask for fewer folds"
        )
    return names, codes.astype(np.int64)


def _groups(groups: ArrayLike | None, codes: Integers, names: Array, folds: int) -> Integers | None:
    """Return group positions.

    Raises:
        ValueError: another number of them than rows, or a class in too few groups.
    """
    if groups is None:
        return None
    numbers, _ = class_codes("groups", groups)
    if len(numbers) != len(codes):
        raise ValueError(f"groups has {len(numbers)} entries; labels has {len(codes)}")
    _, positions = np.unique(numbers, return_inverse=True)
    for one, name in enumerate(names):
        count = len(np.unique(positions[codes == one]))
        if count < folds:
            raise ValueError(
                f"class {name} has rows in {count} groups; {folds} folds need {folds} of each "
                "class: leave the class out, join it with another, or ask for fewer folds"
            )
    return positions.astype(np.int64)


def _trial(
    features: Any,
    labels: ArrayLike,
    groups: ArrayLike | None,
    policies: Sequence[str],
    *,
    student: Any,
    lam: float | Literal["auto"] | None,
    balanced: bool,
    folds: int,
    seed: int,
    store: MutableMapping[str, Array] | None,
    advance: Advance,
) -> tuple[Trial, Array]:
    """Make a trial of the students, and return the names of the classes too.

    Raises:
        ValueError: arrays that do not fit, or students that cannot rank for the policies.
    """
    names, codes = _classes(labels, folds)
    together = _groups(groups, codes, names, folds)
    common: dict[str, Any] = {
        "folds": folds,
        "seed": seed,
        "balanced": balanced,
        "groups": together,
    }
    students = make_students(features, codes, student=student, lam=lam, **common)
    ranked = [one for one in policies if one != "random"]
    if ranked and not students.ranks:
        raise ValueError(
            f"student {students.name} has neither decision_function nor predict_proba, so that "
            f"nothing tells hard rows for the policy {ranked[0]!r}; ask for the policy random"
        )
    kept = {} if store is None else store
    return Trial(students, codes, store=kept, advance=advance, **common), names


def _tolerance(asked: float | None, error: float) -> float:
    return min(max(SHARE * error, LEAST), MOST) if asked is None else float(asked)


def _share(policy: str, menu: Sequence[str]) -> float:
    return SHARES[policy] if set(menu) == set(DEFAULT) else 1 / len(menu)


def _last_checks(
    trial: Trial,
    certified: dict[str, list[Measurement]],
    tolerance: float,
    advance: Advance,
) -> tuple[Measurement | None, LastCheck | None]:
    """Find the smallest certified fraction whose student also passes on the rows thrown away."""
    check = None
    while paths := [path for path in certified.values() if path]:
        path = min(paths, key=lambda one: one[-1].keep_fraction)
        check = trial.last_check(path[-1].policy, path[-1].keep_fraction, tolerance)
        advance("last check")
        if check.passed:
            return path[-1], check
        path.pop()
    return None, check


def _rows_needed(
    trial: Trial, curve: Sequence[Measurement], tolerance: float, n: int
) -> int | None:
    first = [one for one in curve if one.keep_fraction == FRACTIONS[0]]
    needed = min(trial.rows_needed(one, tolerance) for one in first)
    # Fewer than there are: it is the students' spread, or the last check, that stood in the way.
    return int(np.ceil(needed)) if n < needed < np.inf else None


def _explained(
    students: Students, trial: Trial, measured: Sequence[Measurement], seed: int
) -> "Explanation | None":
    """Ask the theory, which knows linear students of two classes."""
    if not isinstance(students, RegularisedStudents) or students.classes > 2 or trial.balanced:
        return None
    from selection.advice.explanation import explain

    return explain(
        students,
        trial.codes,
        trial.values,
        folds=trial.folds,
        measured=measured,
        error_all=trial.error(),
        seed=seed,
    )


def _warnings(
    students: Students,
    explanation: "Explanation | None",
    names: Array,
    per_class: Integers,
    chosen: Measurement | None,
    blind: bool,
) -> Iterator[str]:
    yield from students.warnings
    if blind:
        yield (
            "students of all data do no better than one that always gives the same answer: with "
            "nothing learned, nothing can be lost, and the advice says little"
        )
    if explanation is not None:
        yield from explanation.warnings
    if chosen is not None:
        for name, count in zip(names, per_class, strict=True):
            if count < FEW:
                yield (
                    f"class {name} has {count} kept rows; below {FEW} its own error is hardly "
                    "known, and --balanced tests it by itself"
                )
