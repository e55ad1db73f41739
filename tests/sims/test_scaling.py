"""Powers of two against NumPy's frexp and ldexp."""

import jax
import jax.numpy as jnp
import numpy as np

from sims.maxmargin.compiled import exponent_of, scale

VALUES = np.concatenate(
    [
        10 ** np.random.default_rng(0).uniform(-307, 308, 500),
        2.0 ** np.arange(-1022, 1024),
        [np.finfo(float).max],
    ]
)


def test_exponents_are_those_of_frexp() -> None:
    with jax.enable_x64(True):
        found = np.asarray(exponent_of(jnp.asarray(VALUES)))
    np.testing.assert_array_equal(found, np.frexp(VALUES)[1])


def test_scaling_rounds_nothing() -> None:
    for exponent in (-1074, -1024, -1023, -37, -1, 0, 1, 1023, 1024):
        with np.errstate(over="ignore"):
            expected = np.ldexp(VALUES, exponent)
        with jax.enable_x64(True):
            found = np.asarray(scale(jnp.asarray(VALUES), jnp.asarray(exponent)))
        normal = expected >= np.finfo(float).tiny
        np.testing.assert_array_equal(found[normal], expected[normal])
