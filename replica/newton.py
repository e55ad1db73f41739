"""Maximises the margin over the student's in-plane part, by a safeguarded Newton method.

In units of the out-of-plane norm, mu(y) solves E[(mu - y.u - xi)_+^2] = 1 (the moments carry
alpha) and is concave in y, because its hypograph is a section of the convex feasible cone of the
max-margin program. kappa = mu/sqrt(1 + |y|^2) is then quasi-concave: its only stationary point
with kappa > 0 is the physical solution, and no other root can be returned.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hardset.pytree import pytree_dataclass
from replica.gordon import Ensemble, Moments, moments

Array = jnp.ndarray

MAX_STEPS = 200
MARGIN_STEPS = 60
TRUSTED = 5
LONGEST = 2.0  # step, in units of the student's in-plane part
TOLERANCE = 1e-13


@pytree_dataclass
class Student:
    """A student in units of its out-of-plane norm, with the moments at its largest margin.

    Attributes:
        y: in-plane part along (T, orthogonal), shape (2,).
        mu: largest feasible margin in the same units.
        moments: averages at (y, mu).
        last_step: size of the step to mu that the moments were extrapolated over.
    """

    y: Array
    mu: Array
    moments: Moments
    last_step: Array

    @property
    def norm(self) -> Array:
        """Norm sqrt(1 + |y|^2) of the whole student."""
        return jnp.sqrt(1 + self.y @ self.y)

    @property
    def margin(self) -> Array:
        """Margin kappa = mu/norm of the unit student."""
        return self.mu / self.norm

    def scale(self) -> Array:
        """Return the changes of y that count as large, shape (2,).

        They turn the student by as much as its angle to T.

        tan(angle) = sqrt(1 + y_2^2)/y_1: near R = 1 the orthogonal part is a small one of y.
        """
        return jnp.stack([jnp.maximum(jnp.hypot(*self.y), 1e-2), jnp.sqrt(1 + self.y[1] ** 2)])

    def slope(self) -> Array:
        """Return norm * d kappa/d y = grad mu - kappa y/norm, shape (2,)."""
        return self.moments.first_field / self.moments.first - self.margin * self.y / self.norm


def largest_margin(ensemble: Ensemble, y: Array, start: Array, tolerance: Array) -> Student:
    """Find the student of largest margin mu(y) at a given in-plane part.

    Newton's method solves sqrt(E[s_+^2]) = 1, which is convex and increasing in mu.

    Args:
        ensemble: the kept examples.
        y: in-plane part, shape (2,).
        start: a value not below mu(y): then the iterates decrease monotonically.
        tolerance: of sqrt(E[s_+^2]) - 1, before the last step: Newton squares it.
    """

    def unfinished(state: tuple[Array, Moments, Array]) -> Array:
        _, at, count = state
        return (count < MARGIN_STEPS) & (jnp.abs(jnp.sqrt(at.second) - 1) > tolerance)

    def improve(state: tuple[Array, Moments, Array]) -> tuple[Array, Moments, Array]:
        mu, at, count = state
        mu = mu + _margin_step(at)
        return mu, moments(ensemble, y, mu), count + 1

    state = (start, moments(ensemble, y, start), jnp.array(0))
    mu, at, _ = jax.lax.while_loop(unfinished, improve, state)
    step = _margin_step(at)
    # The moments after the step are extrapolated, to the order to which the step itself is exact.
    after = Moments(
        second=at.second + step * (2 * at.first + step * at.count),
        first=at.first + step * at.count,
        count=at.count,
        first_field=at.first_field + step * at.count_field,
        count_field=at.count_field,
        count_square=at.count_square,
    )
    return Student(y=y, mu=mu + step, moments=after, last_step=jnp.abs(step))


def _margin_step(at: Moments) -> Array:
    """Return Newton's step for sqrt(E[s_+^2]) = 1."""
    root = jnp.sqrt(at.second)
    return -(root - 1) * root / at.first


def newton_direction(student: Student) -> Array:
    """Return the Newton step for kappa, shape (2,)."""
    return newton_step(student, student.slope())


def newton_step(student: Student, slope: Array) -> Array:
    """Solve for the Newton step of a given slope, shape (2,).

    It is the slope over the positive definite Hessian kappa H(norm) - H(mu).
    """
    at, y, norm = student.moments, student.y, student.norm
    gradient = at.first_field / at.first
    outer = jnp.outer(gradient, at.count_field)
    curvature = (
        at.count_square - outer - outer.T + at.count * jnp.outer(gradient, gradient)
    ) / at.first
    kappa = jnp.abs(student.margin)
    hessian = curvature + kappa * (jnp.eye(2) / norm - jnp.outer(y, y) / norm**3)
    determinant = hessian[0, 0] * hessian[1, 1] - hessian[0, 1] ** 2
    return (
        jnp.array(
            [
                hessian[1, 1] * slope[0] - hessian[0, 1] * slope[1],
                hessian[0, 0] * slope[1] - hessian[0, 1] * slope[0],
            ]
        )
        / determinant
    )


