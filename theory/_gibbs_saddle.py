"""Saddle point of the version-space entropy: moments, equations, solver, second-order check."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr
from jax.scipy.stats.norm import pdf

from theory._plane import field_rule
from theory.asymptotics import gibbs_overlap
from theory.weights import SelectionWeight

Array = jnp.ndarray

_MAX_COTANGENT = 1e100  # beyond it the label is the probe's sign, and products stay finite


class Model(NamedTuple):
    """Distinct examples / N before selection, probe angle and selection weight."""

    alpha: Array
    theta: Array
    weight: SelectionWeight


class Student(NamedTuple):
    """In-plane norm c, angle psi from the teacher, spread Q - c^2, variance 1 - Q."""

    in_plane: Array
    angle: Array
    spread: Array
    variance: Array


def student(state: Array) -> Student:
    """Order parameters from (psi, log(c^2/(1-Q)), log((Q-c^2)/(1-Q))).

    c^2 + (Q - c^2) + (1 - Q) = 1 holds by construction, and all three keep their digits however
    small they are.
    """
    variance = 1 / (1 + jnp.exp(state[1]) + jnp.exp(state[2]))
    return Student(
        in_plane=jnp.sqrt(jnp.exp(state[1]) * variance),
        angle=state[0],
        spread=jnp.exp(state[2]) * variance,
        variance=variance,
    )


def conditional_moments(z: Array, theta: Array, student: Student) -> Array:
    """E[1(y = +1) F | z] for F = g, g z', g^2, 1 and log Phi(s), at a scalar probe field z.

    h = c(z cos d + z' sin d) + sqrt(spread) xi is the student's cavity field, d = theta - psi,
    z' the in-plane component orthogonal to the probe, s = h/sqrt(variance) and
    g = phi(s)/(Phi(s) sqrt(variance)). Given (z, h), z' is Gaussian and the label's condition
    z' > -z cot(theta) is a tail of it: one dimension is left, h.

    Returns:
        Shape (5,): the moments of g, g z', g^2, 1, log Phi.
    """
    c, psi, spread, variance = student
    towards, aside = c * jnp.cos(theta - psi), c * jnp.sin(theta - psi)
    scale = jnp.sqrt(aside**2 + spread)
    cotangent = jnp.minimum(jnp.cos(theta) / jnp.maximum(jnp.sin(theta), 1e-300), _MAX_COTANGENT)

    features = (
        (-towards * z / scale, jnp.sqrt(variance) / scale),
        (-z * cotangent * scale / _nonzero(aside), jnp.sqrt(spread) / jnp.abs(_nonzero(aside))),
    )
    # Where the nodes lie does not change the integral: derivatives pass by them.
    eta, rule = jax.lax.stop_gradient(field_rule(features, jnp.zeros(1)))
    s = (towards * z + scale * eta) / jnp.sqrt(variance)
    log_cdf = log_ndtr(s)
    g = jnp.exp(-(s**2) / 2 - log_cdf) / jnp.sqrt(2 * np.pi * variance)
    width = jnp.sqrt(spread) / scale
    mean = aside * eta / scale
    reach = (z * cotangent + mean) / width
    inside = ndtr(reach)
    side = mean * inside + width * pdf(reach)
    return jnp.stack([g * inside, g * side, g**2 * inside, inside, log_cdf * inside]) @ rule


def kept_moments(model: Model, student: Student) -> Array:
    """alpha_kept E_kept[F] for F = g z, g z', g^2, 1 and log Phi, shape (5,)."""
    c, psi, spread, variance = jax.lax.stop_gradient(student)
    apart = model.theta - psi
    width = jnp.sqrt(variance + spread + (c * jnp.sin(apart)) ** 2)
    features = (
        (jnp.zeros(()), jnp.minimum(jnp.tan(jnp.minimum(model.theta, 1.5)), 2.0)),
        (jnp.zeros(()), width / jnp.abs(_nonzero(c * jnp.cos(apart)))),
    )
    z, rule = field_rule(features, jnp.append(model.weight.breaks(), 0.0))
    rule = 2 * model.alpha * rule * model.weight(z)
    inner = jax.vmap(conditional_moments, in_axes=(0, None, None))(z, model.theta, student)
    return rule @ inner.at[:, 0].multiply(z)


def equations(model: Model, state: Array) -> Array:
    """Left over right side, minus 1 or in logarithm, of the three saddle equations.

    With g of `conditional_moments`: alpha E[g x] = v in the plane, along v and across it, and
    alpha E[g^2] = (Q - c^2)/(1 - Q)^2.
    """
    point = student(state)
    gz, gside, square, _, _ = kept_moments(model, point)
    apart = model.theta - point.angle
    along = gz * jnp.cos(apart) + gside * jnp.sin(apart)
    # psi grows away from the teacher, towards the probe.
    across = gz * jnp.sin(apart) - gside * jnp.cos(apart)
    return jnp.stack(
        [
            across / point.in_plane,
            along / point.in_plane - 1,
            jnp.log(square * point.variance**2 / point.spread),
        ]
    )


def gradient(model: Model, state: Array) -> Array:
    """Gradient of the entropy s with respect to (v.J_p, v across J_p, Q), shape (3,)."""
    point = student(state)
    gz, gside, square, _, _ = kept_moments(model, point)
    v = _plane_vector(model, point)
    spread, variance = point.spread, point.variance
    pull = jnp.stack([gz, gside])
    # 1/(1-Q) - alpha E[-dg/dh] with Stein's identity for E[g h]; it is 1 at the saddle.
    multiplier = (variance * (1 - v @ pull) + spread - variance**2 * square) / (
        variance * (variance + spread)
    )
    return jnp.append(pull - multiplier * v, (spread / variance**2 - square) / 2)


def entropy(model: Model, state: Array) -> Array:
    """Log volume per dimension of the students with the order parameters `state`."""
    point = student(state)
    energy = kept_moments(model, point)[4]
    ratio = (point.spread + point.variance) / point.variance
    return jnp.log(point.variance) / 2 + ratio / 2 - 0.5 + energy


def is_physical(model: Model, state: Array) -> Array:
    """Whether the stationary point is a minimum over Q and then a maximum over v."""

    def coordinates(state: Array) -> Array:
        point = student(state)
        return jnp.append(_plane_vector(model, point), point.in_plane**2 + point.spread)

    slope = jax.jacfwd(lambda state: gradient(model, state))(state)
    hessian = slope @ jnp.linalg.inv(jax.jacfwd(coordinates)(state))
    over_v = hessian[:2, :2] - jnp.outer(hessian[:2, 2], hessian[2, :2]) / hessian[2, 2]
    over_v = (over_v + over_v.T) / 2
    return (hessian[2, 2] > 0) & (jnp.trace(over_v) < 0) & (jnp.linalg.det(over_v) > 0)


def solve(
    model: Model, alpha_kept: Array, tolerance: float, max_steps: int
) -> tuple[Array, Array, Array]:
    """Newton's method on `equations`, with a step of state evolution where it does not improve.

    State evolution (the fixed-point form of the same equations) converges from the random
    student's overlaps, at times slowly; Newton's method adds the digits.

    Returns:
        The state, its residual and the steps taken.
    """
    start = gibbs_overlap(alpha_kept)
    # Random examples: Q = R = c, hence c^2/(1-Q) = R^2/(1-R) and (Q-c^2)/(1-Q) = R.
    state = jnp.stack([jnp.zeros(()), 2 * jnp.log(start) - jnp.log1p(-start), jnp.log(start)])

    def size(values: Array) -> Array:
        return jnp.where(jnp.all(jnp.isfinite(values)), jnp.max(jnp.abs(values)), jnp.inf)

    def body(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        state, values, steps, _ = carry
        slope = jax.jacfwd(lambda state: equations(model, state))(state)
        change = jnp.linalg.solve(slope, -values)
        limit = jnp.array([0.5, 2.0, 2.0])
        change = change * jnp.minimum(1.0, jnp.min(limit / jnp.maximum(jnp.abs(change), 1e-300)))
        newton = state + change
        there = equations(model, newton)
        improved = size(there) < 0.5 * size(values)
        fallback = _state_evolution(model, state)
        chosen = jnp.where(improved, newton, fallback)
        values = jax.lax.cond(
            improved, lambda: there, lambda: equations(model, fallback)
        )
        stalled = ~improved & (size(there) < tolerance)
        return chosen, values, steps + 1, stalled

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        _, values, steps, _ = carry
        return (size(values) > 1e-13) & (steps < max_steps)

    values = equations(model, state)
    state, values, steps, _ = jax.lax.while_loop(
        unfinished, body, (state, values, jnp.zeros((), jnp.int64), jnp.zeros((), bool))
    )
    return state, size(values), steps


def _state_evolution(model: Model, state: Array) -> Array:
    """One update of mean, spread and variance by the posterior that the data's fields imply."""
    point = student(state)
    gz, gside, square, _, _ = kept_moments(model, point)
    v, pull = _plane_vector(model, point), jnp.stack([gz, gside])
    curvature = (point.variance * square + v @ pull) / (point.variance + point.spread)
    mean = pull + curvature * v
    # Posterior variance 1/(1 + curvature) multiplies all three and drops out of the ratios.
    shrink = 1 / (1 + curvature)
    angle = model.theta - jnp.arctan2(mean[1], mean[0])
    return jnp.stack([angle, jnp.log(shrink * (mean @ mean)), jnp.log(shrink * square)])


def _plane_vector(model: Model, point: Student) -> Array:
    """v in the basis (J_p, the in-plane unit vector across J_p on the teacher's side)."""
    apart = model.theta - point.angle
    return point.in_plane * jnp.stack([jnp.cos(apart), jnp.sin(apart)])


def _nonzero(value: Array) -> Array:
    return jnp.where(jnp.abs(value) < 1e-300, 1e-300, value)
