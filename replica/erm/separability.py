"""Computes how many noisy kept examples a hyperplane can separate.

The kept examples are separable iff alpha_total < alpha*, where 1/alpha* is the least value over
(a_t, b) of the average of E (-(a_t u + kappa b s + q_e xi))_+^2, q_e^2 = 1 + (1 - kappa^2) b^2
(Candes and Sur 2020 for all data). One probe has kappa = 1, and K cross-fitted ones the kappa^2 of
docs/erm.md.
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


def separability(kept: Kept, share: Array) -> Array:
    """Return 1/alpha*, the inverse of alpha_total at the separability threshold.

    The kept examples are linearly separable iff alpha_total times it is below 1, whatever the
    covariance of the inputs.

    Args:
        kept: the kept examples, of scalars; the weight is that of distinct examples (one copy), and
            alpha_total is not used.
        share: kappa^2 of cross-fitted probes, 1 for a single one.

    Returns:
        Scalar in [0, 1/2]; 0 where the examples are separable at any alpha_total, or up to
        2e7/keep_fraction. It can be differentiated once.
    """
    kept = dataclasses.replace(kept, alpha_total=jnp.ones(()), copies=jnp.ones(()))
    value, a = _descend(*jax.lax.stop_gradient((kept, share)))
    return _enveloped(kept, share, value, a)


def _fields(a: Array, share: Array) -> Fields:
    """Return the fields of a student with the components (a_t, b), of length 1 outside."""
    return Fields(
        along=a[0],
        across=jnp.sqrt(share) * a[1],
        apart=jnp.sqrt(1 + (1 - share) * a[1] ** 2),
        prox_step=jnp.ones(()),
    )


@jax.custom_jvp
def _enveloped(kept: Kept, share: Array, value: Array, a: Array) -> Array:
    """Return a least value over a, whose derivatives are those at fixed a."""
    return value


@_enveloped.defjvp
def _enveloped_rate(
    primals: tuple[Kept, Array, Array, Array], tangents: tuple[Kept, Array, Array, Array]
) -> tuple[Array, Array]:
    kept, share, value, a = primals

    def at(kept: Kept, share: Array) -> Array:
        return plane.averages(kept, _fields(a, share), "separation").square

    return value, jax.jvp(at, (kept, share), tangents[:2])[1]


def _descend(kept: Kept, share: Array) -> tuple[Array, Array]:
    """Return the least value over the student's direction, and the direction."""
    turn = jnp.stack([jnp.ones_like(share), jnp.sqrt(share)])

    def at(a: Array) -> tuple[Array, Array, Array]:
        fields = _fields(a, share)
        found, slopes = line.averages_and_slopes(kept, fields, "separation")
        # The field outside the plane grows with b; E xi M' = q_e E M'' by Stein's lemma.
        wide = jnp.stack([jnp.zeros_like(share), (1 - share) * a[1]])
        gradient = turn * found.pull + wide * found.curvature
        by_apart = wide / fields.apart
        cross = jnp.outer(turn * slopes[:2, 2], by_apart)
        bend = jnp.outer(wide, turn * slopes[3, :2] + slopes[3, 2] * by_apart)
        bend = bend.at[1, 1].add((1 - share) * found.curvature)
        hessian = jnp.outer(turn, turn) * slopes[:2, :2] + cross + bend
        return found.square, 2 * gradient, hessian + hessian.T

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

        start = (jnp.ones(()), at(a + step)[0])
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
