"""Finds the student of largest margin on the examples that the in-sample probe kept.

Newton's method is safeguarded first, and plain at the end.

At a fixed direction (A, B) the margin mu = d + B mu1 solves max_t E[s_+^2] - t^2 = 1: the left
side's root is convex in mu and the maximum in t is one of a concave function. The margin is concave
in (A, B), so that kappa = mu/norm has one stationary point with kappa > 0. Close to it Newton's
method on the four conditions together restores the last digits.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from replica.in_sample.gordon import (
    Averages,
    RankedData,
    averages,
    components,
    multiplier,
    optimality,
)
from replica.in_sample.probe import TrainedProbe

Array = jnp.ndarray

FIT_STEPS = 60
CLIMB_STEPS = 60
POLISH_STEPS = 12
NEAR = 1e-6  # relative gain of the margin below which Newton's method needs no safeguard
SETTLED = 1e-14
SMALL = 1e-9
ROUNDING = 1e-12  # below it a step that does not shrink is one of rounding errors
EVERYTHING = np.array([50.0, 0.0, 0.0, 0.0])  # all kept examples are below its margin
NEARLY_LOSSLESS = 1e-8
PROMISING = 1e-2  # relative residual from which Newton's method converges at once


class Fit(NamedTuple):
    """A student (d, A, B, t - B) of largest margin at its direction."""

    student: Array
    at: Averages


class Found(NamedTuple):
    """The student (d, A, B, t - B) of largest margin, with the solver's steps.

    Attributes:
        student: shape (4,).
        at: its averages.
        jacobian: derivatives of the four conditions and of the number of support vectors, (5, 4).
        steps: Newton steps.
        settled: whether they converged to a positive margin.
    """

    student: Array
    at: Averages
    jacobian: Array
    steps: Array
    settled: Array


def largest_margin(data: RankedData, wanted: Array) -> Found:
    """Find the student of largest margin.

    Any root with a positive margin is that student, however it was found.

    Args:
        data: the ranked data, of which not everything that the probe needed is kept.
        wanted: whether to search at all; if not, a placeholder is returned at once.
    """

    class State(NamedTuple):
        found: Found
        guess: Array
        attempt: Array

    def unfinished(state: State) -> Array:
        return wanted & (state.attempt < 2) & ~state.found.settled

    def improve(state: State) -> State:
        start, climbing = jax.lax.cond(
            state.attempt == 0,
            lambda: (jnp.asarray(EVERYTHING), jnp.array(0)),
            lambda: _climb(data, state.guess),
        )
        found, guess = _polish(data, start, state.attempt == 0)
        steps = state.found.steps + climbing + found.steps
        return State(found._replace(steps=steps), guess, state.attempt + 1)

    # A Jacobian that can be solved with keeps the placeholder's derivatives finite.
    jacobian = jnp.eye(5, 4)
    nothing = Found(jnp.zeros(4), _unknown(), jacobian, jnp.array(0), jnp.array(False))
    state = State(nothing, jnp.zeros(4), jnp.array(0))
    return jax.lax.while_loop(unfinished, improve, state).found


def relative_residual(data: RankedData, student: Array, at: Averages) -> Array:
    """Return the residuals of the four optimality conditions, shape (4,).

    Each is divided by the size of its terms.
    """
    plane = components(data.probe, student[1], student[2])
    return optimality(data, student, at) / jnp.stack(
        [
            jnp.ones(()),
            jnp.maximum(multiplier(student), 1.0) * at.lost + 1e-6,
            (1 - at.count) * jnp.maximum(jnp.abs(plane[0]), 1e-2),
            (1 - at.count) * jnp.maximum(jnp.hypot(plane[0], plane[1]), 1e-2),
        ]
    )


def conditions(data: RankedData, student: Array) -> tuple[Array, tuple[Array, Averages]]:
    """Return the four conditions and the number of support vectors, and the averages.

    The former have the shape (5,); the number is over N. The conditions and averages come once
    more, apart from what is differentiated.
    """
    at = averages(data, student)
    entries = jnp.append(optimality(data, student, at), at.count)
    return entries, (entries[:4], at)


def solve_conditions(jacobian: Array, value: Array, student: Array) -> Array:
    """Return the change of the student that changes the conditions by `value`.

    The equations are solved in balanced units.
    """
    sizes = jnp.maximum(jnp.abs(student), 1.0)
    scaled = jacobian[:4] * sizes
    rows = jnp.max(jnp.abs(scaled), axis=1)
    return sizes * jnp.linalg.solve(scaled / rows[:, None], value / rows)


def margin(probe: TrainedProbe, student: Array) -> Array:
    """Return the margin kappa of the student."""
    plane = components(probe, student[1], student[2])
    return (student[0] + probe.mu * student[2]) / jnp.sqrt(1 + plane @ plane)


def _polish(data: RankedData, start: Array, interpolate: Array) -> tuple[Found, Array]:
    """Run Newton's method on the four optimality conditions.

    Args:
        data: the ranked data.
        start: where it starts, shape (4,).
        interpolate: whether the first step leads to the student that has every kept example at
            its margin; it is given up if that is not close to a root.

    Returns:
        What was found, and the student after the first step.
    """
    probe = data.probe

    class State(NamedTuple):
        student: Array
        at: Averages
        jacobian: Array
        second: Array
        size: Array
        turn: Array
        steps: Array

    def unfinished(state: State) -> Array:
        return (state.steps < POLISH_STEPS) & (state.size > SETTLED) & (state.size < jnp.inf)

    def improve(state: State) -> State:
        jacobian, (value, at) = jax.jacfwd(partial(conditions, data), has_aux=True)(state.student)
        step = solve_conditions(jacobian, -value, state.student)
        turned = components(probe, step[1], step[2])
        plane = components(probe, state.student[1], state.student[2])
        turn = jnp.linalg.norm(turned) / jnp.sqrt(1 + plane @ plane)
        others = jnp.stack([step[0], multiplier(step)])
        values = jnp.stack([state.student[0], multiplier(state.student)])
        size = jnp.max(jnp.append(jnp.abs(others) / (jnp.abs(values) + 1e-2), turn))
        # Rounding errors in large components stop the decrease: then Newton has converged, too.
        size = jnp.where((size < ROUNDING) & (size >= state.size), 0.0, size)
        # The student stays where the averages were taken once the step is one of rounding errors.
        student = state.student + jnp.where(size > SETTLED, step, 0.0)
        first = (state.steps == 0) & interpolate
        student = jnp.where(first, _interpolation(probe, jacobian, at), student)
        rough = jnp.max(jnp.abs(relative_residual(data, state.student, at)))
        # Next to the lossless branch only rounding errors part the interpolation from the root.
        vain = (state.steps == 1) & interpolate & (rough > PROMISING) & (at.lost > NEARLY_LOSSLESS)
        size = jnp.where(first, 1.0, jnp.where(vain, jnp.inf, size))
        second = jnp.where(state.steps == 0, student, state.second)
        return State(student, at, jacobian, second, size, turn, state.steps + 1)

    one = jnp.ones(())
    state = State(start, _unknown(), jnp.zeros((5, 4)), start, one, one, jnp.array(0))
    state = jax.lax.while_loop(unfinished, improve, state)
    settled = (state.turn < SMALL) & (state.size < jnp.inf) & (margin(probe, state.student) > 0)
    return Found(state.student, state.at, state.jacobian, state.steps, settled), state.second


def _fit(data: RankedData, direction: Array, d: Array, t: Array) -> Fit:
    """Find the largest margin at a direction (A, B), from a d not below it.

    In t the derivative is convex and decreasing: Newton's steps never pass its root twice.
    """

    class State(NamedTuple):
        d: Array
        t: Array
        fit: Fit
        done: Array
        steps: Array

    def unfinished(state: State) -> Array:
        return (state.steps < FIT_STEPS) & ~state.done

    def improve(state: State) -> State:
        student = jnp.stack([state.d, *direction, state.t - direction[1]])
        at = averages(data, student)
        step = at.tilt / at.lost
        gain = at.lost * step**2  # of the second moment, from the step in t
        second = at.second + gain
        root = jnp.sqrt(jnp.maximum(second, 1e-300))
        settled = gain <= 0.1 * jnp.abs(second - 1) + 1e-12
        lower = -(root - 1) * root / at.first[0]
        change = jnp.where(settled & (second > 0), lower, 0.0)
        # No margin at all so far: raise it.
        change = jnp.where(settled & (second <= 1e-6), 1 + jnp.abs(state.d), change)
        t = state.t + step + at.square[0, 3] / at.lost * change
        done = settled & (jnp.abs(root - 1) < 1e-9)
        return State(state.d + change, t, Fit(student, at), done, state.steps + 1)

    student = jnp.stack([d, *direction, t - direction[1]])
    state = State(d, t, Fit(student, _unknown()), jnp.array(False), jnp.array(0))
    return jax.lax.while_loop(unfinished, improve, state).fit


def _climb(data: RankedData, guess: Array) -> tuple[Array, Array]:
    """Run Newton's method on kappa(A, B) until its steps can be trusted.

    It has a line search.
    """
    probe = data.probe

    class State(NamedTuple):
        best: Fit
        trial: Array
        predicted: Array
        length: Array
        steps: Array
        done: Array

    def unfinished(state: State) -> Array:
        return (state.steps < CLIMB_STEPS) & ~state.done

    def improve(state: State) -> State:
        fit = _fit(data, state.trial[1:3], state.trial[0], multiplier(state.trial))
        best_margin, trial_margin = margin(probe, state.best.student), margin(probe, fit.student)
        gain = (trial_margin - best_margin) / jnp.abs(best_margin)
        started = state.steps > 0
        negligible = state.predicted <= 1e-9
        accept = ~started | (gain > 1e-3 * state.predicted) | negligible
        length = jnp.where(accept, 1.0, state.length / 4)
        best = jax.tree.map(lambda new, old: jnp.where(accept, new, old), fit, state.best)
        step, slope = _ascent(probe, best)
        positive = margin(probe, best.student) > 0
        # The probe itself separates the data: along it, doubled, the margin becomes positive.
        along_probe = jnp.where(
            best.student[1] == 0, 2 * jnp.abs(best.student[2]), probe.orthogonal
        )
        away = jnp.stack([0.0, along_probe]) - best.student[1:3]
        step = jnp.where(positive, length * step, away)
        predicted = slope @ step / jnp.abs(margin(probe, best.student))
        # The tangent of a concave function bounds it from above.
        mean = best.at.first / best.at.first[0]
        rise = -(mean[1] * step[0] + mean[2] * step[1])
        trial = best.student + jnp.stack([rise, step[0], step[1], -step[1]])
        done = positive & (predicted < NEAR) & accept
        return State(best, trial, predicted, length, state.steps + 1, done)

    one = jnp.ones(())
    state = State(Fit(guess, _unknown()), guess, one, one, jnp.array(0), jnp.array(False))
    state = jax.lax.while_loop(unfinished, improve, state)
    # The last step is worth taking: it is Newton's.
    return state.trial, state.steps


def _unknown() -> Averages:
    """Return placeholders for averages that have not been measured yet."""
    one = jnp.ones(())
    return Averages(one, one, one, one, one, jnp.ones(2), jnp.ones(4), jnp.eye(4))


def _ascent(probe: TrainedProbe, fit: Fit) -> tuple[Array, Array]:
    """Return Newton's step in (A, B) for kappa, and norm times its gradient."""
    at, student = fit.at, fit.student
    q1 = probe.orthogonal
    # Components along T and orthogonal to it are linear in (A, B).
    plane_of = jnp.array([[1.0, 0.0], [0.0, 0.0]]) / q1 + jnp.array([[0.0, 1.0], [0.0, 0.0]]) * (
        probe.overlap / q1
    )
    plane_of = plane_of.at[1, 1].set(1.0)
    plane = plane_of @ student[1:3]
    norm = jnp.sqrt(1 + plane @ plane)
    metric, pull = plane_of.T @ plane_of, plane_of.T @ plane
    # mu = d + B mu1: at fixed mu, B acts with the basis -(a - mu1)_+ - mu1.
    shift = jnp.eye(4).at[0, 2].set(-probe.mu)
    first = shift.T @ at.first
    square = shift.T @ at.square @ shift
    gradient = -first[1:3] / first[0]
    curvature = square[:3, :3] + jnp.outer(square[:3, 3], square[:3, 3]) / at.lost
    tangent = jnp.concatenate([gradient[None, :], jnp.eye(2)])
    mu = student[0] + probe.mu * student[2]
    kappa = jnp.abs(mu / norm)
    hessian = tangent.T @ curvature @ tangent / first[0]
    hessian = hessian + kappa * (metric / norm - jnp.outer(pull, pull) / norm**3)
    slope = gradient - mu * pull / norm**2
    return jnp.linalg.solve(hessian, slope), slope


def _interpolation(probe: TrainedProbe, jacobian: Array, at: Averages) -> Array:
    """Find the student that has every kept example at its margin.

    It is almost exact for few kept examples.

    Then three conditions are linear and homogeneous and fix the direction; the first, quadratic,
    fixes the length.

    Args:
        probe: the first stage.
        jacobian: the conditions' derivatives where all kept examples are below the margin.
        at: averages there.
    """
    one = jnp.ones(())
    last = jnp.stack([one, 0 * one, probe.mu, 0 * one])
    matrix = jnp.concatenate([jacobian[1:4], last[None, :]])
    rows = jnp.max(jnp.abs(matrix), axis=1)
    student = jnp.linalg.solve(matrix / rows[:, None], jnp.asarray([0.0, 0.0, 0.0, 1.0]) / rows)
    rest = student[:3]
    square = rest @ at.square[:3, :3] @ rest + multiplier(student) ** 2 * at.lost
    return student * jnp.sqrt(jnp.maximum(1 - at.count, 0.05) / square)
