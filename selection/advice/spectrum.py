"""Estimates the eigenvalues of a population's covariance from those of a sample.

The eigenvalues of a sample spread: with n rows in N dimensions those of C = 1 fill the range
(1 +- sqrt(N/n))^2. The equation of Marchenko and Pastur (1967) is linear in the law of the true
eigenvalues, so that a least-squares fit with weights >= 0 inverts it (El Karoui 2008, Annals of
Statistics 36). It is taken at negative arguments, where it holds the sums over c/(lam + Lambda c)
that the theory of a regularised student needs.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls

from hardset.checks import check_integer, check_range
from selection.arrays import Floats

ARGUMENTS = 80  # at which the equation is fitted
VALUES = 120  # that the true eigenvalues may take
FIRM = 1e3  # weight of the conditions on mass and trace


def population_eigenvalues(sample: ArrayLike, degrees: int, dim: int) -> Floats:
    """Estimate the eigenvalues of a population's covariance.

    Args:
        sample: positive eigenvalues of the covariance of the sample, shape (rank,), any order.
        degrees: degrees of freedom of that covariance, >= 1: rows less one for centred data.
        dim: eigenvalues to return, at least the rank; sizes beyond the rank are inferred.

    Returns:
        Eigenvalues > 0 from the largest down, of the same sum, shape (dim,).

    Raises:
        ValueError: eigenvalues that are not positive, numbers out of range.
    """
    found = np.sort(np.asarray(sample, np.float64).ravel())[::-1]
    check_range("sample", found, 0.0, np.inf, open_low=True)
    check_integer("degrees", degrees, 1, 2**31)
    check_integer("dim", dim, max(1, found.size), 2**31)
    trace = found.sum()
    # In units of the mean eigenvalue. Of `degrees` companion eigenvalues the others are zero.
    found = found * dim / trace
    companion = found[:degrees]
    zeros = degrees - companion.size
    shifts = np.geomspace(1e-3 * min(1.0, degrees / dim), 10 * found[0], ARGUMENTS)
    transform = (np.sum(1 / (companion + shifts[:, None]), axis=1) + zeros / shifts) / degrees
    wanted = degrees * (1 / transform - shifts)
    values = np.geomspace(min(1e-4, 0.01 * found[-1]), 1.5 * found[0], VALUES)
    seen = dim * values / (1 + np.outer(transform, values))
    rows = np.vstack([seen / wanted[:, None], FIRM * np.ones(VALUES), FIRM * values])
    mass, _ = nnls(rows, np.r_[np.ones(ARGUMENTS), FIRM, FIRM], maxiter=100 * VALUES)
    # Each of `dim` equal shares of the mass becomes one eigenvalue, its mean.
    share = np.r_[0.0, np.cumsum(mass)] / mass.sum()
    whole = np.r_[0.0, np.cumsum(mass * values)]
    cells = np.diff(np.interp(np.linspace(0.0, 1.0, dim + 1), share, whole))[::-1]
    return np.sort(cells)[::-1] * trace / cells.sum()
