"""The standard normal law, as fast as the hardware's erfc and exp."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc

__all__ = ["normal_cdf", "normal_pdf"]

Array = jnp.ndarray


def normal_cdf(x: Array) -> Array:
    """Phi(x) with full relative accuracy in the lower tail.

    One erfc: `jax.scipy.special.ndtr` evaluates three branches, five times the cost.
    """
    return 0.5 * erfc(-np.sqrt(0.5) * x)


def normal_pdf(x: Array) -> Array:
    """phi(x) = exp(-x^2/2)/sqrt(2 pi)."""
    return np.sqrt(0.5 / np.pi) * jnp.exp(-0.5 * x * x)
