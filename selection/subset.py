"""Holds what a selection returns: the kept examples, their weights and their gains."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from selection.arrays import Floats, Integers


@dataclass(frozen=True, eq=False)
class Subset:
    """Holds the kept examples of a pool, in the order in which they were picked.

    Attributes:
        indices: rows of the pool, distinct, shape (k,).
        weights: how much each one counts in training, shape (k,); ones unless the method says so.
        gains: what each pick added to the objective, shape (k,), where the method has one.
        objective: value of the method's objective, where it has one.
        nested: whether the first j picks are those of budget j, for every j <= k; the weights
            are those of the whole.
        requested: the budget that was asked for.
        diagnostics: numbers and texts about the run, JSON-able, never rows of the pool.
    """

    indices: Integers
    weights: Floats
    gains: Floats | None = None
    objective: float | None = None
    nested: bool = False
    requested: int = 0
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        indices: Any,
        *,
        requested: int,
        weights: Any = None,
        gains: Any = None,
        objective: float | None = None,
        nested: bool = False,
        **diagnostics: Any,
    ) -> "Subset":
        """Make a subset of array-likes.

        Weights default to ones.
        """
        rows = np.asarray(indices, dtype=np.int64)
        return cls(
            indices=rows,
            weights=np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64),
            gains=None if gains is None else np.asarray(gains, np.float64),
            objective=None if objective is None else float(objective),
            nested=nested,
            requested=int(requested),
            diagnostics=diagnostics,
        )

    @property
    def achieved(self) -> int:
        """Count the examples that were kept."""
        return len(self.indices)

    @property
    def weighted(self) -> bool:
        """Say whether some examples weigh more than others."""
        return bool(np.any(self.weights != self.weights[:1]))

    def __len__(self) -> int:
        return len(self.indices)

    def at(self, rows: Integers) -> "Subset":
        """Move the picks to a larger pool.

        Its row `rows[j]` is position j here.
        """
        return replace(self, indices=np.asarray(rows, dtype=np.int64)[self.indices])

    def prefix(self, budget: int) -> "Subset":
        """Return the answer to a smaller budget.

        The subset must be nested.

        Raises:
            ValueError: the subset is not nested, has weights, or is smaller than `budget`.
        """
        if not self.nested:
            raise ValueError("the subset is not nested: its prefixes are no answers; select again")
        if self.weighted:
            raise ValueError("the subset has weights, which change with the budget; select again")
        if not 1 <= budget <= self.achieved:
            raise ValueError(
                f"budget = {budget} is outside the valid range [1, {self.achieved}] of a prefix"
            )
        gains = None if self.gains is None else self.gains[:budget]
        return replace(
            self,
            indices=self.indices[:budget],
            weights=self.weights[:budget],
            gains=gains,
            objective=None,
            requested=budget,
            diagnostics={},
        )
