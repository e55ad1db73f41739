"""Reference max-margin solver: cvxpy with Clarabel at tight tolerances, one problem at a time."""

import warnings

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike, NDArray

TOLERANCE = 1e-12
ACCEPTED = 1e-10


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
    # Clarabel's tolerances are partly absolute: unit row norms and a multiplier of order one.
    unit = float(np.sqrt(np.mean(np.sum(matrix**2, axis=1))))
    if unit == 0.0:
        raise OracleError("every row is zero: nothing separates them")
    weights = cp.Variable(matrix.shape[1])
    constraint = (matrix / unit) @ weights >= 1.0
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(weights)), [constraint])
    tolerances = {name: TOLERANCE for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas")}
    # Rounding may end Clarabel's progress just above 1e-12; what it then holds is judged below.
    reduced = {f"reduced_{name}": ACCEPTED for name in tolerances}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            problem.solve(solver=cp.CLARABEL, **tolerances, **reduced)
        except cp.error.SolverError as error:
            raise OracleError(f"Clarabel failed: {error}") from error
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise OracleError(f"Clarabel ended with status {problem.status!r}, not with an optimum")
    direction = weights.value / np.linalg.norm(weights.value)
    dual = np.maximum(constraint.dual_value, 0.0)
    return direction, float(np.min(matrix @ direction)), dual / np.sum(dual)
