"""Minimises the regularised hinge loss by an interior point, certified by the duality gap."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

# The relative gap is driven this far down; rounding may end it before.
AIM = 1e-12
# Objectives below this share of their value at W = 0 count as this share in the relative gap.
FLOOR = 1e-9
STEPS = 100
PATIENCE = 6
BACK = 0.995


class Solution(NamedTuple):
    """Weights and dual with the duality gap relative to the objective."""

    weights: Array
    dual: Array
    objective: Array
    gap: Array


class _Iterate(NamedTuple):
    """Weights z, dual u, its room s - u, and both bounds' multipliers."""

    weights: Array
    dual: Array
    room: Array
    low: Array
    high: Array


class _State(NamedTuple):
    now: _Iterate
    best: Solution
    step: Array
    idle: Array


def minimise(rows: Array, sizes: Array, ridge: Array) -> Solution:
    """Minimise the hinge loss of weighted rows plus a ridge.

    The objective is sum_i s_i max(0, 1 - rows_i . z) + sum_j ridge_j z_j^2 / 2.

    Args:
        rows: label-signed rows, shape (P, n); those with s = 0 must be zero.
        sizes: s >= 0, shape (P,).
        ridge: shape (n,); the last may be 0, for the intercept.

    Source: Mehrotra's predictor-corrector method on the dual box 0 <= u <= s.
    """
    there = sizes > 0
    count = jnp.maximum(jnp.sum(there), 1)
    bounds = jnp.where(there, sizes, 1.0)
    # The objective is zero where one class is there and the intercept alone serves it.
    least = FLOOR * jnp.maximum(jnp.sum(sizes), 1e-300)
    free = ridge == 0.0
    safe = jnp.where(free, 1.0, ridge)

    def judge(weights: Array, dual: Array) -> Solution:
        shortfall = 1.0 - rows @ weights
        loss = sizes * jnp.maximum(shortfall, 0.0)
        rest = ridge * weights - rows.T @ dual
        # All three parts are sums of terms >= 0, so the gap keeps its digits.
        gap = jnp.sum(jnp.where(there, loss - dual * shortfall, 0.0))
        gap += 0.5 * jnp.sum(jnp.where(free, 0.0, rest**2 / safe))
        gap += jnp.sum(jnp.where(free, jnp.abs(weights * rest), 0.0))
        objective = jnp.sum(loss) + 0.5 * jnp.sum(ridge * weights**2)
        gap = jnp.where(jnp.isfinite(gap), gap, jnp.inf)
        return Solution(weights, dual, objective, gap / jnp.maximum(objective, least))

    def forward(state: _State) -> _State:
        now = state.now
        inverse_dual, inverse_room = 1.0 / now.dual, 1.0 / now.room
        bend = jnp.where(there, 1.0 / (now.high * inverse_room + now.low * inverse_dual), 0.0)
        scaled = rows * jnp.sqrt(bend)[:, None]
        matrix = scaled.T @ scaled
        tiny = 1e-15 * jnp.max(jnp.diagonal(matrix))
        factor = jnp.linalg.cholesky(
            matrix + jnp.diag(ridge + jnp.where(free, tiny, 0.0)), symmetrize_input=False
        )
        rest = rows.T @ now.dual - ridge * now.weights
        off = rows @ now.weights - 1.0 + now.high - now.low

        def move(low_target: Array, high_target: Array) -> _Iterate:
            push = low_target * inverse_dual - high_target * inverse_room - off
            target = rows.T @ (bend * push) + rest
            weights = jax.scipy.linalg.cho_solve((factor, True), target)
            # Once refined: late matrices hold scales far apart, and the classes must balance.
            lacks = target - rows.T @ (bend * (rows @ weights)) - ridge * weights
            weights = weights + jax.scipy.linalg.cho_solve((factor, True), lacks)
            dual = bend * (push - rows @ weights)
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
        better = found.gap < state.best.gap
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), found, state.best)
        # From W = 0 the gap may grow for a while, before the residuals vanish.
        falls = (found.gap < 0.9 * state.best.gap) | (state.best.gap > 1e-6)
        idle = jnp.where(falls, 0, state.idle + 1)
        return _State(new, best, state.step + 1, idle)

    def more(state: _State) -> Array:
        return (state.best.gap > AIM) & (state.step < STEPS) & (state.idle < PATIENCE)

    half = 0.5 * bounds
    start = jnp.zeros(rows.shape[1])
    now = _Iterate(start, half, half, jnp.ones_like(half), jnp.full_like(half, 2.0))
    state = _State(now, judge(start, jnp.zeros_like(half)), jnp.asarray(0), jnp.asarray(0))
    return lax.while_loop(more, forward, state).best


def _mean(products: Array, there: Array, count: Array) -> Array:
    return jnp.sum(jnp.where(there, products, 0.0)) / (2 * count)
