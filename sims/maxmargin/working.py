"""Solves problems of very many rows through working sets.

It solves on a working set and adds the rows that the solution violates, until there are none.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sims.maxmargin.compiled import (
    EXACTLY,
    FARKAS,
    ROUNDING,
    SEPARABLE_BRACKET,
    Candidate,
    Solution,
    make_rows,
    relative_gap,
    scale,
    solve_rows,
)

WORKING_PER_DIM = 5
# A matrix of fewer entries is solved more quickly as a whole.
WORTH_IT = 100_000
ROUNDS = 60
# Early sets need not be exact: their bracket may be this share of the gap that is still open.
LOOSE = 0.1
LOOSE_ABOVE = 1e-3
# New rows are chosen at this share of the way from the best separator to the working set's own.
AHEAD = 0.2
# Margin of masked rows: never the smallest, and finite, so that differences stay defined.
FAR = 1e300
STEPS = np.linspace(0.0, 1.0, 17)


class Working(NamedTuple):
    """The state between working sets.

    Attributes:
        sought: margins (P,) of the direction whose smallest ones enter the next set.
        centre: margins (P,) of the direction with the best smallest margin so far.
        solution: of the current set, with the margins of all rows; the rows holding it stay.
        enough: bracket to which the next set is solved.
        rounds: sets so far.
        settled: nothing is violated, or the rows are not separable.
    """

    sought: Array
    centre: Array
    solution: Solution
    enough: Array
    rounds: Array
    settled: Array


def working_rows(count: int, dim: int) -> int:
    """Return how many rows a working set holds.

    It is `count` itself where working sets are not worth it.
    """
    size = WORKING_PER_DIM * dim
    return size if count > 2 * size and count * dim > WORTH_IT else count


def solve_by_working_set(
    matrix: Array, mask: Array, exponent: Array, largest: Array, active: Array
) -> Solution:
    """Solve for the rows of `matrix` (P, N) times 2**-exponent through working sets.

    Rows that hold the separator stay in the set. The others are those of smallest margin at a point
    between the best separator so far and the set's own. At the set's own, which the rows left out
    have never restrained, sets would replace each other for tens of rounds. Every fourth set is
    chosen there all the same, so that the upper bound norm(A^T u) falls and no set comes twice.
    `largest` (P,) is the largest entry of each row; the matrix is read by rows, never copied.
    """
    count, dim = matrix.shape
    size = working_rows(count, dim)
    tolerance = ROUNDING * dim * scale(largest, -exponent)

    norms = jnp.sqrt(jnp.sum(scale(matrix, -exponent) ** 2, axis=1))
    norms = jnp.where(mask, norms, 0.0)

    def margins_of(direction: Array) -> Array:
        return jnp.where(mask, scale(matrix @ direction, -exponent), FAR)

    def solve_set(state: Working) -> Working:
        _, index = jax.lax.top_k(jnp.where(state.solution.holding, jnp.inf, -state.sought), size)
        there = mask[index]
        columns = jnp.where(there, scale(matrix[index].T, -exponent), 0.0)
        found = solve_rows(make_rows(columns, there), active, state.enough)
        best = found.best
        zeros = jnp.zeros(count)
        margins = margins_of(best.direction)
        whole = Candidate(
            best.direction,
            zeros.at[index].set(best.dual),
            margins,
            jnp.min(margins),
            best.bound,
            relative_gap(margins, norms, best.bound),
            best.farkas,
        )
        centre = _towards(state.centre, margins)
        violated = jnp.any(margins < best.margin - tolerance)
        exactly = state.enough < 0
        gap = 1.0 - jnp.min(centre) / best.bound
        loose = (gap > LOOSE_ABOVE) & violated
        rounds = state.rounds + 1
        return Working(
            sought=jnp.where(rounds % 4 == 0, margins, centre + AHEAD * (margins - centre)),
            centre=centre,
            solution=found._replace(
                best=whole,
                holding=jnp.zeros_like(mask).at[index].set(found.holding),
                iterations=state.solution.iterations + found.iterations,
            ),
            enough=jnp.where(loose, LOOSE * jnp.minimum(gap, 1.0), EXACTLY),
            rounds=rounds,
            settled=(exactly & ~violated) | (best.farkas <= FARKAS) | found.stuck,
        )

    def going(state: Working) -> Array:
        return active & ~state.settled & (state.rounds < ROUNDS)

    mean = (mask / jnp.maximum(jnp.sum(mask), 1)) @ jnp.where(mask[:, None], matrix, 0.0)
    mean = scale(mean, -exponent)
    margins = margins_of(mean / jnp.maximum(jnp.sqrt(jnp.sum(mean**2)), 1e-300))
    infinite = jnp.asarray(jnp.inf)
    zero, no = jnp.zeros((), int), jnp.zeros((), bool)
    nothing = Candidate(mean, jnp.zeros(count), margins, -infinite, infinite, infinite, infinite)
    solution = Solution(nothing, jnp.zeros_like(mask), zero, no)
    state = Working(margins, margins, solution, jnp.asarray(LOOSE), zero, no)
    solution = jax.lax.while_loop(going, solve_set, state).solution
    failed = active & (solution.best.bracket > SEPARABLE_BRACKET) & (solution.best.farkas > FARKAS)

    def all_rows() -> Solution:
        columns = jnp.where(mask, scale(matrix.T, -exponent), 0.0)
        found = solve_rows(make_rows(columns, mask), failed, jnp.asarray(EXACTLY))
        return found._replace(iterations=solution.iterations + found.iterations)

    # More rows may hold the separator than a set has room for: dependent ones, thousands of them.
    return jax.lax.cond(failed, all_rows, lambda: solution)


def _towards(centre: Array, margins: Array) -> Array:
    """Return the margins of largest minimum on the segment between two directions."""
    steps = jnp.asarray(STEPS)
    smallest = jnp.min(centre + steps[:, None] * (margins - centre), axis=1)
    # Not argmax: its lowering asks for 64-bit integers after the package's border is left.
    step = jnp.max(jnp.where(smallest == jnp.max(smallest), steps, 0.0))
    return centre + step * (margins - centre)
