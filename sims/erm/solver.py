"""Minimises regularised losses over many batches of rows, exact and certified."""

import enum
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from hardset.checks import check_choice
from hardset.float64 import float64
from hardset.pytree import pytree_dataclass
from sims.erm import hinge, smooth
from sims.maxmargin.lanes import on_processor
from theory.policy_names import LOSSES

# The certificate of a solved problem is at most this.
CERTIFIED = 1e-10


class ERMStatus(enum.IntEnum):
    """The outcome of a regularised minimisation."""

    SOLVED = 0
    NOT_CONVERGED = 1
    EMPTY = 2
    NOT_FINITE = 3

    @property
    def sentence(self) -> str:
        """Sentence that explains the status."""
        return _SENTENCES[self]


_SENTENCES = {
    ERMStatus.SOLVED: "The minimiser was found and certified to 1e-10.",
    ERMStatus.NOT_CONVERGED: "The solver stopped before its certificate reached 1e-10: rounding "
    "ended its progress, or there is no minimiser (logistic loss with an intercept and one class).",
    ERMStatus.EMPTY: "There is no row with a positive weight.",
    ERMStatus.NOT_FINITE: "A row, a label, a sample weight or lam is NaN, infinite or out of "
    "range, so nothing was solved.",
}


@pytree_dataclass
class ERMResult:
    """A minimiser of a regularised loss with its proof.

    Attributes:
        weights: W, shape (..., N); zero where the status is EMPTY or NOT_FINITE.
        intercept: b, shape (...); 0 without intercept.
        objective: sum_i s_i loss(y_i (W.x_i + b)) + (lam N / 2) W.W, shape (...).
        certificate: hinge: the duality gap relative to the objective. Other losses: norm of the
            gradient relative to lam N norm(W), or to 1e-5 of its norm at W = 0 if that is more.
        margins: y_i (W.x_i + b), shape (..., P); zero for absent rows.
        dual: u with lam N W = sum_i u_i y_i x_i, shape (..., P): minus s_i times the loss's slope.
        status: an `ERMStatus` value, shape (...).
    """

    weights: Array
    intercept: Array
    objective: Array
    certificate: Array
    margins: Array
    dual: Array
    status: Array


@float64
def erm(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    loss: str,
    lam: ArrayLike,
    sample_weight: ArrayLike | None = None,
    intercept: bool = False,
) -> ERMResult:
    """Minimise sum_i s_i loss(y_i (W.x_i + b)) + (lam N / 2) W.W.

    Args:
        features: x, shape (..., P, N), P >= 1 and N >= 1.
        labels: y in {-1, 1}, shape (..., P).
        loss: "logistic", "hinge", "squared-hinge" or "square", as in `theory.students.ERM`.
        lam: ridge strength > 0, scalar or of the batch's shape (...).
        sample_weight: s >= 0, shape (..., P); a row with s = 0 is absent, whatever it holds.
            1 by default.
        intercept: whether b is fitted, without penalty; it is 0 otherwise.

    Returns:
        The minimisers. Nothing raises for the values of arrays: see `status`.

    Raises:
        ValueError: if the shapes do not fit, or there is no such loss.

    Source: Newton's method preconditioned by a kept Cholesky factor for the smooth losses, and
    Mehrotra's interior point on the dual for hinge, in min(P, N) dimensions.
    """
    check_choice("loss", loss, LOSSES)
    matrix = jnp.asarray(features, jnp.float64)
    if matrix.ndim < 2 or 0 in matrix.shape[-2:]:
        raise ValueError(
            f"features has shape {matrix.shape}; it must be (..., P, N) with P >= 1 and N >= 1"
        )
    signs = jnp.asarray(labels, jnp.float64)
    sizes = jnp.asarray(1.0 if sample_weight is None else sample_weight, jnp.float64)
    strength = jnp.asarray(lam, jnp.float64)
    shape, (count, dim) = matrix.shape[:-2], matrix.shape[-2:]
    for name, array, wanted in (
        ("labels", signs, (*shape, count)),
        ("sample_weight", sizes, (*shape, count)),
        ("lam", strength, shape),
    ):
        if array.shape != wanted and (array.ndim > 0 or name == "labels"):
            raise ValueError(f"{name} has shape {array.shape}; it must be {wanted}")
    sizes = jnp.broadcast_to(sizes, (*shape, count)).reshape(-1, count)
    strength = jnp.broadcast_to(strength, shape).reshape(-1)
    found = _solve_all(
        matrix.reshape(-1, count, dim),
        signs.reshape(-1, count),
        sizes,
        strength,
        loss=loss,
        intercept=bool(intercept),
        one_by_one=on_processor(),
    )
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), found)


