"""Minimises regularised losses over many batches of rows, exact and certified."""

import enum
from functools import partial
from itertools import repeat
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from hardset.checks import check_choice, is_concrete
from hardset.float64 import float64
from hardset.pytree import pytree_dataclass
from sims.erm import hinge, smooth
from sims.erm.smooth import CERTIFIED
from sims.maxmargin.compiled import exponent_of
from sims.maxmargin.lanes import on_processor
from theory.policy_names import LOSSES

# Entries of a problem on the processor from which a call of its own costs little beside the solve.
ALONE = 2**18


class ERMStatus(enum.IntEnum):
    """The outcome of a regularised minimisation."""

    SOLVED = 0
    NOT_CONVERGED = 1
    EMPTY = 2
    NOT_FINITE = 3
    NO_MINIMISER = 4

    @property
    def sentence(self) -> str:
        """Sentence that explains the status."""
        return _SENTENCES[self]


_SENTENCES = {
    ERMStatus.SOLVED: "The minimiser was found and certified to 1e-10.",
    ERMStatus.NOT_CONVERGED: "The solver stopped before its certificate reached 1e-10: rounding "
    "ended its progress.",
    ERMStatus.EMPTY: "There is no row with a positive weight.",
    ERMStatus.NOT_FINITE: "A row, a label, a sample weight or lam is NaN, infinite or out of "
    "range, so nothing was solved.",
    ERMStatus.NO_MINIMISER: "There is no minimiser: all labels are equal, so the logistic loss "
    "falls to 0 as the intercept grows for ever.",
}


@pytree_dataclass
class ERMResult:
    """A minimiser of a regularised loss with its proof.

    Attributes:
        weights: W, shape (..., N); zero where the status is EMPTY, NOT_FINITE or NO_MINIMISER.
        intercept: b, shape (...); 0 without intercept.
        objective: sum_i s_i loss(y_i (W.x_i + b)) + (lam N / 2) W.W, shape (...).
        certificate: norm of the gradient relative to lam N norm(W). For hinge, and where rounding
            keeps the former above 1e-10, the duality gap relative to the objective. Rounding is
            counted in. Shape (...).
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
        features: x, shape (..., P, N), P >= 1 and N >= 1; or (P, N) for all lanes of a batch
            that `labels`, `sample_weight` or `lam` have. Such lanes share one copy.
        labels: y in {-1, 1}, shape (..., P), or (P,) for all lanes that share their features.
        loss: "logistic", "hinge", "squared-hinge" or "square", as in `theory.students.ERM`.
        lam: ridge strength > 0, scalar or of the batch's shape (...).
        sample_weight: s >= 0, shape (..., P); a row with s = 0 is absent, whatever it holds.
            1 by default, and shape (P,) for all lanes that share their features.
        intercept: whether b is fitted, without penalty; it is 0 otherwise.

    Returns:
        The minimisers. Nothing raises for the values of arrays: see `status`.

    Raises:
        ValueError: if the shapes do not fit, or there is no such loss.

    Source: Newton's method preconditioned by a kept Cholesky factor for the smooth losses, and
    Mehrotra's interior point on the dual for hinge, in min(P, N) dimensions.
    """
    check_choice("loss", loss, LOSSES)
    inputs = features, labels, lam, sample_weight
    concrete = all(is_concrete(value) for value in inputs if value is not None)
    xp: Any = np if concrete else jnp
    matrix = xp.asarray(features, np.float64)
    if matrix.ndim < 2 or 0 in matrix.shape[-2:]:
        raise ValueError(
            f"features has shape {matrix.shape}; it must be (..., P, N) with P >= 1 and N >= 1"
        )
    signs = xp.asarray(labels, np.float64)
    weighted = sample_weight is not None
    sizes = xp.asarray(sample_weight if weighted else 1.0, np.float64)
    strength = xp.asarray(lam, np.float64)
    shape, (count, dim) = matrix.shape[:-2], matrix.shape[-2:]
    shared = not shape
    if shared:
        # The longest shape is the batch's, and the others are compared with it below.
        shape = max(signs.shape[:-1], sizes.shape[:-1], strength.shape, key=len)
    for name, array, wanted in (
        ("labels", signs, (*shape, count)),
        ("sample_weight", sizes, (*shape, count)),
        ("lam", strength, shape),
    ):
        alone = array.ndim == 0 and name != "labels"
        common = shared and name != "lam" and array.shape == (count,)
        if array.shape != wanted and not alone and not common:
            raise ValueError(f"{name} has shape {array.shape}; it must be {wanted}")
    lanes = (
        xp.broadcast_to(signs, (*shape, count)).reshape(-1, count),
        xp.broadcast_to(sizes, (*shape, count)).reshape(-1, count),
        xp.broadcast_to(strength, shape).reshape(-1),
    )
    options: dict[str, Any] = {"loss": loss, "intercept": bool(intercept), "weighted": weighted}
    if concrete and on_processor() and count * dim >= ALONE:
        matrices = repeat(jnp.asarray(matrix)) if shared else matrix.reshape(-1, count, dim)
        solved = [
            jax.tree.map(np.asarray, _solve(one, *lane, **options))
            for one, *lane in zip(matrices, *lanes, strict=not shared)
        ]
        found = jax.tree.map(lambda *leaves: np.stack(leaves), *solved)
    elif on_processor():
        # A processor gains nothing from lanes side by side, which would wait for the slowest.
        found = _one_by_one(matrix if shared else matrix.reshape(-1, count, dim), *lanes, **options)
    else:
        solve = partial(_solve, **options)
        if shared:
            found = jax.vmap(solve, in_axes=(None, 0, 0, 0))(matrix, *lanes)
        else:
            found = jax.vmap(solve)(matrix.reshape(-1, count, dim), *lanes)
    return jax.tree.map(lambda leaf: leaf.reshape((*shape, *leaf.shape[1:])), found)


