"""Holds the candidates of a selection and their scores.

It also tells equal scores from unequal ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_choice
from selection.arrays import (
    Array,
    Floats,
    Integers,
    blocks,
    check_squares,
    class_codes,
    host_array,
    lift_exponent,
    real_rows,
    rows_of,
    whole_numbers,
)

if TYPE_CHECKING:
    from selection.graph import Graph


Orientation = Literal["hard", "easy"]
Scaling = Literal["min-max", "standard", "rank", "none"]


@dataclass(frozen=True, eq=False)
class Scores:
    """Holds scores of n examples.

    A higher score means harder or more informative.

    Attributes:
        values: shape (n,), finite.
        name: what they measure, e.g. "el2n".
        provenance: what reproduces them: parameters of the formula, seeds, files.
    """

    values: Floats
    name: str = "scores"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = real_rows(self.name, self.values, ndim=(1,)).astype(np.float64)
        object.__setattr__(self, "values", values)

    @classmethod
    def of(
        cls,
        values: ArrayLike,
        *,
        name: str = "scores",
        orientation: Orientation = "hard",
        **provenance: Any,
    ) -> "Scores":
        """Make scores of an array-like, negated where a high value means easy.

        Args:
            values: shape (n,), finite.
            name: what they measure.
            orientation: "hard" if high values are hard or informative, "easy" if they are easy.
            **provenance: what reproduces them.

        Raises:
            ValueError: another shape or orientation; NaN or infinity, with its index.
        """
        check_choice("orientation", orientation, get_args(Orientation))
        array = real_rows(name, values, ndim=(1,)).astype(np.float64)
        return cls(array if orientation == "hard" else -array, name, provenance)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Any) -> "Scores":
        """Take the scores of some rows, in their order."""
        return Scores(self.values[rows], self.name, self.provenance)


def rescaled(values: Floats, scaling: Scaling) -> Floats:
    """Bring scores to a common scale.

    They are scaled to [0, 1], to mean 0 and variance 1, to ranks, or not at all.

    Equal scores stay equal; scores without spread become 0.

    Args:
        values: shape (n,).
        scaling: "min-max", "standard", "rank" (mean rank of equals) or "none".

    Raises:
        ValueError: another scaling.
    """
    check_choice("scaling", scaling, get_args(Scaling))
    if scaling == "none":
        return values
    values = np.ldexp(values, lift_exponent(values))
    if scaling == "min-max":
        shifted = values - np.min(values)
    elif scaling == "standard":
        shifted = values - np.mean(values)
    else:
        from scipy.stats import rankdata  # half a second that a wrong option need not pay

        shifted = rankdata(values) - 1
    spread = np.std(shifted) if scaling == "standard" else np.max(shifted)
    # A spread that is rounding of equal values is none.
    if spread <= 1e-12 * np.max(np.abs(values), initial=0):
        return np.zeros_like(values)
    return np.asarray(shifted / spread, dtype=np.float64)


# Dimensions that each array may have.
DIMENSIONS = {
    "features": (2, 3),
    "gradients": (2,),
    "trajectories": (2,),
    "texts": (2,),
}


@dataclass(frozen=True, eq=False)
class Pool:
    """Holds n candidates and what is known of them.

    `Pool.of` makes and checks one.

    Attributes:
        ids: distinct names, integers or strings, shape (n,); ties are broken by them, smaller
            first.
        scores: how hard each one is.
        mislabel: how likely its label is wrong, where that is not `scores`.
        features: shape (n, d), or (n, A, d) for A views of each example; may be memory-mapped.
        labels: classes, whole numbers, shape (n,).
        groups: any other partition, whole numbers, shape (n,).
        gradients: last-layer gradients, shape (n, g).
        trajectories: losses over the training, shape (n, T).
        texts: a second modality, shape (n, d).
        graph: nearest neighbours.
    """

    ids: Array
    scores: Scores | None = None
    mislabel: Scores | None = None
    features: Array | None = None
    labels: Integers | None = None
    groups: Integers | None = None
    gradients: Array | None = None
    trajectories: Array | None = None
    texts: Array | None = None
    graph: "Graph | None" = None

    @classmethod
    def of(
        cls,
        *,
        scores: Scores | ArrayLike | None = None,
        mislabel: Scores | ArrayLike | None = None,
        features: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        gradients: ArrayLike | None = None,
        trajectories: ArrayLike | None = None,
        texts: ArrayLike | None = None,
        graph: "Graph | None" = None,
        ids: ArrayLike | None = None,
    ) -> "Pool":
        """Make the pool of array-likes of one length.

        Args:
            scores: `Scores`, or numbers of which high is hard.
            mislabel: `Scores`, or numbers of which high is likely mislabelled.
            features: shape (n, d) or (n, A, d).
            labels: whole numbers, or strings, which become their positions among the distinct
                ones in sorted order, shape (n,).
            groups: whole numbers or strings, shape (n,).
            gradients: shape (n, g).
            trajectories: shape (n, T).
            texts: shape (n, d).
            graph: nearest neighbours of the same n examples.
            ids: distinct integers or strings, default 0 ... n-1.

        Raises:
            ValueError: nothing at all, different lengths, wrong shapes, the first row that is not
                finite or whose square is not, repeated ids.
        """
        arrays: dict[str, Any] = {}
        for name, one in (("scores", scores), ("mislabel", mislabel)):
            if one is not None:
                known = isinstance(one, Scores)
                arrays[name] = one if known else Scores.of(host_array(one), name=name)
        given = {"features": features, "gradients": gradients}
        given |= {"trajectories": trajectories, "texts": texts}
        for name, values in given.items():
            if values is not None:
                arrays[name] = real_rows(name, host_array(values), DIMENSIONS[name])
                check_squares(name, arrays[name])
        for name, classes in (("labels", labels), ("groups", groups)):
            if classes is not None:
                arrays[name], _ = class_codes(name, classes)
        if graph is not None:
            arrays["graph"] = graph
        if ids is not None:
            arrays["ids"] = _ids(ids)
        if not arrays:
            raise ValueError("a pool needs at least one of scores, features, labels, ids, ...")
        check_lengths(arrays)
        arrays.setdefault("ids", np.arange(len(next(iter(arrays.values())))))
        return cls(**arrays)

    def __len__(self) -> int:
        return len(self.ids)

    def matrix(self, name: str) -> Array:
        """Return the field `name` as an array of shape (n, d).

        Raises:
            ValueError: it is missing, or holds several views of each example.
        """
        array = getattr(self, name)
        if array is None:
            raise ValueError(f"the pool has no {name}")
        if array.ndim != 2:
            raise ValueError(
                f"{name} has shape {array.shape}; this method takes one view an example, (n, d)"
            )
        return array

    def take(self, rows: Integers) -> "Pool":
        """Take the pool of some rows, in their order.

        Edges that leave these rows are dropped.
        """
        taken: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None:
                plain = isinstance(value, np.ndarray)
                taken[entry.name] = rows_of(value, rows) if plain else value.take(rows)
        return Pool(**taken)

    def id_order(self) -> Integers | None:
        """Order rows by ascending id.

        It is None where they stand in this order already.
        """
        if ascending(self.ids):
            return None
        return np.argsort(self.ids)


def _ids(ids: ArrayLike) -> Array:
    array = np.asarray(host_array(ids))
    if array.dtype.kind == "O" and all(isinstance(one, str) for one in array.ravel()):
        array = array.astype(np.str_)
    if array.dtype.kind != "U":
        array = whole_numbers("ids", array)
    if array.ndim != 1:
        raise ValueError(f"ids has shape {array.shape}; it must be (n,)")
    if ascending(array):
        return array
    values, counts = np.unique(array, return_counts=True)
    if len(values) < len(array):
        repeated = values[np.argmax(counts > 1)]
        raise ValueError(f"ids holds {repeated!s} more than once; every id must be distinct")
    return array


def ascending(ids: Array) -> bool:
    """Say whether every id is larger than the one before it."""
    return all(
        np.all(ids[part.start + 1 : part.stop + 1] > ids[part][: len(ids) - 1 - part.start])
        for part in blocks(len(ids), ids.dtype.itemsize)
    )


# What a pool may know of its examples, besides their ids.
FIELDS = tuple(entry.name for entry in fields(Pool) if entry.name != "ids")


def check_lengths(arrays: Mapping[str, Any]) -> None:
    """Raise ValueError unless arrays have as many rows as each other."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"the arrays have different lengths: {listed}")


TIE = 1e-12  # of the values' size: nearer values are equal but for rounding


def first_largest(values: Floats, size: float | None = None) -> int:
    """Find the first value that is the largest one but for rounding.

    Args:
        values: shape (n,), not empty.
        size: of the terms that the values are sums of; by default the largest value's own.
    """
    top = float(np.max(values))
    return int(np.argmax(values >= top - TIE * (abs(top) if size is None else size)))


def first_least(values: Floats, size: float | None = None) -> int:
    """Find the first value that is the least one but for rounding."""
    return first_largest(-values, size)


def levels(values: Floats) -> Integers:
    """Rank values 0, 1, ... in ascending order.

    Neighbours that are equal but for rounding share a rank.
    """
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    size = float(np.max(np.abs(values), initial=0.0))
    found = np.empty(len(values), np.int64)
    found[order] = np.concatenate([[0], np.cumsum(np.diff(ascending) > TIE * size)])
    return found
