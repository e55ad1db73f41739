"""Computes how many noisy kept examples a hyperplane can separate.

The kept examples are separable iff alpha_total < alpha*, where 1/alpha* is the least value over
(a_t, a_v) of the average of E (-(a_t u + a_v s + xi))_+^2 (Candes and Sur 2020 for all data).
"""

import dataclasses

import jax
import jax.numpy as jnp

from replica.erm import line, plane
from replica.erm.measure import Fields, Kept

Array = jnp.ndarray

STEPS = 200
SETTLED = 1e-26  # of the Newton decrement: the value is then right to the rounding error
NOTHING = 1e-7  # of the value at the origin, f/2: on the way to 0, where Newton's steps slow down


def separability(kept: Kept) -> Array:
    """Return 1/alpha*, the inverse of alpha_total at the separability threshold.

    The kept examples are linearly separable iff alpha_total times it is below 1, whatever the
    covariance of the inputs.

    Args:
        kept: the kept examples, of scalars; the weight is that of distinct examples (one copy), and
            alpha_total is not used.

    Returns:
        Scalar in [0, 1/2]; 0 where the examples are separable at any alpha_total, or up to
        2e7/keep_fraction. It can be differentiated once.
    """
    kept = dataclasses.replace(kept, alpha_total=jnp.ones(()), copies=jnp.ones(()))
    value, a = _descend(jax.lax.stop_gradient(kept))
    return _enveloped(kept, value, a)


@jax.custom_jvp
def _enveloped(kept: Kept, value: Array, a: Array) -> Array:
    """Return a least value over a, whose derivatives are those at fixed a."""
    return value


@_enveloped.defjvp
def _enveloped_rate(
    primals: tuple[Kept, Array, Array], tangents: tuple[Kept, Array, Array]
) -> tuple[Array, Array]:
    kept, value, a = primals
    one = jnp.ones(())

    def at(kept: Kept) -> Array:
        return plane.averages(kept, Fields(a[0], a[1], one, one), "separation").square

    return value, jax.jvp(at, (kept,), tangents[:1])[1]


def _descend(kept: Kept) -> tuple[Array, Array]:
    """Return the least value over the student's direction, and the direction."""
    one = jnp.ones(())

    def at(a: Array) -> tuple[Array, Array, Array]:
        found, slopes = line.averages_and_slopes(kept, Fields(a[0], a[1], one, one), "separation")
        return found.square, 2 * found.pull, 2 * slopes[:2, :2]

    State = tuple[Array, Array, Array, Array, Array, Array]

    def descend(state: State) -> State:
        count, a, value, gradient, hessian, _ = state
        # A direction along which nothing bends has no force either.
        ridge = 1e-14 * jnp.trace(hessian) + 1e-300
        step = -jnp.linalg.solve(hessian + ridge * jnp.eye(2), gradient)
        decrement = -(gradient @ step)

        def rises(trial: tuple[Array, Array]) -> Array:
            share, there = trial
            # The last steps change the value by less than its rounding error.
            allowed = 1e-14 * value - 0.1 * share * decrement
            return (share > 1e-6) & ~(there - value <= allowed)

        def shorten(trial: tuple[Array, Array]) -> tuple[Array, Array]:
            share = trial[0] / 2
            return share, at(a + share * step)[0]

        start = (one, at(a + step)[0])
        share, _ = jax.lax.while_loop(rises, shorten, start)
        a = a + share * step
        return count + 1, a, *at(a), decrement

    origin = at(jnp.zeros(2))

    def unsettled(state: State) -> Array:
        count, _, value, _, _, decrement = state
        going = (decrement > SETTLED * value) & (value > NOTHING * origin[0])
        return (count < STEPS) & going

    start = (jnp.zeros((), int), jnp.zeros(2), *origin, jnp.asarray(jnp.inf))
    _, a, value, *_ = jax.lax.while_loop(unsettled, descend, start)
    return jnp.where(value > NOTHING * origin[0], value, 0.0), a