@partial(jax.jit, static_argnames=("loss", "intercept", "one_by_one"))
def _solve_all(
    matrix: Array,
    signs: Array,
    sizes: Array,
    strength: Array,
    *,
    loss: str,
    intercept: bool,
    one_by_one: bool,
) -> ERMResult:
    def solve(lane: tuple[Array, Array, Array, Array]) -> ERMResult:
        return _solve(*lane, loss=loss, intercept=intercept)

    lanes = matrix, signs, sizes, strength
    # A processor gains nothing from lanes side by side, and they would wait for the slowest.
    return lax.map(solve, lanes) if one_by_one else jax.vmap(solve)(lanes)


def _solve(
    matrix: Array, signs: Array, sizes: Array, strength: Array, *, loss: str, intercept: bool
) -> ERMResult:
    count, dim = matrix.shape
    there = sizes != 0
    fits = jnp.all(jnp.where(there[:, None], jnp.isfinite(matrix), True))
    fits &= jnp.all(jnp.where(there, (jnp.abs(signs) == 1) & jnp.isfinite(sizes), True))
    fits &= jnp.all(sizes >= 0) & (strength > 0) & jnp.isfinite(strength)
    there &= fits
    sizes = jnp.where(there, sizes, 0.0)
    signs = jnp.where(there, signs, 0.0)
    rows = jnp.where(there[:, None], matrix * signs[:, None], 0.0)
    strength = jnp.where(fits, strength, 1.0)
    # W lies in the span of the rows: fewer rows than dimensions make a problem of their number.
    basis = None
    if count < dim:
        basis, triangle = jnp.linalg.qr(rows.T)
        reduced = triangle.T
    else:
        reduced = rows
    ridge = jnp.full(reduced.shape[1], strength * dim)
    if intercept:
        reduced = jnp.concatenate([reduced, signs[:, None]], axis=1)
        ridge = jnp.append(ridge, 0.0)
    if loss == "hinge":
        interior = hinge.minimise(reduced, sizes, ridge)
        weights, dual, certificate = interior.weights, interior.dual, interior.gap
    else:
        point = smooth.minimise(loss, reduced, sizes, ridge)
        weights, certificate = point.weights, point.certificate
        dual = -sizes * smooth.slope(loss, point.margins)
    margins = reduced @ weights
    objective = sizes @ smooth.value(loss, margins) + 0.5 * jnp.sum(ridge * weights**2)
    offset = weights[-1] if intercept else jnp.zeros(())
    direction = weights[:-1] if intercept else weights
    if basis is not None:
        direction = basis @ direction
    status = jnp.where(
        certificate <= CERTIFIED, int(ERMStatus.SOLVED), int(ERMStatus.NOT_CONVERGED)
    )
    status = jnp.where(jnp.any(there), status, int(ERMStatus.EMPTY))
    status = jnp.where(fits, status, int(ERMStatus.NOT_FINITE))
    nothing = ~jnp.any(there)
    return ERMResult(
        weights=jnp.where(nothing, 0.0, direction),
        intercept=jnp.where(nothing, 0.0, offset),
        objective=jnp.where(fits, objective, jnp.nan),
        certificate=jnp.where(nothing, jnp.nan, certificate),
        margins=jnp.where(there, margins, 0.0),
        dual=jnp.where(there, dual, 0.0),
        status=status.astype(jnp.int32),
    )
