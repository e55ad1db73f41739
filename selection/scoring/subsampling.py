"""Scores examples by how often optimal subsampling for logistic regression draws them.

Each score is a probability: they are >= 0 and their sum is 1. The method `importance` draws by
them and weighs what it drew.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from hardset.checks import check_integer
from selection.arrays import Floats, Integers, blocks, check_squares, class_codes, real_rows
from selection.given import largest_remainder
from selection.pool import Scores
from selection.selector import check_seed, generator

RIDGE = 1.0  # of the pilot; without one separable classes have no estimate
STEPS = 100  # of Newton
TOLERANCE = 1e-20  # of the squared Newton decrement, in units of the loss

Directions = Callable[[Floats], Floats]  # of rows (b, d + 1), shape (b, d + 1)


def a_optimal(
    features: ArrayLike, labels: ArrayLike, *, pilot: int = 1000, seed: int = 0
) -> Scores:
    """Score by the probability of least mean squared error of the coefficients.

    It is abs(y_i - p_i) norm(M^-1 x_i), divided by its sum, with x = (1, features), p_i the
    probability of class 1 by a pilot and M = mean_i p_i (1 - p_i) x_i x_i^T over all examples.

    Drawn by these, with weights 1 / probability, the trace of the covariance of the weighted
    estimate is least: the criterion of A-optimality, mMSE to its authors. Of dependent features
    M^-1 is the pseudoinverse.

    The pilot is a logistic regression on a case-control sample: half of it from each class, or all
    that a class has, weighted back to the sizes of the classes. It minimises the weighted sum of
    the losses and half the squared norm of the coefficients, without the intercept's.

    Args:
        features: shape (n, d).
        labels: two classes, whole numbers or strings, shape (n,).
        pilot: examples of the pilot, at least 2; all examples if there are no more.
        seed: of the pilot's sample.

    Raises:
        ValueError: different lengths, NaN or infinity, one class or more than two.

    Source: Wang, Zhu and Ma, Optimal subsampling for large sample logistic regression, JASA 2018,
    arXiv:1702.01166: the probabilities mMSE and the two-step algorithm. There the pilot has no
    ridge, and M is that of the pilot's sample.
    """
    rows, classes = _two_classes(features, labels)
    beta = _pilot(rows, classes, pilot, seed)
    inverse = np.linalg.pinv(_information(rows, beta), hermitian=True)
    return _probabilities("a-optimal", rows, classes, beta, lambda x: x @ inverse, pilot, seed)


def l_optimal(
    features: ArrayLike, labels: ArrayLike, *, pilot: int = 1000, seed: int = 0
) -> Scores:
    """Score by the probability of least error of M times the coefficients.

    It is abs(y_i - p_i) norm(x_i), divided by its sum, with x = (1, features) and p_i the
    probability of class 1 by a pilot, that of `a_optimal`.

    Drawn by these, with weights 1 / probability, the trace of the covariance of M times the
    weighted estimate is least: a criterion of L-optimality, mVc to its authors. It costs n d,
    where `a_optimal` costs n d^2.

    Args:
        features: shape (n, d).
        labels: two classes, whole numbers or strings, shape (n,).
        pilot: examples of the pilot, at least 2; all examples if there are no more.
        seed: of the pilot's sample.

    Raises:
        ValueError: different lengths, NaN or infinity, one class or more than two.

    Source: Wang, Zhu and Ma, Optimal subsampling for large sample logistic regression, JASA 2018,
    arXiv:1702.01166: the probabilities mVc and the two-step algorithm. There the pilot has no
    ridge.
    """
    rows, classes = _two_classes(features, labels)
    beta = _pilot(rows, classes, pilot, seed)
    return _probabilities("l-optimal", rows, classes, beta, lambda x: x, pilot, seed)


def _two_classes(features: ArrayLike, labels: ArrayLike) -> tuple[Floats, Integers]:
    """Check features and labels, and number the two classes 0 and 1."""
    rows = real_rows("features", features, ndim=(2,))
    check_squares("features", rows)
    codes, _ = class_codes("labels", labels)
    if len(codes) != len(rows):
        raise ValueError(
            f"the arrays have different lengths: features {len(rows)}, labels {len(codes)}"
        )
    found, classes = np.unique(codes, return_inverse=True)
    if len(found) != 2:
        raise ValueError(
            f"labels has {len(found)} classes; subsampling for logistic regression needs two"
        )
    return rows, classes.astype(np.int64)


def _with_intercept(rows: Floats) -> Floats:
    return np.column_stack([np.ones(len(rows)), rows.astype(np.float64)])


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))


def _pilot(rows: Floats, classes: Integers, pilot: int, seed: int) -> Floats:
    """Estimate intercept and coefficients on a case-control sample, shape (d + 1,)."""
    check_integer("pilot", pilot, 2, 2**31)
    check_seed(seed)
    sizes = np.bincount(classes)
    total = min(pilot, len(rows))
    counts = largest_remainder([1, 1], total, sizes)
    drawn = [
        generator(seed, one).permutation(np.flatnonzero(classes == one))[: counts[one]]
        for one in (0, 1)
    ]
    chosen = np.sort(np.concatenate(drawn))
    weights = (sizes / counts)[classes[chosen]] * (total / len(rows))
    return _logistic(_with_intercept(rows[chosen]), classes[chosen], weights)


def _logistic(x: Floats, y: Integers, weights: Floats) -> Floats:
    """Minimise the weighted logistic losses and the ridge by damped Newton steps."""
    ridge = np.full(x.shape[1], RIDGE)
    ridge[0] = 0.0
    signs = 1.0 - 2.0 * y

    def cost(beta: Floats) -> float:
        losses = np.logaddexp(0, signs * (x @ beta))
        return float(weights @ losses + ridge @ beta**2 / 2)

    beta = np.zeros(x.shape[1])
    for _ in range(STEPS):
        p = _sigmoid(x @ beta)
        gradient = x.T @ (weights * (p - y)) + ridge * beta
        hessian = (x * (weights * p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        decrement, now = float(gradient @ step), cost(beta)
        if decrement <= TOLERANCE * (1 + now):
            break
        size = 1.0
        while cost(beta - size * step) > now - 1e-4 * size * decrement and size > 1e-9:
            size /= 2
        beta = beta - size * step
    return beta


def _information(rows: Floats, beta: Floats) -> Floats:
    """Average p (1 - p) x x^T over all examples."""
    total = np.zeros((len(beta), len(beta)))
    for part in blocks(len(rows), len(beta)):
        x = _with_intercept(rows[part])
        p = _sigmoid(x @ beta)
        total += (x * (p * (1 - p))[:, None]).T @ x
    return total / len(rows)


def _probabilities(
    name: str,
    rows: Floats,
    classes: Integers,
    beta: Floats,
    directions: Directions,
    pilot: int,
    seed: int,
) -> Scores:
    """Divide abs(y - p) norm(direction) by its sum over the examples."""
    values = np.empty(len(rows))
    for part in blocks(len(rows), len(beta)):
        x = _with_intercept(rows[part])
        # 1 - p of class 1 without cancellation.
        wrong = _sigmoid((1.0 - 2.0 * classes[part]) * (x @ beta))
        values[part] = wrong * np.linalg.norm(directions(x), axis=1)
    return Scores.of(values / values.sum(), name=name, pilot=pilot, seed=seed)
