"""Averages the derivatives of each loss's Moreau envelope over a Gaussian, with their slopes.

M(t; gamma) = min_r loss(r) + (r - t)^2/(2 gamma); t = mean + spread xi, xi ~ N(0, 1).
"""

import jax
import jax.numpy as jnp
import numpy as np

from theory.quadrature import normal_cdf, normal_pdf

Array = jnp.ndarray

NARROW = 12  # nodes where gamma is small against the spread, and closed forms cancel
REACH = 8.5
WIDEST = 3.3  # panel in units of the spread: the 12-point rule errs by 1e-14
BENDS = (-36.0, -20.0, -8.0, -2.0, 2.0, 8.0, 20.0, 36.0)  # the poles lie at +-i pi
NEAR = (-3.5, -2.0, -0.5, 1.5, 3.5)  # of log(step/spread), where the field itself bends
LINEAR = 2.0  # prox step over spread below which it does not
MOST = 256.0  # panels between two marks
ORDER = 12
BLOCK = 4


def gaussian_slopes(
    loss: str, mean: Array, spread: Array, step: Array
) -> tuple[tuple[Array, ...], tuple[tuple[Array, ...], ...]]:
    """Return E M', E M'^2 and E M'', and their slopes by the arguments.

    Args:
        loss: "logistic", "hinge", "squared-hinge", "square", "hard-margin", or "separation", the
            square of what a hyperplane lacks, (-t)_+, without a prox step.
        mean: means of the field, any shape.
        spread: its standard deviation, scalar > 0.
        step: gamma > 0, scalar.
    """
    if loss == "logistic":
        return _logistic(mean, spread, step)
    if loss == "square":
        scale, away = 1 + step, 1 - mean
        zero = jnp.zeros_like(mean)
        e1, e2, e3 = -away / scale, (away**2 + spread**2) / scale**2, zero + 1 / scale
        by_spread = (zero, zero + 2 * spread / scale**2, zero)
        by_step = (-e1 / scale, -2 * e2 / scale, -e3 / scale)
        return (e1, e2, e3), ((e3, 2 * e1 / scale, zero), by_spread, by_step)
    return _kinked(loss, mean, spread, step)


def _kinked(
    loss: str, mean: Array, spread: Array, step: Array
) -> tuple[tuple[Array, ...], tuple[tuple[Array, ...], ...]]:
    """Return the averages and their derivatives for losses with kinks, all in closed form."""
    if loss == "hinge":
        narrow = step < spread
        e1, e2, e3 = jax.lax.cond(narrow, _hinge_narrow, _hinge_wide, mean, spread, step)
        one, two = (1 - mean) / spread, (1 - mean - step) / spread
        full, at_one, at_two = normal_cdf(two), normal_pdf(one), normal_pdf(two)
        edges = (at_two - at_one) / step
        bend = edges / spread
        held = (e3 - at_two / spread) / step
        by_mean = (e3, 2 * (e1 + full) / step, bend)
        by_spread = (edges, 2 * spread * held, (at_two * two - at_one * one) / (step * spread))
        by_step = (-(e1 + full) / step, -2 * (e2 - full) / step, -held)
        return (e1, e2, e3), (by_mean, by_spread, by_step)
    scale = {"squared-hinge": 1 + step, "hard-margin": step}.get(loss, jnp.ones(()))
    kink, moves = (0.0, 0.0) if loss == "separation" else (1.0, 1.0)
    arm = (kink - mean) / spread
    below, at = normal_cdf(arm), normal_pdf(arm)
    e1 = -spread * (arm * below + at) / scale
    e2 = spread**2 * ((arm**2 + 1) * below + arm * at) / scale**2
    e3 = below / scale
    edge = -at / scale
    by_mean = (e3, 2 * e1 / scale, edge / spread)
    by_spread = (edge, 2 * spread * e3 / scale, arm * edge / spread)
    by_step = (-moves * e1 / scale, -2 * moves * e2 / scale, -moves * e3 / scale)
    return (e1, e2, e3), (by_mean, by_spread, by_step)


