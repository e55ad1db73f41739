"""Trains students on many parts of one table, which answer for its other rows.

The regularised linear students are minimised by `sims.erm`, in one compiled program for all parts.
A part is a vector of sample weights 0 and 1 beside the features of the whole table.
"""

import copy
import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_choice, check_range, require
from selection.advice.folds import fold_numbers
from selection.arrays import Array, Floats, Integers, blocks, check_squares, real_rows
from selection.selector import generator
from sims.erm.solver import ALONE, erm
from sims.machine import one_blas_thread
from sims.maxmargin.lanes import on_processor
from theory.policy_names import LOSSES

# Problems of one call: a number that is always the same compiles once. There are often five folds.
LANES = 5
# Entries of a table from which fewer rows, in a program of their own, repay its compilation.
WORTH_COMPILING = 2**20
# A certificate that a verdict cannot tell from the solver's own aim of 1e-10, which rounding keeps
# some students with a hinge just above: weights are then good to about .001.
ENOUGH = 1e-8
# Strengths lam d among which the best is looked for.
STRENGTHS = np.geomspace(1e-3, 1e3, 13)
TUNING = 4  # stream of random numbers that deals the folds of the search
# liblinear penalises the intercept too, at this scale by a hundredth of the weights' penalty; at
# larger scales it did not converge on 90 rows.
INTERCEPT_SCALE = 10.0
SWEEPS = 10_000
CONSTANT = "features are the same in every row; there is nothing to learn from"


class Answer(NamedTuple):
    """What one student says of m rows.

    Attributes:
        labels: positions of the predicted classes, shape (m,).
        values: decision values, shape (m,) for two classes, where > 0 means class 1, and (m, C) for
            more, where the largest is predicted.
    """

    labels: Integers
    values: Floats


