"""Solves the equations of a regularised student by Newton's method.

State evolution leads near the solution. Where Newton's method fails from there, the ridge strength
is lowered step by step from one at which the student is small.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hardset.pytree import pytree_dataclass
from replica.erm.equations import (
    Penalty,
    Unknowns,
    evolved,
    fields_at,
    newton_matrix,
    residuals,
)
from replica.erm.measure import Averages, Fields

Array = jnp.ndarray

TOLERANCE = 3e-13
CLOSE = 1e-10  # a solution's residuals, where rounding keeps them from TOLERANCE
EVOLUTIONS = 3  # of the direct attempt
PATIENT = 12  # at the strong ridge where the way down begins, from which nothing can be lost
STEPS = 40  # of Newton's method in one attempt
LONGEST = 2.0  # of a Newton step, in logarithms and inverse hyperbolic sines
ATTEMPTS = 60
SOFTEST = 1e-7  # of a hard margin, before it is hard
WEAKEST = 1e-8  # ridge strength over the kept examples, before there is none
STRONG = 100.0  # ridge strength over the kept examples at which the way down begins

Slopes = Callable[[Fields], tuple[Averages, Array]]


@pytree_dataclass
class Root:
    """A solution of the equations, and how it was found.

    Attributes:
        x: the vector of the unknowns, shape (4,).
        residual: largest residual.
        steps: evaluations of the averages.
        converged: whether the residual is at the rounding error.
        matrix: derivative of the residuals by x, shape (4, 4).
    """

    x: Array
    residual: Array
    steps: Array
    converged: Array
    matrix: Array


@pytree_dataclass
class _Search:
    x: Array
    step: Array
    size: Array  # norm of the residuals at x
    length: Array  # share of the step that is tried next
    count: Array
    stalled: Array
    matrix: Array  # derivative of the residuals at x


def _size(residual: Array) -> Array:
    size = jnp.sqrt(jnp.sum(residual**2))
    return jnp.where(jnp.isfinite(size), size, jnp.inf)


def _attempt(averages: Slopes, penalty: Penalty, start: Array, evolutions: Array) -> _Search:
    """Run state evolution, then damped Newton steps, from one starting point."""

    def going(state: _Search) -> Array:
        return (state.count < evolutions + STEPS) & (state.size > TOLERANCE) & ~state.stalled

    def advance(state: _Search) -> _Search:
        trial = state.x + state.length * state.step
        found, slopes = averages(fields_at(trial, penalty))
        residual = residuals(trial, found, penalty)
        size = _size(residual)
        matrix = newton_matrix(trial, found, slopes, penalty)
        newton = -jnp.linalg.solve(matrix, residual)
        longest = jnp.max(jnp.abs(newton))
        newton = newton * jnp.minimum(1.0, LONGEST / longest)
        newton = jnp.where(jnp.all(jnp.isfinite(newton)), newton, 0.0)
        evolving = state.count < evolutions
        ahead = evolved(trial, found, penalty) - trial
        ahead = jnp.where(jnp.all(jnp.isfinite(ahead)), ahead, 0.0)
        ahead = jnp.clip(ahead, -5.0, 5.0)
        better = evolving | (size < (1 - 1e-4 * state.length) * state.size)
        keep = evolving & (state.count + 1 < evolutions)
        step = jnp.where(keep, ahead, newton)
        return _Search(
            x=jnp.where(better, trial, state.x),
            step=jnp.where(better, step, state.step),
            size=jnp.where(better, size, state.size),
            length=jnp.where(better, 1.0, state.length / 4),
            count=state.count + 1,
            # At the rounding error no step is better.
            stalled=~better & (state.length < 1e-4),
            matrix=jnp.where(better, matrix, state.matrix),
        )

    first = _Search(
        x=start,
        step=jnp.zeros(4),
        size=jnp.asarray(jnp.inf),
        length=jnp.asarray(1.0),
        count=jnp.asarray(0),
        stalled=jnp.asarray(False),
        matrix=jnp.eye(4),
    )
    return jax.lax.while_loop(going, advance, first)


@pytree_dataclass
class _Way:
    x: Array  # last solution
    rate: Array  # its change for log(lam)
    at: Array  # log(lam) there
    step: Array  # next change of log(lam), < 0
    last: _Search
    attempts: Array
    count: Array


def find_root(averages: Slopes, penalty: Penalty, alpha_kept: Array, *, hard: bool = False) -> Root:
    """Solve the equations.

    Args:
        averages: the averages over the kept examples, with their slopes, at given fields.
        penalty: the rest of the problem.
        alpha_kept: kept examples over N, > 0.
        hard: whether the loss is "hard-margin". Its ridge strength is a scale that changes no
            direction, so the way down lowers a softness d instead: the loss (1 - t)_+^2/(2 d), a
            hard margin at d = 0, is that of prox steps longer by d.
    """
    lam = penalty.lam
    weakest = WEAKEST * jnp.maximum(alpha_kept, 1e-3)
    target = jnp.log(SOFTEST) if hard else jnp.log(jnp.where(lam > 0, lam, weakest))
    strong = jnp.maximum(target, jnp.log(STRONG * jnp.maximum(alpha_kept, 1e-3)))
    zeros = jnp.zeros(4)

    def hebb(lam: Array) -> Array:
        # The first step of state evolution from a small student is the Hebb vector.
        small = Unknowns(
            along=1e-3 * alpha_kept / (lam + alpha_kept),
            across=jnp.zeros(()),
            apart=jnp.sqrt(alpha_kept) / (lam + alpha_kept),
            curvature=0.5 * alpha_kept / (1 + alpha_kept / (lam + alpha_kept)),
        )
        return small.vector(lam)

    def unfinished(way: _Way) -> Array:
        done = (way.last.size <= CLOSE) & (way.at <= target)
        return ~done & (way.attempts < ATTEMPTS) & (way.step < -1e-3)

    def advance(way: _Way) -> _Way:
        # Attempt 0 is direct; attempt 1 begins the way down; then steps in log(lam).
        direct, begin = way.attempts == 0, way.attempts == 1
        aim = jnp.where(direct, target, jnp.where(begin, strong, way.at + way.step))
        aim = jnp.maximum(aim, target)
        here = jnp.where(aim <= target, 0.0 if hard else lam, jnp.exp(aim))
        at, there = penalty, averages
        if hard:
            there = lambda fields: averages(  # noqa: E731
                dataclasses.replace(fields, prox_step=fields.prox_step + here)
            )
        else:
            at = dataclasses.replace(penalty, lam=here)
        guess = way.x + (aim - way.at) * way.rate
        # log(lam + Lambda) is kept above log(lam).
        guess = guess.at[3].set(jnp.maximum(guess[3], jnp.log(jnp.maximum(at.lam, 1e-300)) - 0.5))
        fresh = direct | begin
        small = hebb(at.lam)
        if hard:
            # In units in which the softness is the ridge strength.
            soft = jnp.where(here > 0, here, 1.0)
            small = hebb(soft).at[3].add(-jnp.log(soft))
        start = jnp.where(fresh, small, guess)
        evolutions = jnp.where(direct, EVOLUTIONS, jnp.where(begin, PATIENT, 0))
        found = _attempt(there, at, start, evolutions)
        good = found.size <= CLOSE
        rate = jnp.where(fresh, zeros, (found.x - way.x) / jnp.where(fresh, 1.0, aim - way.at))
        faster = jnp.where(found.count <= 8, 1.6, 1.0)
        step = jnp.where(good, way.step * jnp.where(fresh, 1.0, faster), way.step / 3)
        return _Way(
            x=jnp.where(good, found.x, way.x),
            rate=jnp.where(good, rate, way.rate),
            at=jnp.where(good, aim, way.at),
            step=jnp.where(direct | begin, way.step, step),
            last=found,
            attempts=way.attempts + 1,
            count=way.count + found.count,
        )

    nothing = _Search(
        zeros,
        zeros,
        jnp.asarray(jnp.inf),
        jnp.asarray(1.0),
        jnp.asarray(0),
        jnp.asarray(False),
        jnp.eye(4),
    )
    first = _Way(
        x=hebb(lam),
        rate=zeros,
        at=jnp.asarray(np.inf),
        step=jnp.asarray(-1.5),
        last=nothing,
        attempts=jnp.asarray(0),
        count=jnp.asarray(0),
    )
    way = jax.lax.while_loop(unfinished, advance, first)
    arrived = (way.last.size <= CLOSE) & (way.at <= target)
    return Root(
        x=jnp.where(arrived, way.last.x, way.x),
        residual=way.last.size,
        steps=way.count,
        converged=arrived,
        matrix=way.last.matrix,
    )
