"""Prepares and solves one problem with noisy labels, a regularised loss or structured inputs."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hardset.checks import is_concrete
from hardset.pytree import BRANCH, STATIC, pytree_dataclass
from replica.erm import line, nodes, plane, square
from replica.erm.equations import Penalty, Unknowns, fields_at, residuals, weight_norm2
from replica.erm.measure import Averages, Fields, Kept, Totals
from replica.erm.newton import find_root
from replica.erm.separability import separability
from replica.point import CERTIFIED, ROUNDING, in_range, judge
from replica.solution import ReplicaSolution, Status
from theory.field_information import v_information
from theory.inputs import (
    Isotropic,
    PowerLaw,
    Profile,
    Spectrum,
    power_law_profile,
    spectrum_profile,
)
from theory.labels import Labels, observed_error
from theory.policies import Custom, Mixture, Policy, Power, Random, Steps
from theory.probe_field import FieldLaw, NodeWeight, ProbeField, node_weight
from theory.problem import CrossFitted, DownstreamShift, PerceptronProblem
from theory.students import ERM, Student
from theory.weights import SelectionWeight

Array = jnp.ndarray

SMALLEST_PROFILE = 16


@pytree_dataclass
class PowerColumns:
    """A power law whose number of eigenvalues is a number like the others."""

    dim: Any
    a: Any
    r: Any
    rv: Any
    size: int = dataclasses.field(metadata=STATIC)


@pytree_dataclass
class ErmPoint:
    """The numbers of a problem, before they are broadcast."""

    alpha_total: Any
    keep_fraction: Any
    theta: Any
    folds: Any
    folds_overlap: Any
    redundancy: Any
    policy: Policy
    downstream: DownstreamShift
    student: Student = dataclasses.field(metadata=BRANCH)
    labels: Labels = dataclasses.field(metadata=BRANCH)
    inputs: Any = dataclasses.field(metadata=BRANCH)
    probe_field: ProbeField = dataclasses.field(metadata=BRANCH)
    unpenalised: bool = dataclasses.field(metadata=STATIC)
    folded: bool = dataclasses.field(metadata=STATIC)

    @classmethod
    def of(cls, problem: PerceptronProblem, theta: ArrayLike) -> "ErmPoint":
        """Return the numbers of a problem whose probe has the angle `theta`."""
        probe = problem.probe
        folds: tuple[Any, Any] = (1.0, 0.0)
        if isinstance(probe, CrossFitted):
            folds = (probe.folds, probe.overlap)
        inputs: Any = problem.inputs
        if isinstance(inputs, PowerLaw):
            inputs = PowerColumns(
                float(inputs.dim), inputs.a, inputs.r, inputs.rv, profile_size(inputs.dim)
            )
        return cls(
            alpha_total=problem.alpha_total,
            keep_fraction=problem.keep_fraction,
            theta=theta,
            folds=folds[0],
            folds_overlap=folds[1],
            redundancy=problem.redundancy,
            policy=problem.policy,
            downstream=problem.downstream,
            student=problem.student,
            labels=problem.labels,
            inputs=inputs,
            probe_field=problem.probe_field,
            unpenalised=_may_lack_a_ridge(problem.student),
            folded=isinstance(probe, CrossFitted),
        )


def _may_lack_a_ridge(student: Student) -> bool:
    """Tell whether some lam may be 0, where the minimiser need not exist."""
    if not isinstance(student, ERM):
        return False
    return not is_concrete(student.lam) or bool(np.any(np.asarray(student.lam) == 0))


def profile_size(count: int) -> int:
    """Return the length of the arrays for `count` eigenvalues; few lengths are compiled."""
    size = SMALLEST_PROFILE
    while size < count:
        size *= 4
    return size


@pytree_dataclass
class Prepared:
    """A point in the form that the solver takes.

    It has the same type for every policy with as many intervals.

    Attributes:
        kept: the kept examples.
        distinct: those of which a copy survives, each counted once, or None where the minimiser
            exists whatever is kept.
        penalty: the ridge and the spectrum.
        valid: whether all numbers are in their ranges.
        downstream: the shift by which the student is judged.
        loss: the student's loss, or "hard-margin".
    """

    kept: Kept
    distinct: Kept | None
    penalty: Penalty
    valid: Array
    downstream: DownstreamShift
    loss: str = dataclasses.field(metadata=STATIC)


def prepare(point: ErmPoint) -> Prepared:
    """Return the kept measure, the penalty and the validity of one point."""
    right = np.pi / 2 + ROUNDING
    given = (point.alpha_total, point.keep_fraction, point.redundancy)
    student = point.student
    valid = (
        in_range(*given, point.policy, point.downstream)
        & (point.theta >= 0)
        & (point.theta <= right)
        & (point.folds >= 1)
        & (point.folds_overlap >= 0)
        & (point.folds_overlap <= 1)
        & point.labels.fits()
    )
    if isinstance(student, ERM):
        valid &= student.fits()
    # A harmless stand-in keeps an invalid lane from spinning until the step limit.
    alpha_total = jnp.where(valid, point.alpha_total, 1.0)
    keep_fraction = jnp.where(valid, point.keep_fraction, 1.0)
    theta = jnp.where(valid, point.theta, 0.0)
    theta = theta - jax.lax.stop_gradient(jnp.maximum(theta - np.pi / 2, 0.0))
    copies = jnp.where(valid, point.redundancy, 1.0)
    lam = jnp.where(valid, student.lam, 1.0) if isinstance(student, ERM) else jnp.ones(())
    loss = student.loss if isinstance(student, ERM) else "hard-margin"
    kernel = jax.tree.map(lambda entry: jnp.asarray(entry, jnp.float64), point.labels.kernel())
    one = jnp.ones(())
    if not keeps_all_copies(point.policy):
        copies = _whole(copies)

    def kept_weight(copies: Array) -> SelectionWeight | NodeWeight:
        given = (keep_fraction, theta, copies, kernel)
        if isinstance(point.probe_field, FieldLaw):
            return node_weight(point.probe_field, point.policy, *given)
        return point.policy.kept_weight(*given)

    surviving = kept_weight(copies)
    distinct = Kept(
        alpha_total=alpha_total / copies, weight=surviving, theta=theta, labels=kernel, copies=one
    )
    if loss == "hard-margin":
        # Copies change nothing but the chance that one survives.
        kept = distinct
    else:
        if keeps_all_copies(point.policy):
            kept, lam = distinct, lam / copies
        else:
            kept = dataclasses.replace(distinct, weight=kept_weight(one), copies=copies)
    folds = point.folds
    share = (1 - point.folds_overlap) / folds + point.folds_overlap
    return Prepared(
        kept=kept,
        distinct=distinct if loss == "hard-margin" or point.unpenalised else None,
        penalty=Penalty(lam=lam, profile=_profile(point.inputs, point.folded), share=share),
        valid=valid,
        downstream=point.downstream,
        loss=loss,
    )


def keeps_all_copies(policy: Policy) -> bool:
    """Tell whether a policy's weights are 0 and 1, so that copies share their fate."""
    return not isinstance(policy, Random | Mixture | Power | Steps | Custom)


