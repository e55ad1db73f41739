"""Computes closed forms for students of random examples, without selection.

They are the overlap and error of Gibbs and Bayes students, the constants of the errors at large
alpha, and the capacity at a margin.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr
from jax.scipy.stats.norm import pdf
from jax.typing import ArrayLike
from scipy import optimize, special

from hardset.checks import check_range
from hardset.float64 import Float64Array, float64

Array = jnp.ndarray

# The zeros of H nearest to the real axis are 2.8 away from it. The integrands are entire but for
# the poles there, with Gaussian tails, so the trapezoidal rule of this step is exact to rounding.
_STEP = 0.2
_NODES = _STEP * np.arange(-55, 56)

_FIXED_POINT_STEPS = 30


@cache
def max_margin_constant() -> float:
    """Return lim alpha e of the max-margin student without selection.

    It is 1/(sqrt(2 pi) G(k)) with G(k) = E (k - xi)_+^3 / 3. When q = sqrt(1 - R^2) is small, only
    examples with a teacher field of order q press on the student. Then q and kappa = k q obey
    alpha q sqrt(2/pi) G(k) = 1, and the largest kappa is at G = k G', which is
    k^3 Phi(k) = (1 - k^2) phi(k).

    Returns:
        0.500489..., the limit of the saddle equations of Opper, Kinzel, Kleinz and Nehl (1990).
    """
    k = optimize.brentq(
        lambda k: k**3 * special.ndtr(k) - (1 - k * k) * _phi(k), 0.1, 1.0, xtol=1e-15
    )
    # E (k - xi)_+^2 = G'(k) and G = k G' at the optimum.
    cubic = k * ((1 + k * k) * special.ndtr(k) + k * _phi(k))
    return float(1 / (np.sqrt(2 * np.pi) * cubic))


@cache
def bayes_constant() -> float:
    """Return lim alpha e of the Bayes-optimal student, 0.44170...

    It is 1 / int Dt exp(-t^2/2)/H(t), from the limit R_G -> 1 of the equation that `gibbs_overlap`
    solves, with e_B -> sqrt(1 - R_G)/pi.
    """
    integrand = np.exp(-(_NODES**2) - special.log_ndtr(-_NODES))
    return float(np.sqrt(2 * np.pi) / (_STEP * integrand.sum()))


@cache
def gibbs_constant() -> float:
    """Return lim alpha e of the Gibbs student, 0.62466...

    It is sqrt(2) times `bayes_constant`.
    """
    return float(np.sqrt(2) * bayes_constant())


@float64
def gibbs_overlap(alpha: ArrayLike) -> Float64Array:
    """Return the overlap R_G of a Gibbs student with the teacher.

    A Gibbs student is drawn at random from the version space of alpha N examples. R_G solves
    R/sqrt(1 - R) = (alpha/pi) int Dt exp(-R t^2/2)/H(sqrt(R) t) (Opper and Haussler 1991). 1 - R
    loses digits near R = 1: use `gibbs_error` and `bayes_error` there.

    Args:
        alpha: unpruned examples / N, >= 0, any shape.

    Returns:
        R_G in [0, 1), the shape of `alpha`.

    Raises:
        ValueError: `alpha` negative, infinite or not a number.
    """
    overlap, _ = _gibbs(alpha)
    return overlap


@float64
def gibbs_error(alpha: ArrayLike) -> Float64Array:
    """Return the error arccos(R_G)/pi of the Gibbs student.

    It has full relative accuracy at any alpha.

    Args:
        alpha: unpruned examples / N, >= 0, any shape.

    Returns:
        The error in (0, 1/2], the shape of `alpha`.

    Raises:
        ValueError: `alpha` negative, infinite or not a number.
    """
    _, root = _gibbs(alpha)
    return jnp.arcsin(root / np.sqrt(2)) * (2 / np.pi)


@float64
def bayes_error(alpha: ArrayLike) -> Float64Array:
    """Return the error arccos(sqrt(R_G))/pi of the Bayes-optimal vote.

    It has full relative accuracy at any alpha.

    Args:
        alpha: unpruned examples / N, >= 0, any shape.

    Returns:
        The error in (0, 1/2], the shape of `alpha`.

    Raises:
        ValueError: `alpha` negative, infinite or not a number.
    """
    overlap, root = _gibbs(alpha)
    return jnp.arctan2(root, jnp.sqrt(overlap)) / np.pi


@float64
def gardner_capacity(margin: ArrayLike) -> Float64Array:
    """Return the largest alpha at which random labels are separable with a margin.

    For a margin kappa it is 1/alpha_c = (1 + kappa^2) H(-kappa) + kappa phi(kappa) (Gardner 1988).

    Args:
        margin: kappa >= 0, any shape. Below 0 the formula does not hold: it is replica symmetric.

    Returns:
        alpha_c in (0, 2], the shape of `margin`.

    Raises:
        ValueError: `margin` negative, infinite or not a number.
    """
    check_range("margin", margin, 0.0, np.inf)
    kappa = jnp.asarray(margin, jnp.float64)
    return 1 / ((1 + kappa**2) * ndtr(kappa) + kappa * pdf(kappa))


def _gibbs(alpha: ArrayLike) -> tuple[Array, Array]:
    """Return R_G and sqrt(1 - R_G), both with full relative accuracy."""
    check_range("alpha", alpha, 0.0, np.inf)
    return _solve_gibbs(jnp.asarray(alpha, jnp.float64))


@jax.jit
def _solve_gibbs(alpha: Array) -> tuple[Array, Array]:
    def excess(ratio: Array) -> Array:
        return ratio - alpha / np.pi * _gibbs_integral(_split(ratio)[0])

    def iterate(function: object, ratio: Array) -> Array:
        # The integral moves only between 2 and 2.27: every step gains more than one digit.
        def step(_: int, ratio: Array) -> Array:
            return alpha / np.pi * _gibbs_integral(_split(ratio)[0])

        return jax.lax.fori_loop(0, _FIXED_POINT_STEPS, step, ratio)

    ratio = jax.lax.custom_root(
        excess, 2 * alpha / np.pi, iterate, lambda linear, y: y / linear(jnp.ones_like(y))
    )
    return _split(ratio)


def _split(ratio: Array) -> tuple[Array, Array]:
    """Return R and sqrt(1 - R) from R/sqrt(1 - R)."""
    root = 2 / (ratio + jnp.sqrt(ratio**2 + 4))
    return ratio * root, root


def _gibbs_integral(overlap: Array) -> Array:
    """Return int Dt exp(-R t^2/2)/H(sqrt(R) t)."""
    overlap = overlap[..., None]
    t = jnp.asarray(_NODES)
    # sqrt(R) has no derivative at R = 0. The integral is even in sqrt(R), so that 1e-300 in place
    # of 0 changes no digit.
    root = jnp.sqrt(jnp.maximum(overlap, 1e-300))
    exponent = -(1 + overlap) * t**2 / 2 - log_ndtr(-root * t)
    return _STEP / np.sqrt(2 * np.pi) * jnp.sum(jnp.exp(exponent), axis=-1)


def _phi(x: float) -> float:
    return float(np.exp(-x * x / 2) / np.sqrt(2 * np.pi))
