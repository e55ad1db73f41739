"""Information that a kept example brings to a student drawn from the version space."""

from enum import IntEnum

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from theory import _gibbs_saddle as saddle
from theory._float64 import Float64Array, IntegerArray, float64
from theory._pytree import pytree_dataclass
from theory.probes import FixedAngle, Independent, Probe
from theory.problem import PerceptronProblem
from theory.weights import kept_mass

__all__ = ["GainStatus", "InformationGain", "expected_gain", "information_gain"]

Array = jnp.ndarray

_TOLERANCE = 1e-9
_MAX_STEPS = 200


class GainStatus(IntEnum):
    """How the solution of one point ended."""

    CONVERGED = 0
    NOT_CONVERGED = 1
    WRONG_BRANCH = 2

    @property
    def sentence(self) -> str:
        """The status in one sentence."""
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
    """Typical student of the version space and what the kept examples tell it.

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
    """Information gain per kept example, -E_kept[log Phi(h/sqrt(1 - Q))], of a Gibbs student.

    The student is uniform on the unit vectors that classify all kept examples correctly. v is its
    in-plane part, c = norm(v), u the field of v, Q the overlap of two students, and the entropy is

        s = extr { log(1-Q)/2 + (1-c^2)/(2(1-Q)) - 1/2
                   + alpha E_kept[log Phi((y u + sqrt(Q-c^2) xi)/sqrt(1-Q))] },

    the maximum over v of the minimum over Q: the version space is a convex cone, so its Gaussian
    volume is a log-concave function of v and has one maximum, and replica symmetry is exact.
    Gyorgyi and Tishby (1990) for random examples, where Q = R = `gibbs_overlap`; the weighted
    average is that of Sorscher et al. 2022, arXiv:2206.14486.

    Args:
        problem: a point or a grid with a `FixedAngle` probe; `downstream` plays no part.

    Returns:
        Arrays of `problem.shape`, a status for each point.

    Raises:
        ValueError: the probe has no fixed angle.
    """
    _check_probe(problem.probe)
    return _solve_all(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), problem))


@float64
def expected_gain(
    z: ArrayLike, problem: PerceptronProblem, solution: InformationGain
) -> Float64Array:
    """Gain -E[log Phi(h/sqrt(1 - Q)) | abs(z)] of an example, as a function of its probe field.

    It is averaged over the label, which the probe field leaves open: what one more example of
    this unsigned margin is expected to tell the student that `solution` describes.

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
    student = saddle.Student(
        in_plane=jnp.asarray(solution.in_plane),
        angle=jnp.asarray(solution.student_angle),
        spread=jnp.asarray(solution.spread),
        variance=jnp.asarray(solution.posterior_variance),
    )

    def at(z: Array) -> Array:
        # Given z > 0 the label is that of the probe or the opposite one.
        fields = jnp.stack([z, -z])
        moments = jax.vmap(saddle.conditional_moments, in_axes=(0, None, None))
        return -jnp.sum(moments(fields, theta, student)[:, 4])

    return jax.lax.map(at, z, batch_size=64)


@jax.jit
def _solve_all(problem: PerceptronProblem) -> InformationGain:
    shape = problem.shape
    points = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, shape).ravel(), problem)
    flat = jax.lax.map(_solve_point, points)
    return jax.tree.map(lambda leaf: leaf.reshape(shape), flat)


def _solve_point(problem: PerceptronProblem) -> InformationGain:
    assert isinstance(problem.probe, FixedAngle)
    theta = jnp.asarray(problem.probe.theta)
    redundancy = jnp.asarray(problem.redundancy)
    weight = problem.policy.kept_weight(jnp.asarray(problem.keep_fraction), theta, redundancy)
    mass = kept_mass(weight, theta)
    alpha = jnp.asarray(problem.alpha_total) / redundancy
    model = saddle.Model(alpha=alpha, theta=theta, weight=weight)

    state, residual, steps = saddle.solve(model, alpha * mass, _TOLERANCE, _MAX_STEPS)
    student = saddle.student(state)
    moments = saddle.kept_moments(model, student)
    c, psi = student.in_plane, student.angle
    across = jnp.hypot(jnp.sqrt(student.spread + student.variance), c * jnp.sin(psi))
    overlap = c * jnp.cos(psi)
    status = jnp.where(
        residual < _TOLERANCE,
        jnp.where(saddle.is_physical(model, state), GainStatus.CONVERGED, GainStatus.WRONG_BRANCH),
        GainStatus.NOT_CONVERGED,
    )
    return InformationGain(
        gain=-moments[4] / (alpha * mass),
        overlap=overlap,
        probe_overlap=c * jnp.cos(theta - psi),
        replica_overlap=c**2 + student.spread,
        error=jnp.arctan2(across, overlap) / np.pi,
        alpha_kept=alpha * mass,
        in_plane=c,
        student_angle=psi,
        spread=student.spread,
        posterior_variance=student.variance,
        residual=residual,
        status=status,
        steps=steps,
    )
