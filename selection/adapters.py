"""Hands subsets to PyTorch's loaders, and methods to imbalanced-learn."""

import inspect
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_choice, require
from selection.arrays import Array, Integers, host_array
from selection.pool import Pool, Scores
from selection.selector import Selector, budget_count, check_seed
from selection.subset import Subset


def torch_subset(dataset: Any, subset: Subset) -> Any:
    """Make a `torch.utils.data.Subset` of a map-style dataset, in pick order.

    Args:
        dataset: the dataset whose row i is the pool's row i.
        subset: what to keep.

    Raises:
        ValueError: the dataset is shorter than a kept row says, or torch is not installed.
    """
    data = require("torch.utils.data", extra="parity")
    if subset.achieved and subset.indices.max() >= len(dataset):
        raise ValueError(
            f"the subset keeps row {subset.indices.max()}; the dataset has {len(dataset)} rows"
        )
    return data.Subset(dataset, subset.indices.tolist())


def torch_sampler(subset: Subset, *, by_weight: bool = False, seed: int = 0) -> Any:
    """Make a sampler of the whole dataset that yields kept rows only.

    Args:
        subset: what to keep.
        by_weight: whether to draw with replacement in proportion to the weights, as many as are
            kept, anew in every epoch; default each kept row once, in a random order.
        seed: of the order.

    Returns:
        A `torch.utils.data.Sampler` for `DataLoader(dataset, sampler=...)`.

    Raises:
        ValueError: torch is not installed, a negative seed, weights that are all 0.
    """
    check_seed(seed)
    torch = require("torch", extra="parity")
    data = require("torch.utils.data", extra="parity")
    random = torch.Generator().manual_seed(seed)
    if not by_weight:
        return data.SubsetRandomSampler(subset.indices.tolist(), generator=random)
    if subset.achieved and not subset.weights.any():
        raise ValueError("all weights of the subset are 0: there is nothing to draw by weight")
    # Rows are drawn among the kept ones alone, by the inverse of the distribution function.
    # PyTorch's own sampler draws over all rows of the dataset, and takes 2^24 of them at most.
    rows = torch.as_tensor(subset.indices)
    ends = torch.as_tensor(subset.weights).cumsum(0)

    base: Any = data.Sampler

    class ByWeight(base):  # type: ignore[misc]  # torch has no types where it is not installed
        def __len__(self) -> int:
            return len(rows)

        def __iter__(self) -> Iterator[int]:
            if not len(rows):
                return iter(())
            places = torch.rand(len(rows), generator=random, dtype=torch.float64) * ends[-1]
            return iter(rows[torch.searchsorted(ends, places, right=True)].tolist())

    return ByWeight()


def torch_weights(subset: Subset, size: int) -> Any:
    """Return the weights of a dataset's rows as a float64 tensor.

    A row that is not kept has weight 0.

    Args:
        subset: what to keep.
        size: rows of the dataset.

    Raises:
        ValueError: torch is not installed.
    """
    torch = require("torch", extra="parity")
    weights = torch.zeros(size, dtype=torch.float64)
    weights[torch.as_tensor(subset.indices)] = torch.as_tensor(subset.weights)
    return weights


class SelectionSampler:
    """Keeps the rows of (X, y) that a method selects.

    Its method `fit_resample` is called as in imbalanced-learn.

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
        """Select rows, and return the kept rows of X and of y.

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
        """Return the constructor's arguments, as scikit-learn asks for them."""
        return {name: getattr(self, name) for name in _parameters()}

    def set_params(self, **parameters: Any) -> "SelectionSampler":
        """Change arguments of the constructor, and return the sampler."""
        for name, value in parameters.items():
            check_choice("parameter", name, _parameters())
            setattr(self, name, value)
        return self


def _parameters() -> list[str]:
    return list(inspect.signature(SelectionSampler).parameters)


def _rows(values: Any, rows: Integers) -> Any:
    """Take rows of an array, a tensor, a list or a data frame."""
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    if hasattr(values, "detach"):  # a tensor stays one
        return values[rows.tolist()]
    taken: Array = np.asarray(values)[rows]
    return taken
