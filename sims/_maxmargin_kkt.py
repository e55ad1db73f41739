"""Newton systems of the max-margin problem, solved in the smaller of the two spaces.

With rows a_i (the columns of `columns`), weights d_i >= 0 and W = diag(d), the system is

    dw - A^T du = r1,    1^T du = r2,    du = W (t + dkappa - A dw).

Both the interior point (d = u / s) and the active-set steps (d constant on the support, zero off
it) are of this form; they share the factorisation below. It is positive definite for every A,
rank-deficient and duplicated rows included, because the objective norm(w)^2 / 2 adds the identity.
"""

from collections.abc import Callable
from typing import NamedTuple

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
