"""Interior point, then exact solution on the support: the solver for a moderate number of rows."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from sims.maxmargin.certificate import FARKAS, SEPARABLE_BRACKET, Candidate, certify
from sims.maxmargin.interior import Iterate, Rows, advance, start
from sims.maxmargin.support import exchange

FIRST_TARGET = 1e-3
NEXT_TARGET = 1e-3
ITERATIONS = 100
# The `enough` that no bracket reaches.
EXACTLY = -1.0
# Complementarity over norm(w)^2 where rounding has long ended all progress.
ROUNDED = 1e-17
# Where the bracket cannot fall, because nothing separates, norm(A^T u) falls instead.
VANISHING = 1e-4


class Solution(NamedTuple):
    """What a solve found: candidate, rows that hold it, iterations, and whether progress ended."""

    best: Candidate
    holding: Array
    iterations: Array
    stuck: Array


class Progress(NamedTuple):
    """State between attempts: interior point, solution so far, bracket to reach next."""

    point: Iterate
    solution: Solution
    target: Array
    exact: Array


def better_of(new: Candidate, old: Candidate) -> Candidate:
    """Return the candidate that proves more: a Farkas certificate, else the smaller bracket."""
    wins = jnp.where(
        (new.farkas <= FARKAS) | (old.farkas <= FARKAS),
        new.farkas < old.farkas,
        new.bracket < old.bracket,
    )
    return jax.tree.map(lambda a, b: jnp.where(wins, a, b), new, old)


def solve_rows(rows: Rows, active: Array, enough: ArrayLike) -> Solution:
    """Solve one problem, exactly or only until the bracket is at most `enough`.

    Lanes with `active` false cost no iteration.
    """
    columns, mask = rows.columns, rows.mask
    dim, count = columns.shape

    def holding(point: Iterate) -> Array:
        # For rows of one size u has the scale 1/P, the slacks that of norm(w)^2; a row k times as
        # large has u / k and k s.
        scale = jnp.sum(point.image**2) + jnp.sum(point.slack * point.dual * mask)
        relative = rows.norms / jnp.sum(point.dual * rows.norms)
        return mask & (point.dual * relative**2 * count * scale > point.slack)

    def gap(point: Iterate) -> Array:
        """Complementarity over norm(w)^2: the bracket, but for rounding in A w."""
        return jnp.sum(point.slack * point.dual * mask) / jnp.sum(point.image**2)

    def interior_step(state: Progress) -> Progress:
        moved = advance(rows, state.point)
        finite = jnp.all(jnp.isfinite(moved.dual)) & jnp.all(jnp.isfinite(moved.slack))
        finite = finite & jnp.isfinite(moved.margin)
        moved = jax.tree.map(lambda a, b: jnp.where(finite, a, b), moved, state.point)
        best = better_of(certify(rows, moved.direction, moved.dual), state.solution.best)
        steps = state.solution.iterations + 1
        stuck = ~finite | (gap(moved) <= ROUNDED)
        return state._replace(
            point=moved, solution=Solution(best, state.solution.holding, steps, stuck)
        )

    def interior_going(state: Progress) -> Array:
        best = state.solution.best
        return (
            (best.bracket > jnp.maximum(state.target, enough))
            # Many dependent rows at a small margin: rounding holds the bracket up, yet the point
            # tells the support well enough to solve on it.
            & (gap(state.point) > state.target)
            & (best.farkas > jnp.maximum(FARKAS, VANISHING * state.target))
            & (state.solution.iterations < ITERATIONS)
            & ~state.solution.stuck
        )

    def attempt(state: Progress) -> Progress:
        state = jax.lax.while_loop(interior_going, interior_step, state)
        found = state.solution
        support = holding(state.point)
        if count <= dim:
            support = jnp.where(found.iterations == 0, mask, support)
        wanted = (found.best.bracket > enough) & (found.best.farkas > FARKAS)
        settled = exchange(rows, support, state.point.dual, wanted)
        best = better_of(settled.best, found.best)
        exact = settled.settled & (best.bracket <= SEPARABLE_BRACKET)
        support = jnp.where(exact, best.dual > 0, support)
        target = jnp.where(jnp.isinf(state.target), FIRST_TARGET, state.target * NEXT_TARGET)
        return Progress(state.point, found._replace(best=best, holding=support), target, exact)

    def finished(state: Progress) -> Array:
        found = state.solution
        out = (found.iterations >= ITERATIONS) | found.stuck | state.exact
        return out | (found.best.farkas <= FARKAS) | (found.best.bracket <= enough)

    # With no more rows than dimensions most rows hold the separator: try them all first.
    first = jnp.inf if count <= dim else FIRST_TARGET
    point = start(rows)
    best = certify(rows, point.direction, point.dual)
    no = jnp.zeros((), bool)
    solution = Solution(best, mask, jnp.zeros((), int), no)
    state = Progress(point, solution, jnp.asarray(first), no)
    return jax.lax.while_loop(lambda s: active & ~finished(s), attempt, state).solution