@jax.custom_jvp
def _whole(copies: Array) -> Array:
    """Return a number of copies that are kept by chance, which has no derivative."""
    return copies


@_whole.defjvp
def _no_rate(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return primals[0], jnp.nan * tangents[0]


def _profile(inputs: Any, folded: bool) -> Profile:
    if isinstance(inputs, PowerColumns):
        return power_law_profile(inputs.dim, inputs.a, inputs.r, inputs.rv, inputs.size)
    if isinstance(inputs, Spectrum):
        parts = (inputs.eigenvalues, inputs.teacher, inputs.direction)
        c, t, v = (jnp.asarray(part, jnp.float64) for part in parts)
        profile = spectrum_profile(c, t, v, profile_size(inputs.size()))
        # The directions of several probes have v's sizes and nothing else in common with t.
        return dataclasses.replace(profile, cross=0 * profile.cross) if folded else profile
    assert isinstance(inputs, Isotropic)
    one = jnp.ones(1)
    return Profile(one, one, one, one, 0 * one)


def solve_prepared(prepared: Prepared) -> ReplicaSolution:
    """Solve a prepared point by one quadrature, and certify it by the other."""
    loss = prepared.loss
    frozen = jax.lax.stop_gradient(prepared)
    kept, penalty = frozen.kept, frozen.penalty
    alpha_kept = kept.alpha_total * kept.copies * square.moments(kept).mass
    valid = prepared.valid & (alpha_kept > 0)
    known = valid
    root = find_root(
        lambda fields: _averages_and_slopes(kept, fields, loss),
        penalty,
        jnp.where(valid, alpha_kept, 1.0),
        hard=loss == "hard-margin",
    )
    x = _implicit(loss, prepared.kept, prepared.penalty, root.x, root.matrix)
    found = _totals(prepared.kept, fields_at(x, prepared.penalty), loss)
    saddle = jnp.max(jnp.abs(residuals(x, found.averages, prepared.penalty)))
    saddle = jax.lax.stop_gradient(saddle)
    if loss == "square":
        found = dataclasses.replace(
            found, averages=_averages(prepared.kept, fields_at(x, prepared.penalty), loss)
        )
    certified = (saddle <= CERTIFIED) & (root.residual <= CERTIFIED)
    status = jnp.where(certified, Status.CONVERGED.value, Status.NOT_CERTIFIED.value)
    status = jnp.where(root.converged, status, Status.NOT_CONVERGED.value)
    if frozen.distinct is not None:
        if loss == "square":
            solvable = found.distinct > 1
        else:
            inseparable = (
                frozen.distinct.alpha_total * separability(frozen.distinct, penalty.share) >= 1
            )
            solvable = ~inseparable if loss == "hard-margin" else inseparable
        failure = Status.NOT_SEPARABLE if loss == "hard-margin" else Status.NO_MINIMISER
        solvable |= (penalty.lam > 0) & (loss != "hard-margin")
        status = jnp.where(solvable, status, failure.value)
        known &= solvable
    solution = _read_out(
        prepared,
        x,
        found,
        residual_saddle=saddle,
        residual_gordon=root.residual,
        status=jnp.where(valid, status, Status.INVALID.value),
        steps=root.steps,
    )
    # A product, so that the derivatives of an invalid lane are NaN too.
    factor = jnp.where(known, 1.0, jnp.nan)
    return jax.tree.map(
        lambda entry: entry * factor if entry.dtype == jnp.float64 else entry, solution
    )


def _averages_and_slopes(kept: Kept, fields: Fields, loss: str) -> tuple[Averages, Array]:
    """Return the averages by the quadrature that solves."""
    if loss == "square":
        return square.averages_and_slopes(kept, fields)
    return line.averages_and_slopes(kept, fields, loss)


def _totals(kept: Kept, fields: Fields, loss: str) -> Totals:
    """Return the averages by the quadrature that certifies."""
    if loss == "square" and not isinstance(kept.weight, NodeWeight):
        return line.square_totals(kept, fields)
    return plane.totals(kept, fields, loss)


def _averages(kept: Kept, fields: Fields, loss: str) -> Averages:
    """Return the averages by the quadrature that can be differentiated."""
    if loss == "square":
        return square.averages(kept, fields)
    return plane.averages(kept, fields, loss)


def _gradient(loss: str, x: Array, kept: Kept, penalty: Penalty) -> Array:
    """Return the residuals by the quadrature that can be differentiated."""
    return residuals(x, _averages(kept, fields_at(x, penalty), loss), penalty)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _implicit(loss: str, kept: Kept, penalty: Penalty, x: Array, matrix: Array) -> Array:
    """Return the root x with its derivatives by the implicit function theorem.

    `matrix` is the derivative of the residuals by x.
    """
    return x


@_implicit.defjvp
def _implicit_rate(
    loss: str,
    primals: tuple[Kept, Penalty, Array, Array],
    tangents: tuple[Kept, Penalty, Array, Array],
) -> tuple[Array, Array]:
    kept, penalty, x, matrix = primals
    _, moved = jax.jvp(
        lambda kept, penalty: _gradient(loss, x, kept, penalty), (kept, penalty), tangents[:2]
    )
    return x, -jnp.linalg.solve(matrix, moved)


def _read_out(prepared: Prepared, x: Array, found: Totals, **outcome: Array) -> ReplicaSolution:
    """Return the order parameters and losses of a solution, with its derivatives."""
    kept, penalty, loss = prepared.kept, prepared.penalty, prepared.loss
    at = Unknowns.of(x, penalty.lam)
    norm = at.norm()
    fields = fields_at(x, penalty)
    along, across, apart = fields.along / norm, fields.across / norm, fields.apart / norm
    judged, angle = judge(along, across, apart, prepared.downstream)
    theta = kept.theta
    if isinstance(kept.weight, NodeWeight):
        observed, price = nodes.fresh(kept, fields, loss)
    else:
        observed = observed_error(kept.labels, along)
        price = plane.test_loss(kept.labels, along, norm, loss)
    return ReplicaSolution(
        overlap=along,
        probe_overlap=along * jnp.cos(theta) + across * jnp.sin(theta),
        margin=1 / norm if loss == "hard-margin" else jnp.full((), jnp.nan),
        orthogonal=apart,
        student_angle=jnp.arctan2(across, along),
        downstream_overlap=judged,
        error=angle / np.pi,
        v_information=v_information(angle / np.pi),
        theta=theta,
        alpha_kept=found.distinct,
        support_fraction=found.active / found.kept,
        norm=norm,
        weight_norm2=weight_norm2(x, found.averages, penalty),
        observed_error=observed,
        training_loss=found.loss / found.kept,
        training_error=found.wrong / found.kept,
        test_loss=price,
        active_fraction=found.active / found.kept,
        **outcome,
    )
