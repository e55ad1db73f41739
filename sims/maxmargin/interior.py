"""Mehrotra interior point on the simplex form of the max-margin problem.

min norm(w)^2 / 2 - kappa  s.t.  A w >= kappa;  its dual keeps u in the simplex with w = A^T u. Both
are feasible for every A, separable or not, and nothing depends on the scale of the rows.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import linalg

# The dual space costs a Cholesky factor of size P, the primal one a product of P N^2 as well.
DUAL_SPACE_UP_TO = 1.5


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
    """Solution of a Newton system: changes of w, u, kappa and of the margins A w."""

    direction: Array
    dual: Array
    margin: Array
    margins: Array


def make_rows(columns: Array, mask: Array) -> Rows:
    """Return `Rows` for A^T of shape (N, P), with the Gram matrix where it will be used."""
    dim, count = columns.shape
    gram = columns.T @ columns if count <= DUAL_SPACE_UP_TO * dim else None
    return Rows(columns, mask, jnp.sqrt(jnp.sum(columns**2, axis=0)), gram)


def newton_solver(rows: Rows, weights: Array) -> Callable[[Array, Array, Array], Step]:
    """Factorise once for `weights` (P,) and return `solve(r1, r2, t) -> Step`."""
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


TO_THE_BOUNDARY = 0.99


class Iterate(NamedTuple):
    """Interior point: w (N,), u (P,), kappa, slacks s (P,), and the products A w, A^T u."""

    direction: Array
    dual: Array
    margin: Array
    slack: Array
    margins: Array
    image: Array


# Pull towards the centre, Newton step, change of the slacks, step length.
Trial = tuple[Array, Step, Array, Array]


def start(rows: Rows) -> Iterate:
    """Return the start u = 1/P, w = A^T u with slacks of the size of the margins' spread."""
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
    """Return the next interior point: predictor, corrector, one common step length."""
    mask = rows.mask
    count = jnp.sum(mask)
    safe_dual = jnp.where(mask, point.dual, 1.0)
    solve = newton_solver(rows, point.dual / point.slack)
    r1 = point.image - point.direction
    r2 = 1.0 - jnp.sum(point.dual)
    r3 = jnp.where(mask, point.slack + point.margin - point.margins, 0.0)

    mu = jnp.sum(point.dual * point.slack * mask) / count

    def towards(_: Array, state: Trial) -> Trial:
        """Newton step with the pull of the last one: none for the predictor."""
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
    _, change, slack, length = jax.lax.fori_loop(0, 2, towards, state)
    dual = point.dual + length * change.dual
    return Iterate(
        point.direction + length * change.direction,
        dual,
        point.margin + length * change.margin,
        point.slack + length * slack,
        point.margins + length * change.margins,
        rows.columns @ dual,
    )
