"""Minimises the regularised hinge loss by an interior point, certified by the duality gap."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from sims.erm.smooth import EPSILON, Point, imbalance

# The relative gap is driven this far down; rounding may end it before.
AIM = 1e-12
STEPS = 100
PATIENCE = 6
BACK = 0.995


class _Iterate(NamedTuple):
    """Weights z, dual u, its room s - u, and both bounds' multipliers."""

    weights: Array
    dual: Array
    room: Array
    low: Array
    high: Array


class _State(NamedTuple):
    now: _Iterate
    best: Point
    step: Array
    idle: Array


def minimise(rows: Array, signs: Array, sizes: Array, ridge: Array) -> Point:
    """Minimise the hinge loss of weighted examples plus a ridge.

    The objective is sum_i s_i max(0, 1 - y_i x_i . z) + sum_j ridge_j z_j^2 / 2.

    Args:
        rows: x, entries of size at most 1, shape (P, n).
        signs: y, -1 or 1, shape (P,).
        sizes: s >= 0 of size at most 1, shape (P,).
        ridge: shape (n,); the last may be 0, for the intercept.

    Source: Mehrotra's predictor-corrector method on the dual box 0 <= u <= s.
    """
    there = sizes > 0
    count = jnp.maximum(jnp.sum(there), 1)
    bounds = jnp.where(there, sizes, 1.0)
    # Absent rows pull nowhere.
    columns = (rows * jnp.where(there, signs, 0.0)[:, None]).T
    norm = jnp.linalg.norm(columns)
    free = ridge == 0.0

    def judge(weights: Array, dual: Array) -> Point:
        margins = weights @ columns
        shortfall = 1.0 - margins
        loss = sizes * jnp.maximum(shortfall, 0.0)
        objective = jnp.sum(loss) + 0.5 * jnp.sum(ridge * weights**2)
        size = jnp.linalg.norm(dual)
        noise = EPSILON * size * norm
        heavy, share = imbalance(dual, signs, ridge, noise)
        dual = jnp.where(heavy, (1.0 - share) * dual, dual)
        rest = jnp.linalg.norm(jnp.where(free, 0.0, ridge * weights - columns @ dual)) + noise
        # All parts are sums of terms >= 0, so the gap keeps its digits.
        gap = jnp.sum(jnp.where(there, loss - dual * shortfall, 0.0)) + 0.5 * rest**2 / ridge[0]
        gap += EPSILON * (jnp.sum(dual) + size * norm * jnp.linalg.norm(weights))
        gap = jnp.where(jnp.isfinite(gap), gap, jnp.inf)
        return Point(weights, margins, dual, objective, gap / objective)

    def forward(state: _State) -> _State:
        now = state.now
        inverse_dual, inverse_room = 1.0 / now.dual, 1.0 / now.room
        bend = jnp.where(there, 1.0 / (now.high * inverse_room + now.low * inverse_dual), 0.0)
        scaled = columns * jnp.sqrt(bend)
        matrix = scaled @ scaled.T
        tiny = 1e-15 * jnp.max(jnp.diagonal(matrix))
        factor = jnp.linalg.cholesky(
            matrix + jnp.diag(ridge + jnp.where(free, tiny, 0.0)), symmetrize_input=False
        )
        rest = columns @ now.dual - ridge * now.weights
        off = now.weights @ columns - 1.0 + now.high - now.low

        def move(low_target: Array, high_target: Array) -> _Iterate:
            push = low_target * inverse_dual - high_target * inverse_room - off
            target = columns @ (bend * push) + rest
            weights = jax.scipy.linalg.cho_solve((factor, True), target)
            # Once refined: late matrices hold scales far apart, and the classes must balance.
            lacks = target - columns @ (bend * (weights @ columns)) - ridge * weights
            weights = weights + jax.scipy.linalg.cho_solve((factor, True), lacks)
            dual = bend * (push - weights @ columns)
            low = jnp.where(there, (low_target - now.low * dual) * inverse_dual, 0.0)
            high = jnp.where(there, (high_target + now.high * dual) * inverse_room, 0.0)
            return _Iterate(weights, dual, -dual, low, high)

        def longest(change: _Iterate) -> tuple[Array, Array]:
            ends = []
            for names in (("dual", "room"), ("low", "high")):
                ratios = [
                    jnp.max(jnp.where(there, -getattr(change, n) / getattr(now, n), 0.0))
                    for n in names
                ]
                ends.append(1.0 / jnp.maximum(jnp.maximum(*ratios), 1e-300))
            return ends[0], ends[1]

        low_product, high_product = now.low * now.dual, now.high * now.room
        mean = _mean(low_product + high_product, there, count)
        predicted = move(-low_product, -high_product)
        one, two = (jnp.minimum(1.0, end) for end in longest(predicted))
        ahead = (now.dual + one * predicted.dual) * (now.low + two * predicted.low)
        ahead += (now.room + one * predicted.room) * (now.high + two * predicted.high)
        centre = mean * (_mean(ahead, there, count) / mean) ** 3
        change = move(
            centre - low_product - predicted.low * predicted.dual,
            centre - high_product - predicted.high * predicted.room,
        )
        # One length for all: the weights' residual ties primal and dual together.
        length = jnp.minimum(1.0, BACK * jnp.minimum(*longest(change)))
        new = jax.tree.map(lambda a, b: a + length * b, now, change)
        # u and s - u are carried apart, for the digits of the smaller one.
        dual = jnp.where(there, jnp.minimum(new.dual, bounds), 0.0)
        found = judge(new.weights, dual)
        better = found.certificate < state.best.certificate
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), found, state.best)
        # From W = 0 the gap may grow for a while, before the residuals vanish.
        falls = found.certificate < 0.9 * state.best.certificate
        falls |= state.best.certificate > 1e-6
        idle = jnp.where(falls, 0, state.idle + 1)
        return _State(new, best, state.step + 1, idle)

    def more(state: _State) -> Array:
        return (state.best.certificate > AIM) & (state.step < STEPS) & (state.idle < PATIENCE)

    half = 0.5 * bounds
    start = jnp.zeros(len(ridge))
    now = _Iterate(start, half, half, jnp.ones_like(half), jnp.full_like(half, 2.0))
    state = _State(now, judge(start, jnp.zeros_like(half)), jnp.asarray(0), jnp.asarray(0))
    return lax.while_loop(more, forward, state).best


def _mean(products: Array, there: Array, count: Array) -> Array:
    return jnp.sum(jnp.where(there, products, 0.0)) / (2 * count)
