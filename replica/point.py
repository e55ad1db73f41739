"""Solves one point: its selection weight, the student of largest margin, both residuals."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hardset.pytree import pytree_dataclass
from replica.gordon import Ensemble
from replica.implicit import Outcome, differentiable
from replica.newton import Student, maximise_margin
from replica.saddle import saddle_residual
from replica.solution import ReplicaSolution, Status
from theory.field_information import v_information
from theory.policies import Policy
from theory.problem import DownstreamShift
from theory.weights import kept_mass

Array = jnp.ndarray

# Both residuals are relative; the solver reaches 1e-13, the certifying quadrature 4e-10 at worst.
CERTIFIED = 1e-8
# A right angle in single precision exceeds the exact one by less than this.
ROUNDING = 1e-7


def judge(along: Array, across: Array, q: Array, shift: DownstreamShift) -> tuple[Array, Array]:
    """Return the overlap and angle of a student with the downstream teacher.

    The student is (along, across, q), and the teacher T' = (T + delta v)/norm.

    The part of v outside span(T, J_p) has no overlap with the student.
    """
    outside = jnp.sqrt(jnp.maximum(1 - shift.along_teacher**2 - shift.along_plane**2, 0.0))
    target = jnp.stack(
        [
            1 + shift.delta * shift.along_teacher,
            shift.delta * shift.along_plane,
            shift.delta * outside,
        ]
    )
    target = target / jnp.linalg.norm(target)
    overlap = along * target[0] + across * target[1]
    # The part orthogonal to T' is a vector: 1 - R'^2 would lose the digits of a small angle.
    rest = jnp.stack(
        [along - overlap * target[0], across - overlap * target[1], q, -overlap * target[2]]
    )
    return overlap, jnp.arctan2(jnp.linalg.norm(rest), overlap)


@pytree_dataclass
class Point:
    """The numbers of a problem whose probe has an angle, before they are broadcast."""

    alpha_total: Any
    keep_fraction: Any
    theta: Any
    redundancy: Any
    policy: Policy
    downstream: DownstreamShift


@pytree_dataclass
class Prepared:
    """A point in the form that the solver takes.

    It has the same type for every policy with as many intervals.
    """

    ensemble: Ensemble
    valid: Array
    downstream: DownstreamShift


def in_range(
    alpha_total: Array,
    keep_fraction: Array,
    redundancy: Array,
    policy: Policy,
    shift: DownstreamShift,
) -> Array:
    """Tell whether the parameters of a problem, apart from its probe, are in their ranges.

    These are the checks of `PerceptronProblem`, for traced values.
    """
    return (
        (alpha_total > 0)
        & (keep_fraction > 0)
        & (keep_fraction <= 1)
        & (redundancy >= 1)
        & jnp.isfinite(alpha_total * redundancy)
        & policy.fits(keep_fraction)
        & (jnp.asarray(shift.delta) >= 0)
        & jnp.isfinite(shift.delta)
        & (jnp.hypot(shift.along_teacher, shift.along_plane) <= 1 + 1e-12)
    )


def prepare(point: Point) -> Prepared:
    """Return the selection weight and validity of one point."""
    right = np.pi / 2 + ROUNDING
    given = (point.alpha_total, point.keep_fraction, point.redundancy)
    valid = (
        in_range(*given, point.policy, point.downstream)
        & (point.theta >= 0)
        & (point.theta <= right)
    )
    # A harmless stand-in keeps an invalid lane from spinning until the step limit.
    alpha_total = jnp.where(valid, point.alpha_total, 1.0)
    keep_fraction = jnp.where(valid, point.keep_fraction, 1.0)
    theta = jnp.where(valid, point.theta, 0.0)
    theta = theta - jax.lax.stop_gradient(jnp.maximum(theta - np.pi / 2, 0.0))
    redundancy = jnp.where(valid, point.redundancy, 1.0)
    weight = point.policy.kept_weight(keep_fraction, theta, redundancy)
    ensemble = Ensemble(alpha_total=alpha_total / redundancy, weight=weight, theta=theta)
    return Prepared(ensemble=ensemble, valid=valid, downstream=point.downstream)


def solve_prepared(
    prepared: Prepared, certificate: Callable[[Ensemble, Student], Array]
) -> ReplicaSolution:
    """Solve a prepared point, with the saddle residual that `certificate` finds."""
    ensemble = prepared.ensemble
    frozen = jax.lax.stop_gradient(ensemble)
    alpha_kept = frozen.alpha_total * kept_mass(frozen.weight, frozen.theta)
    valid = prepared.valid & (alpha_kept > 0)
    student, steps, converged = maximise_margin(frozen, jnp.where(valid, alpha_kept, 1.0))
    gordon = jnp.max(jnp.abs(gordon_residual(student)))
    saddle = certificate(frozen, student)
    certified = (saddle <= CERTIFIED) & (gordon <= CERTIFIED) & (student.mu > 0)
    status = jnp.where(certified, Status.CONVERGED.value, Status.NOT_CERTIFIED.value)
    status = jnp.where(converged, status, Status.NOT_CONVERGED.value)
    status = jnp.where(valid, status, Status.INVALID.value)
    solution = read_out(
        prepared,
        differentiable(ensemble, student, alpha_kept),
        residual_saddle=saddle,
        residual_gordon=gordon,
        status=status,
        steps=steps,
    )
    # A product, so that the derivatives of an invalid lane are NaN too.
    known = jnp.where(valid, 1.0, jnp.nan)
    return jax.tree.map(
        lambda entry: entry * known if entry.dtype == jnp.float64 else entry, solution
    )


def read_out(prepared: Prepared, found: Outcome, **outcome: Array) -> ReplicaSolution:
    """Return the order parameters of an outcome, with its derivatives."""
    theta = prepared.ensemble.theta
    norm = jnp.sqrt(1 + found.y @ found.y)
    along, across, q = found.y[0] / norm, found.y[1] / norm, 1 / norm
    judged, angle = judge(along, across, q, prepared.downstream)
    return ReplicaSolution.of_max_margin(
        overlap=along,
        probe_overlap=along * jnp.cos(theta) + across * jnp.sin(theta),
        margin=found.mu / norm,
        orthogonal=q,
        student_angle=jnp.arctan2(across, along),
        downstream_overlap=judged,
        error=angle / np.pi,
        v_information=v_information(angle / np.pi),
        theta=theta,
        alpha_kept=found.alpha_kept,
        support_fraction=jnp.minimum(found.count / found.alpha_kept, 1.0),
        **outcome,
    )


def largest_residual(ensemble: Ensemble, student: Student, fine: bool) -> Array:
    """Return the largest saddle residual by the coarse or the fine quadrature."""
    return jnp.max(jnp.abs(saddle_residual(ensemble, student.y, student.mu, fine=fine)))


def certificate(ensemble: Ensemble, student: Student) -> Array:
    """Return the largest saddle residual.

    The finer quadrature is used where the coarse one does not certify.
    """
    coarse = largest_residual(ensemble, student, False)
    return jax.lax.cond(
        coarse <= CERTIFIED, lambda: coarse, lambda: largest_residual(ensemble, student, True)
    )


def gordon_residual(student: Student) -> Array:
    """Return the relative residuals of the Gordon form, shape (3,).

    They are the feasibility E[s_+^2] - 1 and the gradient of log kappa in y.

    The gradient is measured for changes of y that change the error by as much, relatively.
    """
    slope = student.slope() * student.scale() / student.mu
    return jnp.concatenate([(student.moments.second - 1)[None], slope])
