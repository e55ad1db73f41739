"""Solves max-margin problems of a moderate number of rows in compiled code.

An interior point comes first, then an exact solution on the support. The problem is
min norm(w)^2 / 2 - kappa  s.t.  A w >= kappa;  its dual keeps u in the simplex with w = A^T u. Both
are feasible for every A, separable or not, and nothing depends on the scale of the rows.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.lax import linalg
from jax.typing import ArrayLike

# Relative gap of margin and bound that proves a separator, and norm of A^T u over the sum of its
# terms' norms that proves that there is none.
SEPARABLE_BRACKET = 1e-10
FARKAS = 1e-12
# Rounding of a_i w and of A^T u, in units of norm(a_i) and of sum u_i norm(a_i), by which the
# bracket is widened. It is several times what a thousand problems of 2 to 200 dimensions showed.
MARGIN_ROUNDING = 2.2e-16
BOUND_ROUNDING = 1.1e-16
# Rounding of a margin, in units of norm(a_i) * sqrt(N) * eps.
ROUNDING = 8 * 2.2e-16
# The dual space costs a Cholesky factor of size P, the primal one a product of P N^2 as well.
DUAL_SPACE_UP_TO = 1.5
# Share of the way to the boundary that a step goes.
TO_THE_BOUNDARY = 0.99
ITERATIONS = 100
# Brackets at which the first and every next solution on the support is tried, the latter relative.
FIRST_TARGET = 1e-3
NEXT_TARGET = 1e-3
# A bracket that is never reached: the solve goes on until it is exact.
EXACTLY = -1.0
# Complementarity over norm(w)^2 where rounding has long ended all progress.
ROUNDED = 1e-17
# Where nothing separates the rows, the bracket cannot fall, and norm(A^T u) falls instead.
VANISHING = 1e-4
# Proximal weight over squared row norm: the equality-constrained problem is solved by REFINEMENTS
# proximal steps, each of which shrinks the error along an eigenvalue l of the support's
# (row-normalised) Gram matrix by 1 / (1 + PROXIMAL * l) and leaves its null space alone, so that
# duplicated and linearly dependent rows need no rank decision.
PROXIMAL = 1e9
REFINEMENTS = 4
REFITS = 2
EXCHANGES = 8
# Parts of a double's 64 bits.
MANTISSA_BITS = 52
BIAS = 1023


def exponent_of(x: Array) -> Array:
    """Return the integer n with 2^(n-1) <= x < 2^n.

    x > 0 is a normal float64.
    """
    bits = lax.bitcast_convert_type(x, jnp.int64)
    return (bits >> MANTISSA_BITS) - (BIAS - 1)


def scale(x: Array, exponent: Array) -> Array:
    """Return x 2^exponent, rounded only below 2.2e-308.

    The exponent is a scalar in [-1074, 1074].
    """
    # Two factors, because 2^1024 and 2^-1023 are no normal numbers.
    half = exponent >> 1
    return x * _power(half) * _power(exponent - half)


def _power(exponent: Array) -> Array:
    return lax.bitcast_convert_type((exponent + BIAS) << MANTISSA_BITS, jnp.float64)


class Rows(NamedTuple):
    """The rows of one problem, laid out for fast products.

    Attributes:
        columns: A^T, shape (N, P): contiguous along the examples; masked ones are zero.
        mask: real rows, shape (P,).
        norms: norm of every row, shape (P,).
        gram: A A^T, shape (P, P), where the dual space is the smaller one, otherwise None.
    """

    columns: Array
    mask: Array
    norms: Array
    gram: Array | None


class Step(NamedTuple):
    """The solution of a Newton system: changes of w, u, kappa and A w."""

    direction: Array
    dual: Array
    margin: Array
    margins: Array


def make_rows(columns: Array, mask: Array) -> Rows:
    """Make the rows of A^T, shape (N, P).

    The Gram matrix is computed where it will be used.
    """
    dim, count = columns.shape
    gram = columns.T @ columns if count <= DUAL_SPACE_UP_TO * dim else None
    return Rows(columns, mask, jnp.sqrt(jnp.sum(columns**2, axis=0)), gram)


def newton_solver(rows: Rows, weights: Array) -> Callable[[Array, Array, Array], Step]:
    """Factorise the Newton system for `weights` (P,), and return its solver.

    The solver is `solve(r1, r2, t) -> Step`.
    """
    columns, gram = rows.columns, rows.gram
    roots = jnp.sqrt(weights)
    if gram is None:
        scaled = columns * roots
        matrix = scaled @ scaled.T
    else:
        matrix = gram * roots[:, None] * roots
    size = matrix.shape[0]
    factor = linalg.cholesky(matrix + jnp.eye(size), symmetrize_input=False)

    def invert(right: Array) -> Array:
        half = linalg.triangular_solve(factor, right[:, None], left_side=True, lower=True)
        whole = linalg.triangular_solve(factor, half, left_side=True, lower=True, transpose_a=True)
        return whole[:, 0]

    def for_fixed_margin(r1: Array, t: Array) -> tuple[Array, Array, Array]:
        if gram is None:
            direction = invert(r1 + columns @ (weights * t))
            margins = direction @ columns
            return direction, weights * (t - margins), margins
        shift = r1 @ columns
        dual = roots * invert(roots * (t - shift))
        return r1 + columns @ dual, dual, shift + gram @ dual

    unit = for_fixed_margin(jnp.zeros_like(columns[:, 0]), rows.mask.astype(columns.dtype))
    unit_total = jnp.sum(unit[1])

    def solve(r1: Array, r2: Array, t: Array) -> Step:
        base = for_fixed_margin(r1, t)
        margin = (r2 - jnp.sum(base[1])) / unit_total
        direction, dual, margins = (b + margin * q for b, q in zip(base, unit, strict=True))
        return Step(direction, dual, margin, margins)

    return solve


class Iterate(NamedTuple):
    """An interior point with its products.

    It holds w (N,), u (P,), kappa, slacks s (P,), and the products A w and A^T u.
    """

    direction: Array
    dual: Array
    margin: Array
    slack: Array
    margins: Array
    image: Array


# Pull towards the centre, Newton step, change of the slacks, step length.
Trial = tuple[Array, Step, Array, Array]


def start(rows: Rows) -> Iterate:
    """Return the first interior point: u = 1/P and w = A^T u.

    Its slacks have the size of the margins' spread.
    """
    mask = rows.mask
    count = jnp.maximum(jnp.sum(mask), 1)
    dual = mask / count
    direction = rows.columns @ dual
    margins = direction @ rows.columns
    mean = jnp.sum(margins * mask) / count
    spread = jnp.sqrt(jnp.sum(mask * (margins - mean) ** 2) / count) + jnp.abs(mean)
    spread = jnp.where(spread > 0, spread, 1.0)
    margin = mean - spread
    slack = jnp.where(mask, jnp.maximum(margins - margin, 0.1 * spread), 1.0)
    return Iterate(direction, dual, margin, slack, margins, direction)


def advance(rows: Rows, point: Iterate) -> Iterate:
    """Return the next interior point, by a predictor and a corrector.

    All of its parts have one step length.
    """
    mask = rows.mask
    count = jnp.sum(mask)
    safe_dual = jnp.where(mask, point.dual, 1.0)
    solve = newton_solver(rows, point.dual / point.slack)
    r1 = point.image - point.direction
    r2 = 1.0 - jnp.sum(point.dual)
    r3 = jnp.where(mask, point.slack + point.margin - point.margins, 0.0)

    mu = jnp.sum(point.dual * point.slack * mask) / count

    def towards(_: Array, state: Trial) -> Trial:
        """Return the Newton step with the pull of the last one.

        The predictor has no pull.
        """
        pull = state[0]
        change = solve(r1, r2, jnp.where(mask, r3 - point.slack + pull, 0.0))
        slack = jnp.where(mask, change.margins - change.margin - r3, 0.0)
        shrink = jnp.maximum(jnp.max(-change.dual / safe_dual), jnp.max(-slack / point.slack))
        length = jnp.minimum(1.0, TO_THE_BOUNDARY / jnp.maximum(shrink, 1e-300))
        ahead = (point.dual + length * change.dual) * (point.slack + length * slack)
        sigma = (jnp.sum(ahead * mask) / count / mu) ** 3
        return (sigma * mu - slack * change.dual) / safe_dual, change, slack, length

    zeros = jnp.zeros_like(point.dual)
    still = Step(jnp.zeros_like(r1), zeros, jnp.zeros_like(r2), zeros)
    state = (zeros, still, zeros, jnp.zeros_like(r2))
    _, change, slack, length = lax.fori_loop(0, 2, towards, state)
    dual = point.dual + length * change.dual
    return Iterate(
        point.direction + length * change.direction,
        dual,
        point.margin + length * change.margin,
        point.slack + length * slack,
        point.margins + length * change.margins,
        rows.columns @ dual,
    )


class Candidate(NamedTuple):
    """A direction and a dual, with the margin and the bounds that they prove.

    Attributes:
        direction: unit vector w, shape (N,).
        dual: u >= 0 with unit sum, shape (P,).
        margins: A w, shape (P,); +inf on masked rows.
        margin: the smallest of them.
        bound: the upper bound norm(A^T u) on the best margin, rounded up.
        bracket: relative gap between `margin`, rounded down, and `bound`.
        farkas: norm(A^T u) / sum u_i norm(a_i): zero proves that nothing separates the rows.
    """

    direction: Array
    dual: Array
    margins: Array
    margin: Array
    bound: Array
    bracket: Array
    farkas: Array


def safe_norm(vector: Array) -> Array:
    """Return norm(vector), or 1 where it vanishes."""
    length = jnp.sqrt(jnp.sum(vector**2))
    return jnp.where(length > 0, length, 1.0)


def relative_gap(margins: Array, norms: Array, bound: Array) -> Array:
    """Return how far the smallest margin may be below the best one, relatively.

    Rounding is included.
    """
    lower = jnp.min(margins - MARGIN_ROUNDING * norms)
    return jnp.where(bound > 0, 1.0 - lower / jnp.where(bound > 0, bound, 1.0), jnp.inf)


def certify(rows: Rows, direction: Array, dual: Array) -> Candidate:
    """Certify a direction by its margins and by the non-negative part of a dual.

    The direction gives the margin, and the dual gives the bound. The two are kept apart although
    w = A^T u at the optimum: that sum cancels to kappa, and its rounding would cost
    norm(a_i) / kappa in the margins once more.
    """
    dual = jnp.where(rows.mask, jnp.maximum(dual, 0.0), 0.0)
    total = jnp.sum(dual)
    dual = jnp.where(total > 0, dual / jnp.where(total > 0, total, 1.0), 0.0)
    direction = direction / safe_norm(direction)
    margins = jnp.where(rows.mask, direction @ rows.columns, jnp.inf)
    length = jnp.sqrt(jnp.sum((rows.columns @ dual) ** 2))
    terms = jnp.sum(dual * rows.norms)
    farkas = jnp.where(terms > 0, length / jnp.where(terms > 0, terms, 1.0), 0.0)
    bound = length + BOUND_ROUNDING * terms
    bracket = relative_gap(margins, rows.norms, bound)
    return Candidate(direction, dual, margins, jnp.min(margins), bound, bracket, farkas)


class Exchange(NamedTuple):
    """The state of the exchanges: support (P,), its dual, the best candidate so far."""

    support: Array
    dual: Array
    best: Candidate
    rounds: Array
    settled: Array


def on_support(rows: Rows, support: Array, dual: Array) -> tuple[Array, Array]:
    """Find the w (N,) that has equal margins on `support`.

    Its signed dual u (P,), which is zero off the support, comes with it. Among the duals of
    linearly dependent rows it finds the one nearest to `dual`.
    """
    dim, count = rows.columns.shape
    # Rounded to powers of two, the start loses its rounding errors. So the answer does not depend
    # on them, nor on how many rows pad the problem.
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
    return lax.cond(jnp.sum(support) <= dim, gathered, lambda: _equal_margins(rows, support, dual))


def _equal_margins(rows: Rows, support: Array, dual: Array) -> tuple[Array, Array]:
    norms = jnp.where(rows.norms > 0, rows.norms, 1.0)
    solve = newton_solver(rows, jnp.where(support, PROXIMAL / norms**2, 0.0))
    direction = rows.columns @ dual
    margin = jnp.sum(direction**2)

    def refine(count: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        direction, dual, margin = state
        # These steps leave rounding errors times PROXIMAL in u, though not in w. The last steps
        # refit u to w.
        moving = count < REFINEMENTS
        gap = jnp.where(support & moving, margin - direction @ rows.columns, 0.0)
        missing = jnp.where(moving, 1.0 - jnp.sum(dual), 0.0)
        step = solve(rows.columns @ dual - direction, missing, gap)
        direction = jnp.where(moving, direction + step.direction, direction)
        return direction, dual + step.dual, jnp.where(moving, margin + step.margin, margin)

    state = (direction, dual, margin)
    direction, dual, _ = lax.fori_loop(0, REFINEMENTS + REFITS, refine, state)
    return direction, dual


def exchange(rows: Rows, support: Array, dual: Array, active: Array) -> Exchange:
    """Solve on a support, and exchange rows until it is the right one.

    Rows of negative dual leave and violated rows come in, until neither is left. The best candidate
    met is kept: an exchange that cycles costs rounds, never the answer.
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
    return lax.while_loop(unsettled, again, state)


