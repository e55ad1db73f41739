"""A selection method as an under-sampler with the interface of imbalanced-learn."""

import inspect
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from selection.core.arrays import Array, Integers
from selection.core.pool import Pool
from selection.core.scores import Scores
from selection.core.selector import Selector, budget_count
from selection.core.subset import Subset
from selection.core.tensors import host_array

__all__ = ["SelectionSampler"]


class SelectionSampler:
    """Keeps the rows of (X, y) that a method selects; `fit_resample` as in imbalanced-learn.

    It takes part in scikit-learn's `clone` and in imbalanced-learn's pipelines, and needs neither.

    Args:
        method: how to select. X are the features and y the labels of its pool.
        budget: how many to keep: a count, or a fraction in (0, 1] given as a float of any kind.
        scores: function (X, y) -> scores for methods that need them.
        seed: of all random choices.
        given: features of examples that are kept already and are no rows of X, shape (m, d).

    Attributes:
        sample_indices_: the kept rows in pick order, after `fit_resample`.
        subset_: the whole answer, with weights and diagnostics.
    """

    sample_indices_: Integers
    subset_: Subset

    def __init__(
        self,
        method: Selector,
        budget: int | float = 0.5,
        scores: Callable[[Any, Any], Scores | ArrayLike] | None = None,
        seed: int = 0,
        given: ArrayLike | None = None,
    ) -> None:
        self.method = method
        self.budget = budget
        self.scores = scores
        self.seed = seed
        self.given = given

    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Select, and return the kept rows of both.

        Args:
            X: features, shape (n, d); an array or a data frame of numbers, of anything if the
                method does not look at features.
            y: classes, shape (n,); any values that can be sorted.

        Returns:
            X and y at `sample_indices_`, of the types that were given.

        Raises:
            ValueError: a budget outside its range, arrays that do not fit the method.
        """
        labels = np.unique(np.asarray(host_array(y)), return_inverse=True)[1]
        looked_at = "features" in self.method.reads or self.given is not None
        # A sparse matrix is refused by the pool; NumPy would make one object of it.
        features = X if hasattr(X, "nnz") else np.asarray(host_array(X))
        pool = Pool.of(
            features=features if looked_at else None,
            labels=labels,
            scores=None if self.scores is None else self.scores(X, y),
        )
        fraction = isinstance(self.budget, Real) and not isinstance(self.budget, Integral)
        budget = budget_count(float(self.budget) if fraction else self.budget, len(pool))
        given = None if self.given is None else np.asarray(host_array(self.given))
        self.subset_ = self.method.select(pool, budget, self.seed, given)
        self.sample_indices_ = self.subset_.indices
        return _rows(X, self.sample_indices_), _rows(y, self.sample_indices_)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments, as scikit-learn asks for them."""
        return {name: getattr(self, name) for name in _parameters()}

    def set_params(self, **parameters: Any) -> "SelectionSampler":
        """Change arguments of the constructor; returns itself."""
        for name, value in parameters.items():
            if name not in _parameters():
                raise ValueError(f"{name!r} is not one of {', '.join(_parameters())}")
            setattr(self, name, value)
        return self


def _parameters() -> list[str]:
    return list(inspect.signature(SelectionSampler).parameters)


def _rows(values: Any, rows: Integers) -> Any:
    """Rows of an array, a tensor, a list or a data frame."""
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    if hasattr(values, "detach"):  # a tensor stays one
        return values[rows.tolist()]
    taken: Array = np.asarray(values)[rows]
    return taken