class Students(Protocol):
    """Trains students of one kind on parts of one table.

    Attributes:
        classes: number of classes C.
        name: what the students are called in reports.
        lam: ridge strength; NaN for a user's own.
        ranks: whether decision values tell hard rows from easy ones.
    """

    classes: int
    name: str
    lam: float
    ranks: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return a sentence for each kind of trouble that training met so far."""

    def answers(self, train: Sequence[Integers], ask: Sequence[Integers]) -> list[Answer]:
        """Train one student on each part, and let it answer for other rows.

        Args:
            train: rows of each part, ascending and distinct, at least one.
            ask: rows that the part's student answers for.
        """


def hardness_margin(values: Floats) -> Floats:
    """Return the margin of each row, which is small where the row is hard.

    It is the decision value's size for two classes, and the gap of the two largest for more.

    Args:
        values: shape (m,) or (m, C), as in `Answer`.
    """
    if values.ndim == 1:
        return np.abs(values)
    top = np.partition(values, -2, axis=1)
    gap: Floats = top[:, -1] - top[:, -2]
    return gap


def standardised(features: Array) -> tuple[Floats, Integers]:
    """Bring every column to mean 0 and mean square 1, in double precision.

    Args:
        features: finite, shape (n, d); read block by block, so that a file may stay on disk.

    Returns:
        The columns that vary, and their places.

    Raises:
        ValueError: no column varies.
    """
    low, high, total = np.full((3, features.shape[1]), [[np.inf], [-np.inf], [0.0]])
    for rows in blocks(*features.shape):
        block = np.asarray(features[rows], np.float64)
        np.minimum(low, block.min(axis=0), out=low)
        np.maximum(high, block.max(axis=0), out=high)
        total += block.sum(axis=0)
    columns = np.flatnonzero(high > low)
    if len(columns) == 0:
        raise ValueError(CONSTANT)
    mean, spread = (total / len(features))[columns], (high - low)[columns]
    matrix = np.empty((len(features), len(columns)))
    for rows in blocks(*features.shape):
        # Over the range first: squares of a tiny spread would vanish.
        matrix[rows] = (np.asarray(features[rows], np.float64)[:, columns] - mean) / spread
    matrix /= np.sqrt(np.einsum("ij,ij->j", matrix, matrix) / len(matrix))
    return matrix, columns


class RegularisedStudents:
    """Trains linear students with a ridge on parts of a table.

    A student minimises sum loss(y (W.x + b)) + (lam d / 2) W.W over the rows of its part, x being
    standardised over the whole table without its constant columns. With more than two classes
    there is such a minimiser for each class against the rest, and the largest W.x + b is the
    answer. A part of one class is answered by that class.

    Attributes:
        classes: number of classes C.
        name: the loss.
        ranks: True.
        design: x, shape (n, d).
        columns: places of the columns of the features that vary.
        dim: their number d.
        lam: ridge strength.
        unconverged: minimisers so far whose certificate stayed above 1e-8.
        solved: all minimisers so far.
        worst: largest certificate of these minimisers.
    """

    ranks = True

    def __init__(
        self,
        features: ArrayLike,
        labels: Integers,
        *,
        loss: str = "logistic",
        lam: float | None = None,
        intercept: bool = True,
    ) -> None:
        """Standardise the features.

        Args:
            features: shape (n, columns), finite; may be memory-mapped.
            labels: positions of classes, 0 to C - 1, each of which occurs, shape (n,).
            loss: one of `theory.policy_names.LOSSES`.
            lam: ridge strength > 0; default 1/d, which is C = 1 in scikit-learn.
            intercept: whether b is fitted, without penalty; it is 0 otherwise.

        Raises:
            ValueError: another loss or lam; features that are not finite, all constant, or of
                another number of rows than the labels.
        """
        check_choice("student", loss, LOSSES)
        array = real_rows("features", features, ndim=(2,))
        check_squares("features", array)
        check_rows(len(array), labels)
        self.design, self.columns = standardised(array)
        self.dim = len(self.columns)
        self.lam = _strength(lam, self.dim)
        self.classes = int(np.max(labels)) + 1
        self.name = loss
        self.unconverged = self.solved = 0
        self.worst = 0.0
        self._labels = labels
        self._rows, self._basis = self.design, None
        if len(self.design) < self.dim:
            # W lies in the span of the rows: a problem of their number has the same minimum.
            basis, triangle = np.linalg.qr(self.design.T)
            self._rows, self._basis = np.ascontiguousarray(triangle.T), basis
        self._intercept = intercept

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say how many students the solver left above its certificate."""
        if not self.unconverged:
            return ()
        return (
            f"{self.unconverged} of {self.solved} students were not certified to {ENOUGH:g}, and "
            f"the worst to {self.worst:.1g}: rounding ended the solver's progress",
        )

    def answers(self, train: Sequence[Integers], ask: Sequence[Integers]) -> list[Answer]:
        """Train students as `Students` says."""
        found = []
        weights, offsets = self.weights(train)
        for rows, asked, W, b in zip(train, ask, weights, offsets, strict=True):
            values = self.design[asked] @ W.T + b
            if self.classes == 2:
                found.append(Answer((values[:, 0] > 0).astype(np.int64), values[:, 0]))
                continue
            there = np.bincount(self._labels[rows], minlength=self.classes) > 0
            # A class that the student never saw stands below all others.
            values[:, ~there] = np.min(values[:, there], axis=1, keepdims=True) - 1.0
            found.append(Answer(np.argmax(values, axis=1), values))
        return found

    def weights(self, train: Sequence[Integers]) -> tuple[Floats, Floats]:
        """Return W and b of a student trained on each part.

        Args:
            train: rows of each of L parts, ascending and distinct, at least one.

        Returns:
            W, shape (L, C, d), and b, shape (L, C), one for each class against the rest; of two
            classes only the second has them: (L, 1, d) and (L, 1). A part of one class, or without
            this one, has W = 0 and b = 1 or -1.
        """
        sought = range(1, 2) if self.classes == 2 else range(self.classes)
        W = np.zeros((len(train), len(sought), self.design.shape[1]))
        b = np.zeros((len(train), len(sought)))
        jobs: dict[int, list[tuple[int, int]]] = {}
        for lane, rows in enumerate(train):
            counts = np.bincount(self._labels[rows], minlength=self.classes)
            for place, one in enumerate(sought):
                if 0 < counts[one] < len(rows):
                    jobs.setdefault(self._room(len(rows)), []).append((lane, place))
                else:
                    b[lane, place] = 1.0 if counts[one] else -1.0
        for room, places in jobs.items():
            step = LANES if room == len(self.design) else 1
            for start in range(0, len(places), step):
                batch = places[start : start + step]
                parts = [train[lane] for lane, _ in batch]
                at = tuple(np.transpose(batch))
                W[at], b[at] = self._minimised(room, parts, [sought[place] for _, place in batch])
        return W, b

    def _room(self, count: int) -> int:
        """Return the rows of the program that solves for `count` of them.

        They are all rows, or the least half, quarter, ... that holds them and is large enough.
        """
        room = len(self.design)
        least = max(count, self._rows.shape[1])
        while least <= (half := -(-room // 2)) and half * self._rows.shape[1] >= WORTH_COMPILING:
            room = half
        return room

    def _minimised(
        self, room: int, parts: Sequence[Integers], sought: Sequence[int]
    ) -> tuple[Floats, Floats]:
        """Return W and b of parts for one class each, shapes (k, d) and (k,)."""
        whole = room == len(self._rows)
        dim = self._rows.shape[1]
        # Large problems are solved one by one, whatever their number.
        lanes = len(parts) if on_processor() and room * dim >= ALONE else LANES
        signs, sizes = np.ones((lanes, room)), np.zeros((lanes, room))
        for lane, (rows, one) in enumerate(zip(parts, sought, strict=True)):
            held = rows if whole else np.arange(len(rows))
            signs[lane, held] = np.where(self._labels[rows] == one, 1.0, -1.0)
            sizes[lane, held] = 1.0
        matrix = self._rows
        if not whole:
            (rows,) = parts
            matrix = np.zeros((room, dim))
            matrix[: len(rows)] = self._rows[rows]
        with one_blas_thread():
            found = erm(
                matrix,
                signs,
                loss=self.name,
                lam=self.lam * self.dim / dim,
                sample_weight=sizes,
                intercept=self._intercept,
            )
        used = slice(len(parts))
        self.unconverged += int(np.sum(~(found.certificate[used] <= ENOUGH)))
        self.solved += len(parts)
        self.worst = max(self.worst, float(np.max(found.certificate[used])))
        W = np.asarray(found.weights[used])
        return W if self._basis is None else W @ self._basis.T, np.asarray(found.intercept[used])


class EstimatorStudents:
    """Trains clones of a scikit-learn estimator on parts of a table.

    The clones see the features as they are, and the positions of the classes as labels. All have
    the same random state where the estimator has none. A part of one class is answered by that
    class.

    Attributes:
        classes: number of classes C.
        name: the estimator's class.
        lam: NaN.
        ranks: whether the estimator has `decision_function` or `predict_proba`.
        unconverged: students so far whose training warned that it had not converged.
        trained: all students so far.
    """

    lam = float("nan")

    def __init__(self, features: Any, labels: Integers, estimator: Any, *, seed: int = 0) -> None:
        """Check the estimator.

        Args:
            features: shape (n, d), an array or a CSR matrix of SciPy, finite.
            labels: positions of classes, 0 to C - 1, each of which occurs, shape (n,).
            estimator: with `fit` and `predict`; it is cloned, and not changed.
            seed: random state of the clones where the estimator has None.

        Raises:
            ValueError: a class in place of an instance, a regressor, no `fit` or `predict`;
                features that are not finite or of another number of rows than the labels.
        """
        if isinstance(estimator, type):
            raise ValueError(
                f"student is the class {estimator.__name__}; give an instance of it, "
                f"{estimator.__name__}()"
            )
        self.name = type(estimator).__name__
        for method in ("fit", "predict"):
            if not callable(getattr(estimator, method, None)):
                raise ValueError(f"student {self.name} has no {method}; it must classify rows")
        if hasattr(estimator, "__sklearn_tags__"):
            kind = require("sklearn.utils").get_tags(estimator).estimator_type
            if kind not in (None, "classifier"):
                raise ValueError(
                    f"student {self.name} is a {kind.replace('_', ' ')}; advice is for classifiers"
                )
        self.ranks = any(
            callable(getattr(estimator, method, None))
            for method in ("decision_function", "predict_proba")
        )
        self._features = matrix_rows(features)
        check_rows(self._features.shape[0], labels)
        self.classes = int(np.max(labels)) + 1
        self._labels = labels
        self._estimator = estimator
        self._seed = seed
        self.unconverged = self.trained = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say how many students had not converged."""
        if not self.unconverged:
            return ()
        return (
            f"{self.unconverged} of {self.trained} students of {self.name} warned that their "
            "training had not converged",
        )

    def answers(self, train: Sequence[Integers], ask: Sequence[Integers]) -> list[Answer]:
        """Train clones as `Students` says.

        Raises:
            ValueError: the estimator failed; the message is its own.
        """
        return [self._answer(rows, asked) for rows, asked in zip(train, ask, strict=True)]

    def _answer(self, rows: Integers, asked: Integers) -> Answer:
        labels = self._labels[rows]
        if np.all(labels == labels[0]):
            return self._constant(int(labels[0]), len(asked))
        model = self._clone()
        features = self._features[asked]
        try:
            self._fit(model, self._features[rows], labels)
            predicted = np.asarray(model.predict(features))
            values = self._values(model, features) if self.ranks else None
        except Exception as error:
            raise ValueError(
                f"student {self.name} failed on a part of {len(rows)} rows: "
                f"{type(error).__name__}: {error}"
            ) from error
        known = predicted.shape == asked.shape and predicted.dtype.kind in "iufb"
        if not (known and np.all(np.isin(predicted, np.arange(self.classes)))):
            raise ValueError(
                f"student {self.name} predicts {np.array2string(predicted, threshold=4)} for "
                f"{len(asked)} rows; it must predict one of 0 ... {self.classes - 1} for each"
            )
        if values is None:
            values = np.zeros(len(asked) if self.classes == 2 else (len(asked), self.classes))
        return Answer(predicted.astype(np.int64), values)

    def _fit(self, model: Any, features: Any, labels: Integers) -> None:
        """Train a clone, and count instead of show warnings that it has not converged."""
        unconverged = require("sklearn.exceptions").ConvergenceWarning
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", unconverged)
            model.fit(features, labels)
        self.trained += 1
        self.unconverged += any(issubclass(one.category, unconverged) for one in caught)
        for one in caught:
            if not issubclass(one.category, unconverged):
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)

    def _clone(self) -> Any:
        if not hasattr(self._estimator, "get_params"):
            return copy.deepcopy(self._estimator)
        model = require("sklearn.base").clone(self._estimator)
        free = [
            name
            for name, value in model.get_params().items()
            if value is None and name.split("__")[-1] == "random_state"
        ]
        return model.set_params(**dict.fromkeys(free, self._seed))

    def _values(self, model: Any, features: Any) -> Floats:
        """Return decision values in the form of `Answer`, of all C classes."""
        decides = callable(getattr(model, "decision_function", None))
        values = (model.decision_function if decides else model.predict_proba)(features)
        if np.iscomplexobj(values) or not np.all(np.isfinite(values)):
            raise ValueError("its decision values are not all finite real numbers")
        values = np.asarray(values, np.float64)
        known = np.asarray(getattr(model, "classes_", np.arange(self.classes)), np.int64)
        if values.ndim == 1:
            values = np.stack([-values, values], axis=1)
        if values.shape[1:] != known.shape:
            raise ValueError(
                f"its decision values have shape {values.shape}, not one for each of its "
                f"{len(known)} classes"
            )
        if self.classes == 2:
            difference: Floats = values[:, 1] - values[:, 0]
            return difference if not decides else difference / 2
        # A class that the student never saw stands below all others.
        found = np.repeat(np.min(values, axis=1, keepdims=True) - 1.0, self.classes, axis=1)
        found[:, known] = values
        return found

    def _constant(self, one: int, count: int) -> Answer:
        values = np.zeros((count, self.classes))
        values[:, one] = 1.0
        if self.classes == 2:
            values = values[:, 1] - values[:, 0]
        return Answer(np.full(count, one), values)


class SparseStudents(EstimatorStudents):
    """Trains the students of `RegularisedStudents` on sparse features, by scikit-learn.

    Columns are scaled to variance 1 and not centred, so that they stay sparse. With an intercept
    that has no penalty the minimiser is the same. The losses with a hinge are liblinear's, whose
    intercept has a small one.
    """

    def __init__(
        self, features: Any, labels: Integers, *, loss: str = "logistic", lam: float | None = None
    ) -> None:
        """Scale the features.

        Args:
            features: a sparse matrix of SciPy, shape (n, columns).
            labels: positions of classes, as for `RegularisedStudents`.
            loss: one of `theory.policy_names.LOSSES`.
            lam: ridge strength > 0; default 1/d, d the number of columns that vary.

        Raises:
            ValueError: as `RegularisedStudents`.
        """
        check_choice("student", loss, LOSSES)
        matrix = matrix_rows(features)
        columns = np.flatnonzero((matrix.max(axis=0) > matrix.min(axis=0)).toarray())
        if len(columns) == 0:
            raise ValueError(CONSTANT)
        matrix = matrix[:, columns].astype(np.float64)
        _, variance = require("sklearn.utils.sparsefuncs").mean_variance_axis(matrix, axis=0)
        matrix.data /= np.sqrt(variance)[matrix.indices]
        self.dim = len(columns)
        super().__init__(matrix, labels, linear_estimator(loss, 1.0))
        self.name = loss
        self.lam = _strength(lam, self.dim)

    def _clone(self) -> Any:
        model = linear_estimator(self.name, self.lam * self.dim)
        if self.name == "logistic" and self.classes > 2:
            return require("sklearn.multiclass").OneVsRestClassifier(model)
        return model


def linear_estimator(loss: str, ridge: float) -> Any:
    """Return scikit-learn's estimator of a loss with the penalty (ridge / 2) W.W.

    Args:
        loss: one of `theory.policy_names.LOSSES`.
        ridge: lam d.
    """
    if loss == "square":
        return require("sklearn.linear_model").RidgeClassifier(alpha=ridge)
    if loss == "logistic":
        return require("sklearn.linear_model").LogisticRegression(C=1 / ridge, max_iter=SWEEPS)
    hinge = loss == "hinge"
    return require("sklearn.svm").LinearSVC(
        loss="hinge" if hinge else "squared_hinge",
        C=1 / ridge if hinge else 1 / (2 * ridge),
        intercept_scaling=INTERCEPT_SCALE,
        max_iter=SWEEPS,
        random_state=0,
    )


def make_students(
    features: Any,
    labels: Integers,
    *,
    student: Any = "logistic",
    lam: float | Literal["auto"] | None = None,
    folds: int = 5,
    seed: int = 0,
    balanced: bool = False,
    groups: Integers | None = None,
) -> Students:
    """Make the students of a name or of an estimator.

    Args:
        features: shape (n, d), an array or a sparse matrix of SciPy.
        labels: positions of classes, 0 to C - 1, each of which occurs, shape (n,).
        student: one of `theory.policy_names.LOSSES`, or an estimator of scikit-learn's kind.
        lam: ridge strength > 0 of a named student; default 1/d; "auto" for `tuned_lam`.
        folds: of the search for lam.
        seed: of its folds, and of an estimator without a random state.
        balanced: whether the search counts every class alike.
        groups: positions of groups whose rows stay together in the search, shape (n,).

    Raises:
        ValueError: as `RegularisedStudents` and `EstimatorStudents`; lam beside an estimator.
    """
    if not isinstance(student, str):
        students = EstimatorStudents(features, labels, student, seed=seed)
        if lam is not None:
            raise ValueError(
                f"lam = {lam} belongs to the students {', '.join(LOSSES)}; {students.name} has its "
                "own parameters"
            )
        return students
    kind = SparseStudents if is_sparse(features) else RegularisedStudents
    if lam != "auto":
        return kind(features, labels, loss=student, lam=lam)
    tuned = kind(features, labels, loss=student)
    tuned.lam = tuned_lam(tuned, labels, folds=folds, seed=seed, balanced=balanced, groups=groups)
    return tuned


def tuned_lam(
    students: "RegularisedStudents | SparseStudents",
    labels: Integers,
    *,
    folds: int,
    seed: int,
    balanced: bool = False,
    groups: Integers | None = None,
) -> float:
    """Find the ridge strength of least cross-validated error of all data.

    It is looked for among lam d = .001 ... 1,000 in steps of a factor of sqrt(10); of equal ones
    the largest is taken.

    Args:
        students: on the table; their own lam is left as it was.
        labels: positions of classes, shape (n,).
        folds: number of stratified folds.
        seed: of the folds.
        balanced: whether the error is the mean over classes.
        groups: positions of groups whose rows stay in one fold, shape (n,).
    """
    number = fold_numbers(labels, folds, generator(seed, TUNING), groups)
    train = [np.flatnonzero(number != fold) for fold in range(folds)]
    test = [np.flatnonzero(number == fold) for fold in range(folds)]
    before, errors = students.lam, []
    grid = STRENGTHS / students.dim
    rows = np.bincount(labels)
    for lam in grid:
        students.lam = float(lam)
        found = students.answers(train, test)
        wrong = [one.labels != labels[asked] for one, asked in zip(found, test, strict=True)]
        missed = np.bincount(
            labels[np.concatenate(test)][np.concatenate(wrong)], minlength=len(rows)
        )
        # Whole counts, so that equal errors are equal numbers.
        errors.append(float(np.mean(missed / rows)) if balanced else float(np.sum(missed)))
    students.lam = before
    least = np.flatnonzero(np.array(errors) == min(errors))
    return float(grid[least[-1]])


def is_sparse(features: Any) -> bool:
    """Say whether features are a sparse matrix or array of SciPy."""
    return hasattr(features, "toarray") and hasattr(features, "nnz")


def matrix_rows(features: Any) -> Any:
    """Check features for an estimator: finite rows, dense or CSR.

    Raises:
        ValueError: another shape, a value that is not finite.
    """
    if not is_sparse(features):
        return real_rows("features", features, ndim=(2,))
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features has shape {features.shape}; it must be (n, d), none of them 0")
    rows = features.tocsr()
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    if not np.all(np.isfinite(rows.data)):
        entries = rows.tocoo()
        index = int(np.argmin(np.isfinite(entries.data)))
        place = (int(entries.row[index]), int(entries.col[index]))
        raise ValueError(
            f"features holds {entries.data[index]} at index {place}; every value must be a finite "
            "number"
        )
    return rows


def _strength(lam: float | None, dim: int) -> float:
    if lam is None:
        return 1.0 / dim
    check_range("lam", lam, 0.0, np.inf, open_low=True)
    return float(lam)


def check_rows(count: int, labels: Integers) -> None:
    """Raise ValueError unless there is a label for each of `count` rows."""
    if len(labels) != count:
        raise ValueError(f"labels has {len(labels)} entries; features has {count} rows")
