"""Finds max-margin separators through the origin, exact and certified."""

import enum

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from hardset.float64 import float64
from hardset.pytree import pytree_dataclass
from sims.maxmargin.compiled import (
    EXACTLY,
    FARKAS,
    SEPARABLE_BRACKET,
    Candidate,
    Solution,
    exponent_of,
    make_rows,
    scale,
    solve_rows,
)
from sims.maxmargin.working import solve_by_working_set, working_rows


class MaxMarginStatus(enum.IntEnum):
    """The outcome of a max-margin solve."""

    SOLVED = 0
    NOT_SEPARABLE = 1
    STALLED = 2
    ITERATION_LIMIT = 3
    EMPTY = 4
    NOT_FINITE = 5

    @property
    def sentence(self) -> str:
        """Sentence that explains the status."""
        return _SENTENCES[self]


_SENTENCES = {
    MaxMarginStatus.SOLVED: "The maximum-margin separator was found and certified to a relative "
    "gap of at most 1e-10.",
    MaxMarginStatus.NOT_SEPARABLE: "No hyperplane through the origin separates the rows: a convex "
    "combination of them vanishes to rounding (the dual holds it).",
    MaxMarginStatus.STALLED: "The solver stopped where rounding ended its solution, before the gap "
    "reached 1e-10: the margin is too small against the rows' norms for double precision.",
    MaxMarginStatus.ITERATION_LIMIT: "The solver reached its iteration limit before the gap "
    "reached 1e-10.",
    MaxMarginStatus.EMPTY: "There is no row to separate.",
    MaxMarginStatus.NOT_FINITE: "A row holds NaN or infinity, so nothing was solved.",
}


@pytree_dataclass
class MaxMarginResult:
    """A max-margin separator with its proof, or the proof that there is none.

    Attributes:
        direction: unit vector w, shape (N,); zero where the status is EMPTY or NOT_FINITE.
        margin: min over the rows of A w, for unit w; in the rows' own units.
        bracket: 1 - margin * sum(u) / norm(A^T u), a relative upper bound on how far `margin` is
            below the best possible one, rounding of both included.
        dual: u >= 0 with sum 1, shape (P,); w is parallel to A^T u.
        support: rows that hold the separator (u > 0), shape (P,).
        farkas: norm(A^T u) / sum u_i norm(a_i); at most 1e-12 where the status is NOT_SEPARABLE.
        status: a `MaxMarginStatus` value.
        iterations: interior-point iterations, all working sets together.
    """

    direction: Array
    margin: Array
    bracket: Array
    dual: Array
    support: Array
    farkas: Array
    status: Array
    iterations: Array


@float64
def max_margin(features: ArrayLike, mask: ArrayLike | None = None) -> MaxMarginResult:
    """Find the separator of largest margin, or prove that there is none.

    It is the w that maximises min(A w) / norm(w), the solution of min norm(w)^2 / 2 subject to
    A w >= 1.

    Args:
        features: A, shape (P, N): rows y x, labels already multiplied in; any scale, but entries
            below 2.2e-308 count as zero.
        mask: rows that are there, boolean of shape (P,); the others change nothing. All by default.

    Returns:
        The separator, or for rows that no hyperplane through the origin separates a Farkas
        certificate in `dual`. Nothing raises for the values of `features`: see `status`.

    Raises:
        ValueError: if `features` is not a matrix with at least one row and one column, or `mask`
            does not have one entry for each row.

    Source: the Wolfe dual, min norm(A^T u) over the simplex, solved by Mehrotra's
    predictor-corrector method and then exactly on the support.
    """
    matrix = jnp.asarray(features, jnp.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"features has shape {matrix.shape}; it must be (P, N) with P >= 1 and N >= 1"
        )
    rows_there = jnp.ones(matrix.shape[0], bool) if mask is None else jnp.asarray(mask, bool)
    if rows_there.shape != matrix.shape[:1]:
        raise ValueError(
            f"mask has shape {rows_there.shape}; it must be {matrix.shape[:1]}, one entry a row"
        )
    return _solve(matrix, rows_there)


@jax.jit
def _solve(matrix: Array, mask: Array) -> MaxMarginResult:
    count, dim = matrix.shape
    largest = jnp.where(mask, jnp.max(jnp.abs(matrix), axis=1), 0.0)
    finite = jnp.all(jnp.isfinite(largest))
    top = jnp.max(largest)
    # A power of two: scaling costs no digit, and squares neither overflow nor underflow.
    usable = finite & (top > 0)
    exponent = jnp.where(usable, exponent_of(jnp.where(usable, top, 1.0)), 0)
    vanishing = mask & (largest == 0)
    active = finite & ~jnp.any(vanishing) & jnp.any(mask)
    if working_rows(count, dim) < count:
        solution = solve_by_working_set(matrix, mask, exponent, largest, active)
    else:
        columns = jnp.where(mask, scale(matrix.T, -exponent), 0.0)
        columns = jnp.where(finite, columns, 0.0)
        solution = solve_rows(make_rows(columns, mask), active, EXACTLY)
    return _result(solution, vanishing, mask, finite, exponent)


def _result(
    solution: Solution, vanishing: Array, mask: Array, finite: Array, exponent: Array
) -> MaxMarginResult:
    best: Candidate = solution.best
    # A vanishing row is its own certificate.
    trivial = jnp.any(vanishing)
    dual = jnp.where(trivial, vanishing / jnp.maximum(jnp.sum(vanishing), 1), best.dual)
    farkas = jnp.where(trivial, 0.0, best.farkas)
    # Nested choices: the lowering of `select` asks for 64-bit integers after the border is left.
    status = jnp.where(
        solution.stuck, int(MaxMarginStatus.STALLED), int(MaxMarginStatus.ITERATION_LIMIT)
    )
    for condition, outcome in (
        (best.bracket <= SEPARABLE_BRACKET, MaxMarginStatus.SOLVED),
        (farkas <= FARKAS, MaxMarginStatus.NOT_SEPARABLE),
        (~jnp.any(mask), MaxMarginStatus.EMPTY),
        (~finite, MaxMarginStatus.NOT_FINITE),
    ):
        status = jnp.where(condition, int(outcome), status)
    nothing = ~finite | ~jnp.any(mask)
    return MaxMarginResult(
        direction=jnp.where(nothing, 0.0, best.direction),
        margin=jnp.where(nothing, jnp.nan, scale(best.margin, exponent)),
        bracket=jnp.where(nothing, jnp.nan, jnp.maximum(best.bracket, 0.0)),
        dual=jnp.where(nothing, 0.0, dual),
        support=jnp.where(nothing, False, dual > 0),
        farkas=jnp.where(nothing, jnp.nan, farkas),
        status=status.astype(jnp.int32),
        iterations=solution.iterations,
    )
