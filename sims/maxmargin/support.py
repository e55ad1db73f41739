"""Exact solution on a guessed support, with block exchanges until the guess is right."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sims.maxmargin.certificate import FARKAS, Candidate, certify
from sims.maxmargin.interior import Rows, make_rows, newton_solver

# Proximal weight over squared row norm: the equality-constrained problem is solved by REFINEMENTS
# proximal steps, each of which shrinks the error along an eigenvalue l of the support's
# (row-normalised) Gram matrix by 1 / (1 + PROXIMAL * l) and leaves its null space alone, so that
# duplicated and linearly dependent rows need no rank decision.
PROXIMAL = 1e9
REFINEMENTS = 4
REFITS = 2
EXCHANGES = 8
# Rounding of a margin, in units of norm(a_i) * sqrt(N) * eps.
ROUNDING = 8 * 2.2e-16


class Exchange(NamedTuple):
    """State of the block exchanges: support (P,), its dual, the best candidate so far."""

    support: Array
    dual: Array
    best: Candidate
    rounds: Array
    settled: Array


def on_support(rows: Rows, support: Array, dual: Array) -> tuple[Array, Array]:
    """Return w (N,) with equal margins on `support` and its signed dual u (P,), zero off it.

    Among the duals of linearly dependent rows it finds the one nearest to `dual`.
    """
    dim, count = rows.columns.shape
    # Powers of two: what rounding did to the start, and with it how many rows pad the problem,
    # leaves no trace in the answer.
    dual = jnp.where(support & (dual > 0), jnp.exp2(jnp.round(jnp.log2(dual))), 0.0)
    total = jnp.sum(dual)
    dual = jnp.where(total > 0, dual / total, support / jnp.sum(support))
    if count <= dim:
        return _equal_margins(rows, support, dual)

    def gathered() -> tuple[Array, Array]:
        index = jnp.argsort(~support, stable=True)[:dim]
        there = jnp.arange(dim) < jnp.sum(support)
        few = make_rows(jnp.where(there, rows.columns[:, index], 0.0), there)
        direction, found = _equal_margins(few, there, jnp.where(there, dual[index], 0.0))
        return direction, jnp.zeros_like(dual).at[index].add(jnp.where(there, found, 0.0))

    # More rows than dimensions hold the separator only where some depend on others.
    return jax.lax.cond(
        jnp.sum(support) <= dim, gathered, lambda: _equal_margins(rows, support, dual)
    )


def _equal_margins(rows: Rows, support: Array, dual: Array) -> tuple[Array, Array]:
    norms = jnp.where(rows.norms > 0, rows.norms, 1.0)
    solve = newton_solver(rows, jnp.where(support, PROXIMAL / norms**2, 0.0))
    direction = rows.columns @ dual
    margin = jnp.sum(direction**2)

    def refine(count: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        direction, dual, margin = state
        # These steps leave rounding times PROXIMAL in u, though not in w; the last refit u to w.
        moving = count < REFINEMENTS
        gap = jnp.where(support & moving, margin - direction @ rows.columns, 0.0)
        missing = jnp.where(moving, 1.0 - jnp.sum(dual), 0.0)
        step = solve(rows.columns @ dual - direction, missing, gap)
        direction = jnp.where(moving, direction + step.direction, direction)
        return direction, dual + step.dual, jnp.where(moving, margin + step.margin, margin)

    state = (direction, dual, margin)
    direction, dual, _ = jax.lax.fori_loop(0, REFINEMENTS + REFITS, refine, state)
    return direction, dual


def exchange(rows: Rows, support: Array, dual: Array, active: Array) -> Exchange:
    """Solve on `support`, drop negative duals, add violated rows, repeat until neither is left.

    The best candidate met is kept: an exchange that cycles costs rounds, never the answer.
    """
    dim = rows.columns.shape[0]
    first = certify(rows, rows.columns @ dual, dual)

    def unsettled(state: Exchange) -> Array:
        return active & ~state.settled & (state.rounds < EXCHANGES)

    def again(state: Exchange) -> Exchange:
        direction, signed = on_support(rows, state.support, state.dual)
        found = certify(rows, direction, signed)
        tolerance = ROUNDING * jnp.sqrt(1.0 * dim) * rows.norms
        held = jnp.sum(jnp.where(state.support, found.margins, 0.0)) / jnp.sum(state.support)
        dropped = state.support & (signed < 0)
        added = ~state.support & (found.margins < held - tolerance)
        support = (state.support & ~dropped) | added
        better = found.bracket < state.best.bracket
        better = jnp.where(found.farkas <= FARKAS, found.farkas < state.best.farkas, better)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, state.best)
        settled = ~jnp.any(dropped | added) | (found.farkas <= FARKAS)
        settled = settled | ~jnp.all(jnp.isfinite(signed)) | ~jnp.any(support)
        return Exchange(support, found.dual, best, state.rounds + 1, settled)

    done = jnp.zeros((), bool)
    state = Exchange(support, first.dual, first, jnp.zeros((), int), done)
    return jax.lax.while_loop(unsettled, again, state)
