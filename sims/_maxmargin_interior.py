"""Mehrotra interior point on the simplex form of the max-margin problem.

min norm(w)^2 / 2 - kappa  s.t.  A w >= kappa;  its dual keeps u in the simplex with w = A^T u. Both
are feasible for every A, separable or not, and nothing depends on the scale of the rows.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from sims._maxmargin_kkt import Rows, newton_solver

TO_THE_BOUNDARY = 0.99


class Iterate(NamedTuple):
    """Interior point: w (N,), u (P,), kappa, slacks s (P,), and the products A w, A^T u."""

    direction: Array
    dual: Array
    margin: Array
    slack: Array
    margins: Array
    image: Array


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

    def slack_change(margins: Array, margin: Array) -> Array:
        return jnp.where(mask, margins - margin - r3, 0.0)

    def longest(dual: Array, slack: Array) -> Array:
        ratios = jnp.maximum(-dual / safe_dual, -slack / point.slack)
        return jnp.minimum(1.0, TO_THE_BOUNDARY / jnp.maximum(jnp.max(ratios), 1e-300))

    mu = jnp.sum(point.dual * point.slack) / count
    affine = solve(r1, r2, jnp.where(mask, r3 - point.slack, 0.0))
    slack = slack_change(affine.margins, affine.margin)
    step = longest(affine.dual, slack)
    ahead = jnp.sum((point.dual + step * affine.dual) * (point.slack + step * slack) * mask)
    sigma = (ahead / count / mu) ** 3
    pull = (sigma * mu - slack * affine.dual) / safe_dual
    change = solve(r1, r2, jnp.where(mask, r3 - point.slack + pull, 0.0))
    slack = slack_change(change.margins, change.margin)
    step = longest(change.dual, slack)
    dual = point.dual + step * change.dual
    return Iterate(
        point.direction + step * change.direction,
        dual,
        point.margin + step * change.margin,
        point.slack + step * slack,
        point.margins + step * change.margins,
        rows.columns @ dual,
    )
