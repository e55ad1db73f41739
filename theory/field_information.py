"""Computes the V-information of the student's field about the label, in the toy model."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, log_ndtr, ndtr
from jax.scipy.stats.norm import pdf
from jax.typing import ArrayLike

from hardset.checks import check_range
from hardset.float64 import Float64Array, float64

Array = jnp.ndarray

# The integrands are analytic within 2.8 of the real axis and Gaussian along it: the trapezoidal
# rule of this step is exact to rounding.
_STEP = 0.2
_NODES = _STEP * np.arange(0, 56)


@float64
def conditional_entropy(error: ArrayLike) -> Float64Array:
    """Return the entropy of the label given the student's field, in nats.

    It is H_V(Y|X) = E_h h_b(Phi(R h/sqrt(1 - R^2))) with h ~ N(0, 1) and R = cos(pi e). The family
    V holds all probabilistic readouts of the student's field h = J.x/abs(J). The best one is
    P(y = 1 | h) = Phi(R h/sqrt(1 - R^2)) (Xu et al. 2020, arXiv:2002.10689). h_b is the binary
    entropy. The inputs x are not selected.

    Args:
        error: fitting error e in [0, 1], any shape.

    Returns:
        The entropy in [0, log 2], full relative accuracy down to e = 0, where it tends to
        e / `theory.asymptotics.bayes_constant()` = 2.264 e.

    Raises:
        ValueError: `error` outside [0, 1].
    """
    check_range("error", error, 0.0, 1.0)
    return _entropy(jnp.asarray(error, jnp.float64))


@float64
def v_information(error: ArrayLike) -> Float64Array:
    """Return the V-information of the student's field about the label, in nats.

    It is I_V(X -> Y) = log 2 - H_V(Y|X), see `conditional_entropy`.

    Args:
        error: fitting error e in [0, 1], any shape.

    Returns:
        The information in [0, log 2], full relative accuracy down to e = 1/2, where it vanishes;
        it decreases with e below 1/2 (Xu et al. 2020, arXiv:2002.10689).

    Raises:
        ValueError: `error` outside [0, 1].
    """
    check_range("error", error, 0.0, 1.0)
    return _information(jnp.asarray(error, jnp.float64))


@jax.jit
def _entropy(error: Array) -> Array:
    return _average(_binary_entropy, error)


@jax.jit
def _information(error: Array) -> Array:
    near_chance = jnp.abs(error - 0.5) < 0.25
    direct = _average(_entropy_deficit, error)
    return jnp.where(near_chance, direct, np.log(2) - _average(_binary_entropy, error))


def _average(function: Callable[[Array], Array], error: Array) -> Array:
    """Return E_h function(h cot(pi e)) for an even function.

    The variable of integration is h near e = 1/2 and u = h cot(pi e), whose Gaussian scale does
    not shrink with e, near e = 0 and 1.
    """
    # sin(pi e) = sin(pi (1 - e)): the shorter angle has the digits.
    angle = np.pi * jnp.minimum(error, 1 - error)[..., None]
    scale = jnp.maximum(jnp.sin(angle), jnp.cos(angle))
    h = jnp.asarray(_NODES) * jnp.sin(angle) / scale
    u = jnp.asarray(_NODES) * jnp.cos(angle) / scale
    weights = jnp.asarray(np.where(_NODES == 0, _STEP, 2 * _STEP))
    return jnp.sum(weights * pdf(h) * function(u), axis=-1) * (jnp.sin(angle) / scale)[..., 0]


def _binary_entropy(u: Array) -> Array:
    """Return h_b(Phi(u)) in nats."""
    return -ndtr(u) * log_ndtr(u) - ndtr(-u) * log_ndtr(-u)


def _entropy_deficit(u: Array) -> Array:
    """Return log 2 - h_b(Phi(u)) in nats.

    It is x artanh(x) + log(1 - x^2)/2 with x = 2 Phi(u) - 1.
    """
    x = erf(jnp.minimum(u, 2.0) / np.sqrt(2))
    small = x * jnp.arctanh(x) + jnp.log1p(-x * x) / 2
    return jnp.where(u < 2.0, small, np.log(2) - _binary_entropy(u))
