"""Means over draws, extrapolation to N -> infinity, chi-square."""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc

__all__ = ["Extrapolation", "chi_square_p_value", "extrapolate", "mean_and_stderr"]

Floats = NDArray[np.float64]


class Extrapolation(NamedTuple):
    """Value at N -> infinity with its standard error, and the fitted coefficients."""

    value: float
    stderr: float
    coefficients: Floats


def mean_and_stderr(samples: ArrayLike, valid: ArrayLike) -> tuple[Floats, Floats]:
    """Mean over the last axis and its standard error s/sqrt(n).

    Args:
        samples: shape (..., n).
        valid: which samples count, same shape.

    Returns:
        Mean, NaN without a valid sample, and standard error, NaN with fewer than two.
    """
    kept = np.where(valid, np.asarray(samples, dtype=np.float64), np.nan)
    count = np.sum(valid, axis=-1)
    with warnings.catch_warnings():
        # NumPy warns about empty slices; `count` tells the caller about them.
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(kept, axis=-1)
        stderr = np.nanstd(kept, axis=-1, ddof=1) / np.sqrt(count)
    return mean, stderr


def extrapolate(
    dims: ArrayLike, means: ArrayLike, stderrs: ArrayLike, *, curvature: float = 0.0
) -> Extrapolation:
    """Value at N -> infinity of m(N) = m + a/N + b/N^2 by generalised least squares.

    a is free; b is not fitted but carried as an unknown of known size, b ~ N(0, curvature^2),
    which adds curvature^2/(N M)^2 to the covariance of the means at N and M. Its uncertainty is
    therefore part of the standard error.

    Args:
        dims: values of N, shape (k,), at least two different ones.
        means: m(N), shape (k,).
        stderrs: their standard errors, > 0, shape (k,).
        curvature: standard deviation of b, in the unit of m.

    Returns:
        m, its standard error, and (m, a).

    Raises:
        ValueError: fewer than two dimensions.
    """
    inverse = 1 / np.asarray(dims, dtype=np.float64)
    if len(np.unique(inverse)) < 2:
        raise ValueError("dims holds one dimension; an extrapolation in 1/N needs at least two")
    covariance = np.diag(np.square(np.asarray(stderrs, dtype=np.float64)))
    covariance += curvature**2 * np.outer(inverse**2, inverse**2)
    design = np.stack([np.ones_like(inverse), inverse], axis=1)
    weighted = np.linalg.solve(covariance, design)
    spread = np.linalg.inv(design.T @ weighted)
    coefficients = spread @ (weighted.T @ np.asarray(means, dtype=np.float64))
    return Extrapolation(float(coefficients[0]), float(np.sqrt(spread[0, 0])), coefficients)


def chi_square_p_value(z_scores: ArrayLike) -> tuple[float, float]:
    """Chi-square of independent z-scores and the probability of a larger one.

    Args:
        z_scores: shape (n,), finite.

    Returns:
        sum z^2 and its upper tail probability with n degrees of freedom; 0 and 1 for no z-score.
    """
    z = np.asarray(z_scores, dtype=np.float64)
    square = float(np.sum(z**2))
    return square, float(chdtrc(z.size, square)) if z.size else 1.0
