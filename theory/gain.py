"""Computes the information that a kept example brings to a Gibbs student.

A Gibbs student is drawn at random from the version space.
"""

import dataclasses
from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr
from jax.scipy.stats.norm import pdf
from jax.typing import ArrayLike

from hardset.float64 import Float64Array, IntegerArray, float64
from hardset.pytree import pytree_dataclass
from theory.asymptotics import gibbs_overlap
from theory.densities import field_rule
from theory.problem import FixedAngle, Independent, PerceptronProblem, Probe, require_max_margin
from theory.weights import SelectionWeight, kept_mass

Array = jnp.ndarray

_MAX_COTANGENT = 1e100  # beyond it the label is the probe's sign, and products stay finite
_TOLERANCE = 1e-9
_MAX_STEPS = 200


class Model(NamedTuple):
    """The data of a point: distinct examples / N before selection, probe angle, weight."""

    alpha: Array
    theta: Array
    weight: SelectionWeight


class Student(NamedTuple):
    """The order parameters of a typical student of the version space.

    They are the in-plane norm c, the angle psi from the teacher, the spread Q - c^2 and the
    variance 1 - Q.
    """

    in_plane: Array
    angle: Array
    spread: Array
    variance: Array


def student(state: Array) -> Student:
    """Return the order parameters from the unknowns of the solver.

    The unknowns are psi, log(c^2/(1-Q)) and log((Q-c^2)/(1-Q)). Then
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
    """Return averages over the student's field at a given scalar probe field z.

    They are E[1(y = +1) F | z] for F = g, g z', g^2, 1 and log Phi(s). Here
    h = c(z cos d + z' sin d) + sqrt(spread) xi is the student's cavity field, d = theta - psi,
    z' the in-plane component orthogonal to the probe, s = h/sqrt(variance) and
    g = phi(s)/(Phi(s) sqrt(variance)). Given (z, h), z' is Gaussian, and the label's condition
    z' > -z cot(theta) is a tail of it. So the integral over h alone is left.

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
    # The places of the nodes do not change the integral, so they are not differentiated.
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
    """Return alpha_kept times averages over the kept examples, shape (5,).

    They are alpha_kept E_kept[F] for F = g z, g z', g^2, 1 and log Phi, see `conditional_moments`.
    """
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
    """Return the residuals of the saddle equations and a step of state evolution.

    With g of `conditional_moments` the three equations are alpha E[g x] = v in the plane, across v
    and along it, and alpha E[g^2] = (Q - c^2)/(1 - Q)^2. State evolution is their fixed-point form:
    it gives mean and spread of the posterior whose precision is the curvature -alpha E[dg/dh] of
    the data plus that of the prior. The posterior variance multiplies all parts and drops out of
    their ratios.

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
    """Return the gradient of the entropy s by (v.J_p, v across J_p, Q), shape (3,)."""
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
    """Tell whether a stationary point is the physical one.

    That one is a minimum over Q and then a maximum over v.
    """

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
    """Solve `equations` by Newton's method and damped state evolution.

    State evolution takes over where a Newton step fails. It starts from the overlaps for random
    examples and converges, at times slowly. Newton's method adds the digits, down to the rounding
    of the equations themselves.

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
            # A solved state that no step improves has reached the rounding of the equations.
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
    """Shorten a step to at most 0.5 rad of psi and 2 of either logarithm.

    A step that is not finite becomes zero.
    """
    largest = jnp.max(jnp.abs(change) / jnp.array([0.5, 2.0, 2.0]))
    return jnp.where(jnp.isfinite(largest), change, 0.0) / jnp.maximum(1.0, largest)


def _plane_vector(model: Model, point: Student) -> Array:
    """Return v in the basis of J_p and the in-plane unit vector across it.

    The second vector points to the teacher's side.
    """
    apart = model.theta - point.angle
    return point.in_plane * jnp.stack([jnp.cos(apart), jnp.sin(apart)])


def _nonzero(value: Array) -> Array:
    return jnp.where(jnp.abs(value) < 1e-300, 1e-300, value)


class GainStatus(IntEnum):
    """The outcome of the solution of one point."""

    CONVERGED = 0
    NOT_CONVERGED = 1
    WRONG_BRANCH = 2

    @property
    def sentence(self) -> str:
        """Sentence that explains the status."""
        return {
            GainStatus.CONVERGED: "The saddle point is solved and is a maximum over the student's "
            "in-plane part and a minimum over the replica overlap.",
            GainStatus.NOT_CONVERGED: "The residual of the saddle equations stayed above the "
            "tolerance.",
            GainStatus.WRONG_BRANCH: "The saddle equations are solved at a stationary point that "
            "is not the maximum over the student's in-plane part.",
        }[self]


@pytree_dataclass
class InformationGain:
    """A typical student of the version space, and its gain from the kept examples.

    All are NumPy arrays of the problem's shape.

    Attributes:
        gain: information gain per kept example in nats, the rate -ds/dalpha_kept at fixed f at
            which the log volume of the version space shrinks.
        overlap: R, overlap of a typical student with the teacher.
        probe_overlap: rho, overlap with the probe.
        replica_overlap: Q, overlap of two typical students.
        error: fitting error arccos(R)/pi of a typical student, with digits near R = 1.
        alpha_kept: kept distinct examples / N.
        in_plane: c, norm of the student's part in the plane of teacher and probe.
        student_angle: psi, angle of that part from the teacher towards the probe, in radians.
        spread: Q - c^2, variance of the part of the mean student that is due to the data's noise.
        posterior_variance: 1 - Q.
        residual: largest of the three saddle equations, each divided by one of its sides.
        status: `GainStatus`; the numbers of a point count only where it is 0.
        steps: iterations.
    """

    gain: Float64Array
    overlap: Float64Array
    probe_overlap: Float64Array
    replica_overlap: Float64Array
    error: Float64Array
    alpha_kept: Float64Array
    in_plane: Float64Array
    student_angle: Float64Array
    spread: Float64Array
    posterior_variance: Float64Array
    residual: Float64Array
    status: IntegerArray
    steps: IntegerArray


@float64
def information_gain(problem: PerceptronProblem) -> InformationGain:
    """Compute the information that a Gibbs student gains per kept example.

    The gain is -E_kept[log Phi(h/sqrt(1 - Q))]. The student is uniform on the unit vectors that
    classify all kept examples correctly. v is its in-plane part, c = norm(v), u the field of v, Q
    the overlap of two students, and the entropy is

        s = extr { log(1-Q)/2 + (1-c^2)/(2(1-Q)) - 1/2
                   + alpha E_kept[log Phi((y u + sqrt(Q-c^2) xi)/sqrt(1-Q))] },

    the maximum over v of the minimum over Q: the version space is a convex cone, so its Gaussian
    volume is a log-concave function of v and has one maximum, and replica symmetry is exact.
    For random examples this is Gyorgyi and Tishby (1990), with Q = R = `gibbs_overlap`. The
    weighted average is that of Sorscher et al. 2022, arXiv:2206.14486.

    Args:
        problem: a point or a grid with a `FixedAngle` probe; `downstream` plays no part.

    Returns:
        Arrays of `problem.shape`, a status for each point.

    Raises:
        ValueError: the probe has no fixed angle.
    """
    require_max_margin(problem, "information_gain")
    _check_probe(problem.probe)
    shape = problem.shape
    count = int(np.prod(shape))
    # Padded to a power of two of points, so that grids of many shapes share a compiled program.
    padded = 1 << max(count - 1, 0).bit_length()
    points = jax.tree.map(
        lambda leaf: jnp.resize(jnp.broadcast_to(jnp.asarray(leaf, jnp.float64), shape), (padded,)),
        dataclasses.replace(problem, dims=None),
    )
    found = _solve_first(points, count)
    return jax.tree.map(lambda leaf: leaf[:count].reshape(shape), found)


@float64
def expected_gain(
    z: ArrayLike, problem: PerceptronProblem, solution: InformationGain
) -> Float64Array:
    """Return the expected gain of one more example as a function of its probe field.

    It is -E[log Phi(h/sqrt(1 - Q)) | abs(z)], for the student that `solution` describes. The
    average includes the label, which the probe field leaves open.

    Args:
        z: probe fields, any shape; the profile is even.
        problem: a single point.
        solution: its `information_gain`.

    Returns:
        The gain in nats, the shape of `z`.

    Raises:
        ValueError: `problem` is a grid, or its probe has no fixed angle.
    """
    if problem.shape:
        raise ValueError(f"problem has the shape {problem.shape}; a profile belongs to one point")
    probe = _check_probe(problem.probe)
    z = jnp.asarray(z, jnp.float64)
    theta = jnp.asarray(probe.theta, jnp.float64)
    flat = _profile(jnp.abs(z).ravel(), theta, solution)
    return flat.reshape(z.shape)


def _check_probe(probe: Probe) -> FixedAngle:
    if isinstance(probe, FixedAngle):
        return probe
    if isinstance(probe, Independent):
        remedy = (
            "an independent probe is one at the angle of its own student: "
            "FixedAngle(replica.solve(problem).theta)"
        )
    else:
        remedy = "the theory is that of a probe that is independent of the data"
    raise ValueError(f"probe = {probe!r} is not a FixedAngle; {remedy}")


@jax.jit
def _profile(z: Array, theta: Array, solution: InformationGain) -> Array:
    student = Student(
        in_plane=jnp.asarray(solution.in_plane),
        angle=jnp.asarray(solution.student_angle),
        spread=jnp.asarray(solution.spread),
        variance=jnp.asarray(solution.posterior_variance),
    )

    def at(z: Array) -> Array:
        # Given z > 0 the label is that of the probe or the opposite one.
        fields = jnp.stack([z, -z])
        moments = jax.vmap(conditional_moments, in_axes=(0, None, None))
        return -jnp.sum(moments(fields, theta, student)[:, 4])

    return jax.lax.map(at, z, batch_size=64)


@jax.jit
def _solve_first(points: PerceptronProblem, count: Array) -> InformationGain:
    """Solve the first `count` points of a column.

    The results of the others are left zero.
    """

    def at(index: Array) -> InformationGain:
        return _solve_point(jax.tree.map(lambda leaf: leaf[index], points))

    def step(index: Array, found: InformationGain) -> InformationGain:
        return jax.tree.map(lambda column, leaf: column.at[index].set(leaf), found, at(index))

    padded = points.shape
    empty = jax.tree.map(
        lambda leaf: jnp.zeros((*padded, *leaf.shape), leaf.dtype), jax.eval_shape(at, count)
    )
    return jax.lax.fori_loop(0, count, step, empty)


def _solve_point(problem: PerceptronProblem) -> InformationGain:
    assert isinstance(problem.probe, FixedAngle)
    theta = jnp.asarray(problem.probe.theta)
    redundancy = jnp.asarray(problem.redundancy)
    weight = problem.policy.kept_weight(jnp.asarray(problem.keep_fraction), theta, redundancy)
    mass = kept_mass(weight, theta)
    alpha = jnp.asarray(problem.alpha_total) / redundancy
    model = Model(alpha=alpha, theta=theta, weight=weight)

    state, residual, steps = solve(model, alpha * mass, _TOLERANCE, _MAX_STEPS)
    found = student(state)
    moments = kept_moments(model, found)
    c, psi = found.in_plane, found.angle
    across = jnp.hypot(jnp.sqrt(found.spread + found.variance), c * jnp.sin(psi))
    overlap = c * jnp.cos(psi)
    status = jnp.where(
        residual < _TOLERANCE,
        jnp.where(is_physical(model, state), GainStatus.CONVERGED, GainStatus.WRONG_BRANCH),
        GainStatus.NOT_CONVERGED,
    )
    return InformationGain(
        gain=-moments[4] / (alpha * mass),
        overlap=overlap,
        probe_overlap=c * jnp.cos(theta - psi),
        replica_overlap=c**2 + found.spread,
        error=jnp.arctan2(across, overlap) / np.pi,
        alpha_kept=alpha * mass,
        in_plane=c,
        student_angle=psi,
        spread=found.spread,
        posterior_variance=found.variance,
        residual=residual,
        status=status,
        steps=steps,
    )