def _hinge_wide(mean: Array, spread: Array, step: Array) -> tuple[Array, ...]:
    one, two = (1 - mean) / spread, (1 - mean - step) / spread
    # Beyond the second kink the slack is complete: what is left to it is a small tail.
    deep = two > 0
    phi_one, phi_two = normal_pdf(one), normal_pdf(two)
    cdf_one, cdf_two = normal_cdf(one), normal_cdf(two)
    tail_one, tail_two = normal_cdf(-one), normal_cdf(-two)
    first_one, first_two = one * cdf_one + phi_one, two * cdf_two + phi_two
    rest_one, rest_two = phi_one - one * tail_one, phi_two - two * tail_two
    width = step / spread
    first = jnp.where(deep, width + rest_one - rest_two, first_one - first_two)
    square_one = (one**2 + 1) * cdf_one + one * phi_one
    square_two = (two**2 + 1) * cdf_two + two * phi_two
    left_one = (one**2 + 1) * tail_one - one * phi_one
    left_two = (two**2 + 1) * tail_two - two * phi_two
    second = jnp.where(
        deep,
        width**2 - left_one + left_two - 2 * width * rest_two,
        square_one - square_two - 2 * width * first_two,
    )
    third = jnp.where(deep, tail_two - tail_one, cdf_one - cdf_two)
    return -first / width, second / width**2, third / step


def _hinge_narrow(mean: Array, spread: Array, step: Array) -> tuple[Array, ...]:
    points, weights = np.polynomial.legendre.leggauss(NARROW)
    share, mass = (points + 1) / 2, weights / 2
    full = normal_cdf((1 - mean - step) / spread)
    at = normal_pdf((1 - mean[..., None] - share * step) / spread) * (step / spread)
    found = at @ jnp.asarray(np.stack([share * mass, share**2 * mass, mass], axis=-1))
    return -full - found[..., 0], full + found[..., 1], found[..., 2] / step


def logistic_prox(t: Array, step: Array) -> Array:
    """Return the minimiser r of log(1 + e^-r) + (r - t)^2/(2 step)."""
    level = jnp.log(step) - t
    w = jnp.where(level > 1, level, jnp.exp(jnp.minimum(level, 1.0)))
    for _ in range(4):
        w = jnp.maximum(w * (1 + level - jnp.log(jnp.maximum(w, 1e-300))) / (1 + w), 1e-300)
    high = t + step / 2 > 0
    r = jnp.where(high, jnp.maximum(0.0, t + w), jnp.minimum(0.0, t + step))

    def newton(_: int, r: Array) -> Array:
        chance = jax.nn.sigmoid(-r)
        return r - (r - step * chance - t) / (1 + step * chance * (1 - chance))

    return jax.lax.fori_loop(0, 9, newton, r)


def bends(step: Array, spread: Array) -> Array:
    """Return ends of panels in r = prox(t) where the logistic loss bends.

    Args:
        step: the prox step gamma > 0, scalar.
        spread: the scale of the field t, > 0.
    """
    unit = jnp.maximum(spread, 1.0)
    near = jnp.where(step > LINEAR * unit, jnp.log(step / unit) + jnp.asarray(NEAR), 0.0)
    return jnp.concatenate([jnp.asarray(BENDS), near, -near])


