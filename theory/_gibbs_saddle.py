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


def equations(model: Model, state: Array) -> tuple[Array, Array]:
    """Residuals of the three saddle equations, and one step of state evolution from `state`.

    With g of `conditional_moments`: alpha E[g x] = v in the plane, across v and along it, and
    alpha E[g^2] = (Q - c^2)/(1 - Q)^2. State evolution is the fixed-point form: mean and spread of
    the posterior whose precision is the curvature -alpha E[dg/dh] of the data plus that of the
    prior; the posterior variance multiplies all parts and drops out of their ratios.

    Returns:
        Left over right side, less 1 or in logarithm, shape (3,), and the next state, shape (3,).
    """
    point = student(state)
    gz, gside, square, _, _ = kept_moments(model, point)
    apart = model.theta - point.angle
    # psi grows away from the teacher, towards the probe.
    along = gz * jnp.cos(apart) + gside * jnp.sin(apart)
    across = gz * jnp.sin(apart) - gside * jnp.cos(apart)
    c, spread, variance = point.in_plane, point.spread, point.variance
    values = jnp.stack([across / c, along / c - 1, jnp.log(square * variance**2 / spread)])

    # Stein's identity gives the curvature without a second derivative.
    curvature = (variance * square + c * along) / (variance + spread)
    along = along + curvature * c
    shrink = 1 / (1 + curvature)
    turned = point.angle + jnp.arctan2(across, along)
    following = jnp.stack(
        [turned, jnp.log(shrink * (along**2 + across**2)), jnp.log(shrink * square)]
    )
    return values, following


def gradient(model: Model, state: Array) -> Array:
    """Gradient of the entropy s with respect to (v.J_p, v across J_p, Q), shape (3,)."""
    point = student(state)
    gz, gside, square, _, _ = kept_moments(model, point)
    v = _plane_vector(model, point)
    spread, variance = point.spread, point.variance
    pull = jnp.stack([gz, gside])
    # 1/(1-Q) less the curvature; it is 1 at the saddle.
    multiplier = (variance * (1 - v @ pull) + spread - variance**2 * square) / (
        variance * (variance + spread)
    )
    return jnp.append(pull - multiplier * v, (spread / variance**2 - square) / 2)


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


class _Search(NamedTuple):
    candidate: Array
    forced: Array  # whether the candidate is taken whatever its residual
    state: Array
    residual: Array
    fallback: Array
    steps: Array
    stalled: Array


def solve(
    model: Model, alpha_kept: Array, tolerance: float, max_steps: int
) -> tuple[Array, Array, Array]:
    """Newton's method on `equations`, with a damped step of state evolution where it fails.

    State evolution converges from the random student's overlaps, at times slowly; Newton's method
    adds the digits, down to the rounding of the equations themselves.

    Returns:
        The state, its residual and the number of evaluations.
    """
    start = gibbs_overlap(alpha_kept)
    # Random examples: Q = R = c, hence c^2/(1-Q) = R^2/(1-R) and (Q-c^2)/(1-Q) = R.
    start = jnp.stack([jnp.zeros(()), 2 * jnp.log(start) - jnp.log1p(-start), jnp.log(start)])

    def body(search: _Search) -> _Search:
        def both(state: Array) -> tuple[Array, tuple[Array, Array]]:
            values, following = equations(model, state)
            return values, (values, following)

        slope, (values, following) = jax.jacfwd(both, has_aux=True)(search.candidate)
        residual = jnp.where(jnp.all(jnp.isfinite(values)), jnp.max(jnp.abs(values)), jnp.inf)
        accepted = search.forced | (residual < 0.5 * search.residual)

        newton = search.candidate + _limited(jnp.linalg.solve(slope, -values))
        fallback = search.candidate + _limited(following - search.candidate)
        return _Search(
            candidate=jnp.where(accepted, newton, search.fallback),
            forced=~accepted,
            state=jnp.where(accepted, search.candidate, search.state),
            residual=jnp.where(accepted, residual, search.residual),
            fallback=jnp.where(accepted, fallback, search.fallback),
            steps=search.steps + 1,
            # No better state near a solved one: rounding is reached.
            stalled=~accepted & (search.residual < tolerance),
        )

    def unfinished(search: _Search) -> Array:
        return (search.residual > 1e-13) & ~search.stalled & (search.steps < max_steps)

    first = _Search(
        candidate=start,
        forced=jnp.ones((), bool),
        state=start,
        residual=jnp.full((), jnp.inf),
        fallback=start,
        steps=jnp.zeros((), jnp.int64),
        stalled=jnp.zeros((), bool),
    )
    last = jax.lax.while_loop(unfinished, body, first)
    return last.state, last.residual, last.steps


def _limited(change: Array) -> Array:
    """`change`, shortened so that no order parameter leaves its neighbourhood in one step."""
    largest = jnp.max(jnp.abs(change) / jnp.array([0.5, 2.0, 2.0]))
    return jnp.where(jnp.isfinite(largest), change, 0.0) / jnp.maximum(1.0, largest)


def _plane_vector(model: Model, point: Student) -> Array:
    """v in the basis (J_p, the in-plane unit vector across J_p on the teacher's side)."""
    apart = model.theta - point.angle
    return point.in_plane * jnp.stack([jnp.cos(apart), jnp.sin(apart)])


def _nonzero(value: Array) -> Array:
    return jnp.where(jnp.abs(value) < 1e-300, 1e-300, value)
