"""Trains students on many parts of one table, which answer for its other rows.

The regularised linear students are minimised by `sims.erm`, in one compiled program for all parts.
A part is a vector of sample weights 0 and 1 beside the features of the whole table.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_choice, check_range, require
from selection.arrays import Array, Floats, Integers, blocks, check_squares, class_codes, real_rows
from sims.erm.solver import ALONE, ERMStatus, erm
from sims.maxmargin.lanes import on_processor
from theory.policy_names import LOSSES

# Beyond this number labels are taken for scores or names.
MOST_CLASSES = 100
# Problems of one call: a number that is always the same compiles once. There are often five folds.
LANES = 5
# Entries of a table from which fewer rows, in a program of their own, repay its compilation.
WORTH_COMPILING = 2**20


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
        ranks: whether decision values tell hard rows from easy ones.
    """

    classes: int
    name: str
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


def class_positions(labels: ArrayLike) -> tuple[Array, Integers]:
    """Turn labels into positions among the distinct ones.

    Args:
        labels: whole numbers or strings, shape (n,).

    Returns:
        The distinct labels in sorted order, at least two, and each row's position among them.

    Raises:
        ValueError: one class alone; fractions, more than 100 classes, or a class for every row,
            which are scores or names and no classes.
    """
    array = np.asarray(labels)
    if array.dtype.kind == "f" and array.ndim == 1:
        broken = np.isfinite(array) & (array != np.floor(array))
        if np.any(broken):
            index = int(np.argmax(broken))
            raise ValueError(
                f"labels holds {array[index]:g} at index {index}, a fraction: these are scores of "
                "a regression, and advice is for classes, named by whole numbers or strings"
            )
    codes, texts = class_codes("labels", labels)
    if texts is None:
        names, positions = np.unique(codes, return_inverse=True)
    else:
        names, positions = texts, codes
    if len(names) == 1:
        raise ValueError(f"labels holds one class alone, {names[0]}; advice needs two or more")
    if len(names) > MOST_CLASSES or (len(names) == len(codes) and len(names) > 2):
        raise ValueError(
            f"labels holds {len(names)} different values in {len(codes)} rows; these are scores or "
            f"names, and advice is for 2 to {MOST_CLASSES} classes of several rows each"
        )
    return names, positions.astype(np.int64)


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
        raise ValueError("features are the same in every row; there is nothing to learn from")
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
        columns: places of the d columns of the features that vary.
        lam: ridge strength.
        unconverged: minimisers so far whose certificate stayed above 1e-10.
        solved: all minimisers so far.
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
        self.lam = 1.0 / len(self.columns) if lam is None else float(lam)
        check_range("lam", self.lam, 0.0, np.inf, open_low=True)
        self.classes = int(np.max(labels)) + 1
        self.name = loss
        self.unconverged = self.solved = 0
        self._labels = labels
        self._intercept = intercept

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say how many students the solver left above its certificate."""
        if not self.unconverged:
            return ()
        return (
            f"{self.unconverged} of {self.solved} students were not certified to 1e-10: "
            f"{ERMStatus.NOT_CONVERGED.sentence}",
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
        while count <= (half := -(-room // 2)) and half * self.design.shape[1] >= WORTH_COMPILING:
            room = half
        return room

    def _minimised(
        self, room: int, parts: Sequence[Integers], sought: Sequence[int]
    ) -> tuple[Floats, Floats]:
        """Return W and b of parts for one class each, shapes (k, d) and (k,)."""
        whole = room == len(self.design)
        dim = self.design.shape[1]
        # Large problems are solved one by one, whatever their number.
        lanes = len(parts) if on_processor() and room * dim >= ALONE else LANES
        signs, sizes = np.ones((lanes, room)), np.zeros((lanes, room))
        for lane, (rows, one) in enumerate(zip(parts, sought, strict=True)):
            held = rows if whole else np.arange(len(rows))
            signs[lane, held] = np.where(self._labels[rows] == one, 1.0, -1.0)
            sizes[lane, held] = 1.0
        matrix = self.design
        if not whole:
            (rows,) = parts
            matrix = np.zeros((room, dim))
            matrix[: len(rows)] = self.design[rows]
        found = erm(
            matrix,
            signs,
            loss=self.name,
            lam=self.lam,
            sample_weight=sizes,
            intercept=self._intercept,
        )
        used = slice(len(parts))
        self.unconverged += int(np.sum(found.status[used] == ERMStatus.NOT_CONVERGED))
        self.solved += len(parts)
        return np.asarray(found.weights[used]), np.asarray(found.intercept[used])


class EstimatorStudents:
    """Trains clones of a scikit-learn estimator on parts of a table.

    The clones see the features as they are, and the positions of the classes as labels. All have
    the same random state where the estimator has none. A part of one class is answered by that
    class.

    Attributes:
        classes: number of classes C.
        name: the estimator's class.
        ranks: whether the estimator has `decision_function` or `predict_proba`.
    """

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
        if require("sklearn.base").is_regressor(estimator):
            raise ValueError(f"student {self.name} is a regressor; advice is for classifiers")
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

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return nothing: an estimator warns for itself."""
        return ()

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
            model.fit(self._features[rows], labels)
            predicted = np.asarray(model.predict(features))
            values = self._values(model, features) if self.ranks else None
        except Exception as error:
            raise ValueError(
                f"student {self.name} failed on a part of {len(rows)} rows: "
                f"{type(error).__name__}: {error}"
            ) from error
        if predicted.shape != asked.shape:
            raise ValueError(
                f"student {self.name} predicts an array of shape {predicted.shape} for "
                f"{len(asked)} rows; it must be ({len(asked)},)"
            )
        if values is None:
            values = np.zeros(len(asked) if self.classes == 2 else (len(asked), self.classes))
        return Answer(predicted.astype(np.int64), values)

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


def matrix_rows(features: Any) -> Any:
    """Check features for an estimator: finite rows, dense or CSR.

    Raises:
        ValueError: another shape, a value that is not finite; a sparse format without rows.
    """
    if not (hasattr(features, "toarray") and hasattr(features, "nnz")):
        return real_rows("features", features, ndim=(2,))
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features has shape {features.shape}; it must be (n, d), none of them 0")
    rows = features.tocsr()
    if not np.all(np.isfinite(rows.data)):
        entries = rows.tocoo()
        index = int(np.argmin(np.isfinite(entries.data)))
        place = (int(entries.row[index]), int(entries.col[index]))
        raise ValueError(
            f"features holds {entries.data[index]} at index {place}; every value must be a finite "
            "number"
        )
    return rows


def check_rows(count: int, labels: Integers) -> None:
    """Raise ValueError unless there is a label for each of `count` rows."""
    if len(labels) != count:
        raise ValueError(f"labels has {len(labels)} entries; features has {count} rows")