@partial(jax.jit, static_argnames=("loss", "intercept", "weighted"))
def _one_by_one(
    matrices: Array, *lanes: Array, loss: str, intercept: bool, weighted: bool
) -> ERMResult:
    options: dict[str, Any] = {"loss": loss, "intercept": intercept, "weighted": weighted}

    def solve(lane: tuple[Array, ...]) -> ERMResult:
        # A matrix of two dimensions is closed over, so that the loop holds it once.
        found: ERMResult = _solve(*((matrices, *lane) if matrices.ndim == 2 else lane), **options)
        return found

    return lax.map(solve, lanes if matrices.ndim == 2 else (matrices, *lanes))


@partial(jax.jit, static_argnames=("loss", "intercept", "weighted"))
def _solve(
    matrix: Array,
    signs: Array,
    sizes: Array,
    strength: Array,
    *,
    loss: str,
    intercept: bool,
    weighted: bool,
) -> ERMResult:
    count, dim = matrix.shape
    there = sizes != 0
    fits = jnp.all(jnp.where(there, (jnp.abs(signs) == 1) & jnp.isfinite(sizes), True))
    fits &= jnp.all(sizes >= 0) & (strength > 0) & jnp.isfinite(strength)
    if weighted:
        matrix = jnp.where(there[:, None], matrix, 0.0)
        signs = jnp.where(there, signs, 1.0)
    largest = jnp.max(jnp.abs(matrix))
    fits &= jnp.isfinite(largest)
    there &= fits
    # Powers of two, so that no digit is lost.
    unit = _unit(largest)
    light = _unit(jnp.max(jnp.where(there, sizes, 0.0)))
    sizes = jnp.where(there, sizes, 0.0) * light
    ridge = jnp.full(min(count, dim), jnp.where(fits, strength, 1.0) * dim * unit**2 * light)
    rows, scale, basis = matrix, unit, None
    if count < dim:
        # W lies in the span of the rows: a problem of their number has the same minimum.
        basis, triangle = jnp.linalg.qr((matrix * unit).T)
        rows, scale = triangle.T, jnp.ones(())
    if intercept:
        rows = jnp.concatenate([rows * scale, jnp.ones((count, 1))], axis=1)
        ridge, scale = jnp.append(ridge, 0.0), jnp.ones(())
    if loss == "hinge":
        point = hinge.minimise(rows * scale, signs, sizes, ridge)
    else:
        point = smooth.minimise(loss, rows, scale, signs, sizes, ridge)
    offset = point.weights[-1] if intercept else jnp.zeros(())
    direction = point.weights[:-1] if intercept else point.weights
    if basis is not None:
        direction = basis @ direction
    empty = ~jnp.any(there)
    balance = jnp.sum(jnp.where(there, signs, 0.0))
    # An intercept of this sign serves a single class.
    alone = jnp.where(jnp.abs(balance) == jnp.sum(there), jnp.sign(balance), 0.0)
    alone = alone if intercept else jnp.zeros(())
    nothing = empty | (alone != 0)
    status = jnp.where(
        point.certificate <= CERTIFIED, int(ERMStatus.SOLVED), int(ERMStatus.NOT_CONVERGED)
    )
    served = ERMStatus.NO_MINIMISER if loss == "logistic" else ERMStatus.SOLVED
    status = jnp.where(alone != 0, int(served), status)
    status = jnp.where(empty, int(ERMStatus.EMPTY), status)
    status = jnp.where(fits, status, int(ERMStatus.NOT_FINITE))
    served_by = alone if loss != "logistic" else jnp.zeros(())
    margins = jnp.where(nothing, served_by * signs, point.margins)
    certificate = jnp.where(empty | (loss == "logistic"), jnp.nan, 0.0)
    return ERMResult(
        weights=jnp.where(nothing, 0.0, direction * unit),
        intercept=jnp.where(nothing, served_by, offset),
        objective=jnp.where(fits, jnp.where(nothing, 0.0, point.objective / light), jnp.nan),
        certificate=jnp.where(nothing, certificate, point.certificate),
        margins=jnp.where(there, margins, 0.0),
        dual=jnp.where(there & ~nothing, point.dual / light, 0.0),
        status=status.astype(jnp.int32),
    )


def _unit(largest: Array) -> Array:
    """Return the power of two that brings a size to between 1/2 and 1."""
    usable = (largest > 0) & jnp.isfinite(largest)
    exponent = exponent_of(jnp.where(usable, largest, 1.0))
    return jnp.exp2(jnp.clip(-exponent, -1000, 1000).astype(jnp.float64))
