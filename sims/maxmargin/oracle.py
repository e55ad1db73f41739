"""Reference max-margin solver: cvxpy with Clarabel at tight tolerances, one problem at a time."""

import warnings
from typing import Any

import cvxpy as cp
import numpy as np
from cvxpy.atoms.sum_squares import sum_squares
from numpy.typing import ArrayLike, NDArray

TOLERANCE = 1e-12
ACCEPTED = 1e-10
# Clarabel's tolerances are partly absolute, so the rows' unit counts: their typical norm keeps all
# digits; with small margins (norm(w) >> 1) it may fail there and succeed in a smaller unit.
UNITS = (1.0, 1e-2, 1e-4)


class OracleError(RuntimeError):
    """The reference solver did not reach its tolerance."""


def max_margin_cvxpy(
    features: ArrayLike,
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Return (w / norm(w), 1 / norm(w), u) for min norm(w)^2 / 2 subject to A w >= 1, by Clarabel.

    Args:
        features: A, shape (P, N): rows y x, labels already multiplied in.

    Returns:
        Unit direction (N,), margin min(A w) of it, and the dual u >= 0 (P,), normalised to sum 1.

    Raises:
        ValueError: if `features` is not a finite matrix with at least one row.
        OracleError: if Clarabel fails, or the rows are not separable.
    """
    matrix = np.asarray(features, np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape or not np.all(np.isfinite(matrix)):
        raise ValueError(
            f"features has shape {matrix.shape}; it must be (P, N), P >= 1, N >= 1, all finite"
        )
    norms = np.sqrt(np.mean(np.sum(matrix**2, axis=1)))
    if norms == 0.0:
        raise OracleError("every row is zero: nothing separates them")
    failure = ""
    for units in UNITS:
        try:
            weights, dual = _clarabel(matrix / (units * norms))
        except cp.error.SolverError as error:
            failure = str(error).split(".")[0]
            continue
        direction = weights / np.linalg.norm(weights)
        return direction, float(np.min(matrix @ direction)), dual / np.sum(dual)
    raise OracleError(f"Clarabel failed in every unit of the rows tried: {failure}")


def _clarabel(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weights: Any = cp.Variable(matrix.shape[1])
    constraint: Any = matrix @ weights >= 1.0
    problem: Any = cp.Problem(cp.Minimize(0.5 * sum_squares(weights)), [constraint])
    tolerances = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), TOLERANCE)
    # Rounding may end Clarabel's progress just above 1e-12; 1e-10 is still accepted.
    reduced = {f"reduced_{name}": ACCEPTED for name in tolerances}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        problem.solve(solver=cp.CLARABEL, **tolerances, **reduced)
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise OracleError(f"Clarabel ended with status {problem.status!r}, not with an optimum")
    return np.asarray(weights.value), np.maximum(constraint.dual_value, 0.0)
