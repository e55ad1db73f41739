"""Mehrotra interior point on the simplex form of the max-margin problem.

min norm(w)^2 / 2 - kappa  s.t.  A w >= kappa;  its dual keeps u in the simplex with w = A^T u. Both
are feasible for every A, separable or not, and nothing depends on the scale of the rows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sims._maxmargin_kkt import Rows, Step, newton_solver

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
