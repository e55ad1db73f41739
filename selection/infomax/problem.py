"""The objective of InfoMax."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, issparse

from hardset.checks import check_range
from selection.core.arrays import Array, Floats, Integers, real_rows
from selection.core.selector import check_budget

__all__ = ["InfoMaxProblem", "largest"]


@dataclass(frozen=True, eq=False)
class InfoMaxProblem:
    """Maximise z.I - lam z^T K z over z in {0, 1}^n with sum z = p (arXiv:2506.01701, eq. 2).

    Attributes:
        information: I, shape (n,).
        redundancy: K, symmetric, non-negative, zero diagonal, sparse.
        weight: lam, >= 0.
        budget: p.
    """

    information: Floats
    redundancy: csr_array
    weight: float
    budget: int

    @classmethod
    def of(
        cls, information: ArrayLike, redundancy: Any, weight: float, budget: int
    ) -> "InfoMaxProblem":
        """The problem of any array-likes, checked.

        Args:
            information: shape (n,), finite.
            redundancy: shape (n, n), dense or SciPy sparse.
            weight: lam, finite, >= 0.
            budget: p, 1 to n.

        Raises:
            ValueError: a shape, or a matrix that is not symmetric, not finite, has a negative
                entry or a diagonal.
        """
        values = real_rows("information", information, ndim=(1,)).astype(np.float64)
        check_budget(budget, len(values))
        check_range("weight", weight, 0, np.inf, open_high=True)
        matrix = csr_array(redundancy if issparse(redundancy) else np.asarray(redundancy, float))
        matrix = matrix.astype(np.float64)
        if matrix.shape != (len(values), len(values)):
            raise ValueError(
                f"redundancy has shape {matrix.shape}; it must be {(len(values), len(values))}"
            )
        if not np.all(np.isfinite(matrix.data)) or np.any(matrix.data < 0):
            raise ValueError("redundancy must hold finite similarities >= 0")
        if np.any(matrix.diagonal() != 0):
            raise ValueError("redundancy must have a zero diagonal")
        if abs(matrix - matrix.T).max() > 0:
            raise ValueError("redundancy must be symmetric")
        return cls(values, matrix, float(weight), int(budget))

    def __len__(self) -> int:
        return len(self.information)

    def after(self, given: Integers) -> tuple["InfoMaxProblem", Integers]:
        """The problem of the other examples when some are chosen already, and their rows.

        Each loses 2 lam times its redundancy to the given ones. The objective is what the others
        add, so that every solver and every bound stays what it is.

        Args:
            given: distinct rows, not counted in the budget.
        """
        rest = np.setdiff1d(np.arange(len(self)), given)
        if len(rest) == len(self):
            return self, rest
        left = self.marginals(self.indicator(given))[rest]
        kept = csr_array(self.redundancy[rest][:, rest])
        return InfoMaxProblem(left, kept, self.weight, self.budget), rest

    @cached_property
    def coupling(self) -> Floats:
        """2 lam K_ij, the loss if both ends of an edge are chosen, in the order of K's entries."""
        return 2 * self.weight * self.redundancy.data

    @cached_property
    def coupling_matrix(self) -> csr_array:
        """2 lam K."""
        matrix = self.redundancy
        return csr_array((self.coupling, matrix.indices, matrix.indptr), shape=matrix.shape)

    def marginals(self, filling: Floats) -> Floats:
        """Gradient I - 2 lam K x; what an example adds to the chosen ones if x is binary."""
        return self.information - self.coupling_matrix @ filling

    def indicator(self, indices: Integers) -> Floats:
        """z as an array of zeros and ones."""
        chosen = np.zeros(len(self))
        chosen[indices] = 1.0
        return chosen

    def objective(self, indices: Integers) -> float:
        """z.I - lam z^T K z of a subset."""
        chosen = self.indicator(indices)
        return float(chosen @ self.information - chosen @ (self.coupling_matrix @ chosen) / 2)

    def top_sum(self, values: Floats) -> float:
        """Largest linear objective: the sum of the p largest values."""
        n = len(values)
        if self.budget == n:
            return float(np.sum(values))
        return float(np.sum(np.partition(values, n - self.budget)[n - self.budget :]))


def largest(values: Array, count: int) -> Integers:
    """Positions of the `count` largest values, smaller position first among equals, ascending."""
    n = len(values)
    if count >= n:
        return np.arange(n)
    edge = np.partition(values, n - count)[n - count]
    above = np.flatnonzero(values > edge)
    level = np.flatnonzero(values == edge)[: count - len(above)]
    return np.sort(np.concatenate([above, level]))