def _logistic(
    mean: Array, spread: Array, step: Array
) -> tuple[tuple[Array, ...], tuple[tuple[Array, ...], ...]]:
    """Average over r = prox(t) in place of t, where every function is explicit.

    All means share the nodes, so that what depends on r alone is computed once for them.
    """
    flat = mean.ravel()
    low, high = jnp.min(flat) - REACH * spread, jnp.max(flat) + REACH * spread
    # Panels in t no wider than the Gaussian allows, between the marks where the loss bends.
    marks = bends(step, spread)
    marks = jnp.clip(marks - step * jax.nn.sigmoid(-marks), low, high)
    ends = jnp.sort(jnp.concatenate([marks, jnp.stack([low, high])]))
    cells = jnp.diff(ends)
    counts = jnp.minimum(jnp.ceil(cells / (WIDEST * spread)), MOST)
    sizes = cells / jnp.maximum(counts, 1.0)
    after = jnp.cumsum(counts)
    points, weights = np.polynomial.legendre.leggauss(ORDER)

    def add(state: tuple[Array, Array]) -> tuple[Array, Array]:
        first, sums = state
        index = first + jnp.arange(BLOCK, dtype=jnp.float64)
        cell = jnp.minimum(jnp.sum(after <= index[:, None], axis=-1), len(cells) - 1)
        place = index - (after - counts)[cell]
        left = ends[cell] + sizes[cell] * place
        right = jnp.where(place + 1 < counts[cell], left + sizes[cell], ends[cell + 1])
        left = jnp.where(index < after[-1], left, right)
        bottom, top = logistic_prox(jnp.stack([left, right]), step)
        half, middle = (top - bottom) / 2, (top + bottom) / 2
        r = (middle[:, None] + half[:, None] * points).ravel()
        chance = jax.nn.sigmoid(-r)
        bend = chance * (1 - chance)
        rate = 1 + step * bend  # dt/dr
        tilt = 1 - 2 * chance
        second, third = bend / rate, -bend * tilt / rate**3
        curl = bend * tilt**2 - 2 * bend**2
        fourth = (curl * rate - 3 * step * (bend * tilt) ** 2) / rate**5
        columns = jnp.stack(
            [
                -chance,
                chance**2,
                second,
                -chance * second,
                chance**2 * second,
                third,
                second**2 - chance * third,
                fourth,
            ],
            axis=-1,
        )
        mass = (half[:, None] * weights).ravel() * rate / spread
        arms = (r - step * chance - flat[:, None]) / spread
        return first + BLOCK, sums + normal_pdf(arms) @ (mass[:, None] * columns)

    start = (jnp.zeros(()), jnp.zeros((len(flat), 8)))
    sums = jax.lax.while_loop(lambda state: state[0] < after[-1], add, start)[1]
    found = sums.T.reshape(8, *mean.shape)
    e1, e2, e3, mixed, squared, third, turned, fourth = found
    by_mean = (e3, 2 * mixed, third)
    # The heat equation gives the slopes by the spread.
    by_spread = (spread * third, 2 * spread * turned, spread * fourth)
    by_step = (-mixed, -2 * squared, -turned)
    return (e1, e2, e3), (by_mean, by_spread, by_step)


def bare_envelope(loss: str, t: Array, step: Array) -> tuple[Array, Array, Array]:
    """Return M', M'' and the minimiser at the fields t.

    The loss is not the logistic one, whose minimiser is no closed form.
    """
    slack = -t if loss == "separation" else 1 - t
    if loss == "square":
        return -slack / (1 + step), jnp.ones_like(t) / (1 + step), (t + step) / (1 + step)
    inside = slack > 0
    if loss == "squared-hinge":
        force = jnp.where(inside, -slack / (1 + step), 0.0)
        return force, inside / (1 + step), jnp.where(inside, (t + step) / (1 + step), t)
    if loss in ("hard-margin", "separation"):
        return jnp.where(inside, -slack / step, 0.0), inside / step, t + jnp.maximum(slack, 0.0)
    assert loss == "hinge"
    held = inside & (slack < step)
    force = jnp.where(inside, -jnp.minimum(slack / step, 1.0), 0.0)
    return force, held / step, jnp.where(inside, jnp.minimum(t + step, 1.0), t)


def bare_loss(loss: str, t: Array) -> Array:
    """Return the loss at the margins t.

    A hard margin is judged by the hinge loss.
    """
    if loss == "logistic":
        return jax.nn.softplus(-t)
    slack = 1 - t if loss == "square" else jnp.maximum(1 - t, 0.0)
    return slack if loss in ("hinge", "hard-margin", "separation") else slack**2 / 2