def maximise_margin(ensemble: Ensemble, alpha_kept: Array) -> tuple[Student, Array, Array]:
    """Return the student of largest margin.

    Args:
        ensemble: the kept examples of one problem (scalars).
        alpha_kept: kept examples over N, > 0.

    Returns:
        The student, the number of Newton steps, and whether they converged.
    """
    # It starts near the solution without selection, doubled along T until the margin is positive.
    first = jnp.stack([0.65 * alpha_kept + 0.8 * jnp.sqrt(alpha_kept), jnp.zeros(())])
    edges = ensemble.weight.breaks()
    reach = 1 + jnp.max(jnp.where(jnp.isfinite(edges), jnp.abs(edges), 0.0), initial=0.0)

    class State(NamedTuple):
        student: Student  # the best so far; its mu is negative until the start is found
        trial_y: Array
        trial_mu: Array  # not below mu(trial_y)
        predicted: Array  # relative gain of kappa that the step promises
        length: Array  # step length, in Newton steps
        steps: Array
        trusted: Array  # accepted steps whose promised gain is below the rounding error
        done: Array

    def unfinished(state: State) -> Array:
        return (state.steps < MAX_STEPS) & ~state.done

    def improve(state: State) -> State:
        best = state.student
        started = best.mu > 0
        # The margin's error, the tolerance squared, stays below the gain that it decides on.
        tolerance = jnp.where(started, 0.1 * jnp.sqrt(jnp.maximum(state.predicted, 0.0)), 1e-3)
        tolerance = jnp.clip(tolerance, 1e-9, 1e-2)
        trial = largest_margin(ensemble, state.trial_y, state.trial_mu, tolerance)
        gain = (trial.margin - best.margin) / jnp.abs(best.margin)
        # A smaller gain is lost in rounding errors, and Newton's step can be trusted.
        small = state.predicted <= 1e-11
        accept = ~started | ((trial.mu > 0) & ((gain > 1e-3 * state.predicted) | small))
        longer = jnp.where(gain > 0.5 * state.predicted, 2 * state.length, 1.0)
        length = jnp.where(accept, jnp.where(small | ~started, 1.0, longer), state.length / 4)
        best = jax.tree.map(lambda new, old: jnp.where(accept, new, old), trial, best)
        trusted = state.trusted + jnp.where(started & small, 1, 0)
        newton = newton_direction(best)
        # Far beyond the maximum the margin is flat to rounding: no step may lead there.
        longest = LONGEST * jnp.maximum(jnp.hypot(*best.y), 1.0) / jnp.hypot(*newton)
        step = jnp.where(best.mu > 0, jnp.minimum(length, longest) * newton, best.y)
        # The tangent of a concave function bounds it from above.
        tangent = best.mu + step @ (best.moments.first_field / best.moments.first)
        return State(
            student=best,
            trial_y=best.y + step,
            trial_mu=tangent,
            predicted=step @ best.slope() / jnp.abs(best.mu),
            length=length,
            steps=state.steps + 1,
            trusted=trusted,
            # Newton doubles the digits: after TRUSTED steps only rounding errors are left.
            done=(best.mu > 0) & (_negligible(best, newton) | (trusted >= TRUSTED)),
        )

    zero, one = jnp.zeros(()), jnp.ones(())
    nothing = Moments(one, one, one, jnp.zeros(2), jnp.zeros(2), jnp.eye(2))
    state = State(
        student=Student(y=first, mu=-one, moments=nothing, last_step=one),
        trial_y=first,
        # Jensen: E[s_+^2] >= alpha_kept (mu - E[y.u])^2, and E[y.u] is below norm(y) reach.
        trial_mu=first[0] * reach + 1 / jnp.sqrt(alpha_kept),
        predicted=zero,
        length=one,
        steps=jnp.array(0),
        trusted=jnp.array(0),
        done=jnp.array(False),
    )
    state = jax.lax.while_loop(unfinished, improve, state)
    return state.student, state.steps, state.done


def _negligible(student: Student, step: Array) -> Array:
    """Tell whether a Newton step is below the rounding error of either component."""
    small = jnp.all(jnp.abs(step) <= TOLERANCE * student.scale())
    return small & (student.last_step <= 1e-7 * student.mu)