class Solution(NamedTuple):
    """The result of a solve.

    These are the candidate, the rows that hold the separator, the number of iterations, and whether
    progress has ended.
    """

    best: Candidate
    holding: Array
    iterations: Array
    stuck: Array


class Progress(NamedTuple):
    """The state between attempts: interior point, solution so far, bracket to reach next."""

    point: Iterate
    solution: Solution
    target: Array
    exact: Array


def better_of(new: Candidate, old: Candidate) -> Candidate:
    """Return the candidate that proves more.

    That is one with a Farkas certificate, or else the one of smaller bracket.
    """
    wins = jnp.where(
        (new.farkas <= FARKAS) | (old.farkas <= FARKAS),
        new.farkas < old.farkas,
        new.bracket < old.bracket,
    )
    return jax.tree.map(lambda a, b: jnp.where(wins, a, b), new, old)


def solve_rows(rows: Rows, active: Array, enough: ArrayLike) -> Solution:
    """Solve one problem until the bracket is at most `enough`, or exactly.

    Lanes with `active` false cost no iteration.
    """
    columns, mask = rows.columns, rows.mask
    dim, count = columns.shape

    def holding(point: Iterate) -> Array:
        # For rows of one size u has the scale 1/P, the slacks that of norm(w)^2; a row k times as
        # large has u / k and k s.
        size = jnp.sum(point.image**2) + jnp.sum(point.slack * point.dual * mask)
        relative = rows.norms / jnp.sum(point.dual * rows.norms)
        return mask & (point.dual * relative**2 * count * size > point.slack)

    def gap(point: Iterate) -> Array:
        """Return the complementarity over norm(w)^2.

        It is the bracket, but for rounding in A w.
        """
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
            # With many dependent rows at a small margin rounding keeps the bracket large. Yet the
            # point tells the support well enough to solve on it.
            & (gap(state.point) > state.target)
            & (best.farkas > jnp.maximum(FARKAS, VANISHING * state.target))
            & (state.solution.iterations < ITERATIONS)
            & ~state.solution.stuck
        )

    def attempt(state: Progress) -> Progress:
        state = lax.while_loop(interior_going, interior_step, state)
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
    return lax.while_loop(lambda s: active & ~finished(s), attempt, state).solution
